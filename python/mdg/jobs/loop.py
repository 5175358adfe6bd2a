"""The one loop that does jobs: it claims what is due, runs the handler of its kind, and keeps what became of it.

A handler may run twice: its process may be killed after the work and before the end is kept. A change that must happen
once is therefore written by `Done.keep`, in the transaction that ends the job, or is guarded by rows of the handler's
own room.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from socket import gethostname
from typing import TypeAlias

import anyio
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import Conflict, MdgError, Problem, Unavailable, reason, where
from mdg.jobs import table
from mdg.jobs.retry import OUTAGE, delay, wait
from mdg.jobs.table import LEASE, Job, LeaseLost, New, State
from mdg.model.identity import HpiO
from mdg.store import Store

LOOK = 1.0
"""Seconds between two looks at the table: for what another process wrote, and what becomes due by the clock alone."""
FORGET, FORGOTTEN = "forget-jobs", timedelta(hours=1)
"""The kind of job that removes rows of jobs that ended long ago, and the time between two."""
RENEW = LEASE / 3
"""Between two renewals of the leases of this process."""

Keep: TypeAlias = Callable[[AsyncConnection], Awaitable[object]]
"""Writes in the transaction that keeps the end of a try. It only uses the connection it gets."""


Made: TypeAlias = Callable[[AsyncConnection], Awaitable[bool]]
"""Whether the work of a job is there already, as the transaction of the connection sees it."""


class Full(Exception):
    """So many jobs of a kind are open that no more may wait."""


Also: TypeAlias = Callable[[AsyncConnection, Job], Awaitable[object]]
"""What is written in the transaction of an operator's change: its audit record."""


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done, and `keep` is written with that."""

    keep: Keep | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The try succeeded, and the same job has more to do `after` a while."""

    after: timedelta = timedelta()
    keep: Keep | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The try failed. `error` is a short code, `why` a sentence without identifiers of people. The next try comes after
    the usual delay, or after `asked` if the destination asked for more time; after a `final` try there is no other."""

    error: str
    why: str = ""
    asked: timedelta | None = None
    final: bool = False
    keep: Keep | None = None


Result: TypeAlias = Done | Again | Failed
Handler: TypeAlias = Callable[[Job], Awaitable[Result | None]]
"""Does a job. None is `Done()`. What a handler raises is a try that failed; `Unavailable` means that no other job of
this kind can be done now either."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job and how this process does it.

    `at_once` jobs run at the same time in this process, `each` of one lane; up to `ahead` more are claimed with them
    and wait in order, which spares short jobs a transaction each. After `tries` the job has failed; without the number
    it is tried for ever. With `every` there is always one job of this kind, done again after that time.
    """

    name: str
    handler: Handler
    at_once: int = 1
    each: int | None = None
    ahead: int = 0
    tries: int | None = None
    every: timedelta | None = None


@dataclass(eq=False, slots=True)
class _Outage:
    """A kind whose jobs cannot be done now: until when it waits, why, and how often that was so in a row."""

    until: datetime
    error: Unavailable
    failures: int = 0


log = structlog.get_logger("mdg.jobs")


def utc_now() -> datetime:
    """The time by the clock of the machine."""
    return datetime.now(UTC)


class Jobs:
    """The jobs of one custodian: written, waited for, and done by this process as far as it has their kinds."""

    def __init__(self, store: Store, custodian: HpiO, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._custodian = custodian
        self._clock = clock
        self._owner = f"{gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._kinds: dict[str, Kind] = {}
        self._running: dict[int, tuple[Job, anyio.CancelScope]] = {}
        self._limits: dict[str, anyio.CapacityLimiter] = {}
        self._outages: dict[str, _Outage] = {}
        self._chance = secrets.SystemRandom().random
        self._bell = anyio.Event()
        self._looked = anyio.Event()
        store.listen(self._ring)
        self.do(Kind(FORGET, self._forget, every=FORGOTTEN))

    def do(self, *kinds: Kind) -> None:
        """Has this process do jobs of these kinds, from its next look on."""
        for kind in kinds:
            self._kinds[kind.name] = kind
            self._limits[kind.name] = anyio.CapacityLimiter(kind.at_once)

    # --- writing and waiting ---

    async def add(self, connection: AsyncConnection, *new: New) -> None:
        """Writes jobs in the caller's transaction."""
        await table.add(connection, self._custodian, new, self._clock())

    async def once(self, new: New, *, most: int, each: int, unless: Made | None = None) -> Job | None:
        """The open job of this kind and key, written if there is none, or None if `unless` says, in the transaction
        that would write it, that its work is there already. `Full` if `most` of the kind, or `each` of the lane, are
        open."""

        async def write(connection: AsyncConnection) -> Job | None:
            found = await table.find_open(connection, self._custodian, new.kind, new.key)
            if found is not None:
                return found
            if unless is not None and await unless(connection):
                return None
            if await table.count_open(connection, self._custodian, new.kind) >= most:
                raise Full
            if await table.count_open(connection, self._custodian, new.kind, new.lane) >= each:
                raise Full
            await self.add(connection, new)
            return await table.find_open(connection, self._custodian, new.kind, new.key)

        return await self._store.write(write)

    async def ended(self, id_: int, patience: float) -> Job | None:
        """The job once it has ended, in whichever process; None when it is open still after `patience` seconds."""
        with anyio.move_on_after(patience):
            while True:
                looked = self._looked
                async with self._store.read() as connection:
                    job = await table.find(connection, self._custodian, id_)
                if job is None or not job.open:
                    return job
                with anyio.move_on_after(LOOK):
                    await looked.wait()
        return None

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many jobs there are of each kind, in each state."""
        async with self._store.read() as connection:
            return await table.counts(connection, self._custodian)

    async def listed(
        self, *, states: Collection[State], kind: str | None = None, before: int | None = None, most: int
    ) -> list[Job]:
        """Jobs in these states, the newest first, with numbers below `before`."""
        async with self._store.read() as connection:
            return await table.listed(connection, self._custodian, states=states, kind=kind, before=before, most=most)

    async def find(self, id_: int) -> Job | None:
        """The job of this number."""
        async with self._store.read() as connection:
            return await table.find(connection, self._custodian, id_)

    async def retry(self, id_: int, also: Also) -> Job:
        """Has a job tried now, together with the record that `also` writes. Errors as of `table.retry`."""
        return await self._change(table.retry, id_, also)

    async def cancel(self, id_: int, also: Also) -> Job:
        """Has a job not done, together with the record that `also` writes. Errors as of `table.cancel`; `Conflict` for
        one that is done again and again: nobody would write it anew before the next start."""

        async def cancel(connection: AsyncConnection, of: HpiO, id_: int, now: datetime) -> Job:
            job = await table.cancel(connection, of, id_, now)
            kind = self._kinds.get(job.kind)
            if kind is not None and kind.every is not None:
                raise Conflict("this job is done again and again, and cannot be cancelled", reason="periodic")
            return job

        return await self._change(cancel, id_, also)

    async def _change(
        self, change: Callable[[AsyncConnection, HpiO, int, datetime], Awaitable[Job]], id_: int, also: Also
    ) -> Job:
        async def work(connection: AsyncConnection) -> Job:
            job = await change(connection, self._custodian, id_, self._clock())
            await also(connection, job)
            return job

        return await self._store.write(work)

    # --- doing ---

    async def run(self) -> None:
        """Does jobs until it is cancelled. What it was doing then is given back, for another process or the next start
        to do at once."""
        begun = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch)
                while True:
                    self._bell = bell = anyio.Event()
                    try:
                        if not begun:
                            await self._begin()
                            begun = True
                        for job in await self._claim(list(self._kinds)):
                            tasks.start_soon(self._do, job)
                    except Exception as error:  # a fault of ours must not end the gateway
                        log.warning("jobs not read", reason=reason(error), where=where(error), again_in_s=LOOK)
                    with anyio.move_on_after(LOOK):
                        await bell.wait()
        finally:
            with anyio.move_on_after(5, shield=True):
                await self._give_back()

    async def round(self, *kinds: str) -> None:
        """Does the jobs of these kinds that are due now, and those that become due by that, then returns."""
        while jobs := await self._claim(kinds):
            async with anyio.create_task_group() as tasks:
                for job in jobs:
                    tasks.start_soon(self._do, job)

    async def _begin(self) -> None:
        """Frees what an earlier process of this gateway was doing when it was killed, if there can be no other process
        now, and sees to it that there is a job of each kind that is done periodically."""

        async def begin(connection: AsyncConnection) -> None:
            if not self._store.shared:
                await table.release(connection, self._custodian, None, self._clock())
            await self.add(connection, *(New(kind.name, "") for kind in self._kinds.values() if kind.every is not None))

        await self._store.write(begin)

    async def _claim(self, kinds: Sequence[str]) -> list[Job]:
        """Takes jobs for the free places of these kinds."""
        now = self._clock()
        free = {name: places for name in kinds if (places := self._places(name, now)) > 0}
        async with self._store.read() as connection:
            due = await table.due_kinds(connection, self._custodian, free, now)
        if not due:
            return []

        async def take(connection: AsyncConnection) -> list[Job]:
            taken: list[Job] = []
            for name in due:
                lanes = Counter(job.lane for job, _ in self._running.values() if job.kind == name)
                taken += await table.claim(
                    connection,
                    self._custodian,
                    name,
                    self._owner,
                    now,
                    most=free[name],
                    each=self._kinds[name].each,
                    busy=lanes,
                    but=self._running,
                )
            return taken

        claimed = await self._store.write(take)
        for job in claimed:  # from here on, so that a job which has not begun yet counts, and its lease is renewed
            self._running[job.id] = job, anyio.CancelScope()
        return claimed

    def _places(self, name: str, now: datetime) -> int:
        """How many jobs of a kind may be taken now. After an outage one job asks for all."""
        outage, kind = self._outages.get(name), self._kinds[name]
        most = kind.at_once + kind.ahead if outage is None else 1
        busy = sum(job.kind == name for job, _ in self._running.values())
        if self._waits(name, now) or (kind.ahead and busy > most // 2):  # so that they are claimed in batches
            return 0
        return most - busy

    def _waits(self, name: str, now: datetime) -> bool:
        outage = self._outages.get(name)
        return outage is not None and now < outage.until <= now + OUTAGE

    async def _do(self, job: Job) -> None:
        """One try, and what became of it. Only the end of the process, or a lost lease, ends it otherwise."""
        _, scope = self._running[job.id]
        try:
            with scope:
                async with self._limits[job.kind]:
                    await self._keep(job, await self._outcome(job))
        except LeaseLost:
            log.warning("job lost", kind=job.kind, job=job.id)
        except Exception as error:  # mostly the store: the job is done again when its lease has ended
            log.warning("job not kept", kind=job.kind, job=job.id, reason=reason(error), where=where(error))
        finally:
            self._running.pop(job.id, None)
            self._looked.set()
            self._looked = anyio.Event()
            self._ring()

    async def _outcome(self, job: Job) -> Result:
        if self._waits(job.kind, self._clock()):  # one that was claimed with this one has found out
            return self._unavailable(job, self._outages[job.kind].error)
        try:
            outcome = await self._kinds[job.kind].handler(job) or Done()
        except Unavailable as error:
            return self._unavailable(job, error)
        except Exception as error:
            return self._failed(job, error)
        self._outages.pop(job.kind, None)
        return outcome

    def _failed(self, job: Job, error: Exception) -> Failed:
        self._outages.pop(job.kind, None)  # it was this job's own fault
        log.warning("job failed", kind=job.kind, job=job.id, reason=reason(error), where=where(error))
        return Failed(reason(error), error.diagnostics if isinstance(error, Problem) else where(error))

    def _unavailable(self, job: Job, error: Unavailable) -> Failed:
        now = self._clock()
        outage = self._outages.setdefault(job.kind, _Outage(now, error))
        if outage.until <= now:  # of several that fail together the first counts
            outage.failures += 1
            pause = min(wait(outage.failures), OUTAGE)
            outage.until = now + pause
            seconds = int(pause.total_seconds())
            tell = log.warning if outage.failures > 1 else log.debug  # a few seconds need nobody's look
            tell("jobs wait", kind=job.kind, reason=error.reason, where=where(error), again_in_s=seconds)
        return Failed(error.reason, error.diagnostics)

    async def _keep(self, job: Job, outcome: Result) -> None:
        """Writes the end of the try and what goes with it. If a fault of ours prevents that, the try failed."""
        now = self._clock()

        async def keep(connection: AsyncConnection) -> None:
            await self._end(connection, job, outcome, now)
            if outcome.keep is not None:
                await outcome.keep(connection)

        try:
            await self._store.write(keep)
        except (LeaseLost, Unavailable):
            raise
        except Exception as error:
            failed = self._failed(job, error)
            await self._store.write(lambda connection: self._end(connection, job, failed, now))

    async def _end(self, connection: AsyncConnection, job: Job, outcome: Result, now: datetime) -> None:
        match outcome:
            case Done():
                await table.end(connection, job, now)
            case Again(after=after):
                await table.again(connection, job, now, after)
            case Failed(error=error, why=why):
                outage, most = self._outages.get(job.kind), self._kinds[job.kind].tries
                last = outcome.final or (outage is None and most is not None and job.tries >= most)
                after = delay(job.tries, self._chance(), outcome.asked) if outage is None else outage.until - now
                due = None if last else now + max(after, timedelta())
                await table.fail(connection, job, now, error=error, why=why, due=due, counts=outage is None)

    async def _watch(self) -> None:
        """Looks after what this process is doing: renews its leases, and stops what it no longer holds. If no lease
        could be renewed for as long as one lasts, all is stopped: another process may be doing it by then."""
        renewed = anyio.current_time()
        while True:
            await anyio.sleep(LOOK)
            ids, now = list(self._running), anyio.current_time()
            try:
                if not ids:
                    renewed = now
                elif now - renewed >= RENEW.total_seconds():
                    await self._store.write(partial(table.renew, owner=self._owner, ids=ids, now=self._clock()))
                    renewed = now
                self._stop(ids, but=await self._held() if ids else ids)
            except Exception as error:
                log.warning("leases not renewed", reason=reason(error), where=where(error))
                if anyio.current_time() - renewed > LEASE.total_seconds():
                    self._stop(ids, but=[])

    async def _held(self) -> set[int]:
        async with self._store.read() as connection:
            return await table.held(connection, self._owner)

    def _stop(self, ids: Collection[int], *, but: Collection[int]) -> None:
        for id_ in ids:
            if id_ in self._running and id_ not in but:
                self._running[id_][1].cancel()

    async def _forget(self, _: Job) -> Result:
        return Again(FORGOTTEN, partial(table.forget, of=self._custodian, now=self._clock()))

    async def _give_back(self) -> None:
        try:
            release = partial(table.release, of=self._custodian, owner=self._owner, now=self._clock())
            await self._store.write(release)
        except MdgError:
            return  # the store is gone: the leases end by themselves

    def _ring(self) -> None:
        self._bell.set()
