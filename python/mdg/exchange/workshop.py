"""Where envelopes are made: a few at a time, for callers who wait a while and may come back.

A caller who has waited PATIENCE is told to come back (503), and the work goes on; whoever asks for the same thing gets
the same work. What is in the making belongs to this process: after a restart it is simply asked for again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import anyio
import structlog
from anyio.abc import TaskGroup

from mdg.access import Clock
from mdg.errors import Conflict, MdgError, Problem, Refused, Throttled, Unavailable, Unprocessable, Unsupported
from mdg.exchange.envelopes import Envelope, Envelopes

PATIENCE = 30.0
"""Seconds that a caller waits for an envelope before it is told to come back (spec/fhir 5)."""
AT_ONCE = 2
"""Envelopes made at the same time: each keeps a core and a disk busy."""
WAITING = 32
"""Envelopes that may wait to be made; more are refused with 429 (spec/hostile-input D14)."""
WAITING_EACH = 8
"""Those of one requester, finished ones that it has not come back for included: nobody shuts the others out."""
KEPT = 300.0
"""Seconds that finished work waits for the caller who was told to come back: as long as a request lives."""
SWEEP = 60.0
"""Seconds between two looks for spools that have lapsed."""

log = structlog.get_logger("mdg.workshop")


@dataclass(slots=True)
class _Job:
    """An envelope in the making, shared by all who wait for it. `since`: when it was done, on anyio's clock."""

    owner: object
    done: anyio.Event = field(default_factory=anyio.Event)
    since: float = float("inf")
    made: Envelope | None = None
    error: Exception | None = None


class Workshop:
    """The workers of one gateway; enter it for them to run."""

    def __init__(self, envelopes: Envelopes, clock: Clock, patience: float = PATIENCE) -> None:
        self._envelopes = envelopes
        self._clock = clock
        self.patience = patience
        self._jobs: dict[object, _Job] = {}
        self._limit = anyio.CapacityLimiter(AT_ONCE)
        self._workers: TaskGroup | None = None

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Self]:
        """Runs the workers and the sweep of lapsed spools until it is left; unfinished work is dropped then."""
        await self._envelopes.sweep(self._clock(), starting=True)
        async with anyio.create_task_group() as workers:
            self._workers = workers
            workers.start_soon(self._sweep)
            try:
                yield self
            finally:
                self._workers = None
                workers.cancel_scope.cancel()

    @property
    def making(self) -> int:
        """How many envelopes are being made, or wait for it."""
        return sum(not job.done.is_set() for job in self._jobs.values())

    async def made(self, key: object, owner: object, make: Callable[[], Awaitable[Envelope]]) -> Envelope:
        """The envelope that `make` makes for `owner`; `key` says when two callers want the same one.

        `Unavailable` when it is not ready in time, `Throttled` when too many are waited for, `Conflict` when a file is
        no longer what was indexed, `Unprocessable` when the study cannot be packed.
        """
        job = self._jobs.get(key)
        if job is None:
            if self._workers is None:
                raise Unavailable(reason="stopping")
            theirs = sum(job.owner == owner for job in self._jobs.values())
            if len(self._jobs) >= AT_ONCE + WAITING or theirs >= WAITING_EACH:
                raise Throttled("many envelopes are being made; try again later", headers={"Retry-After": "30"})
            job = self._jobs[key] = _Job(owner)
            self._workers.start_soon(self._work, job, make)
        with anyio.move_on_after(self.patience):
            await job.done.wait()
        if not job.done.is_set():
            raise Unavailable("the envelope is being made; repeat the request", reason="not-ready", retry_after=10)
        self._jobs.pop(key, None)
        if job.made is not None:
            return job.made
        raise job.error or Unavailable(reason="stopping")

    async def _work(self, job: _Job, make: Callable[[], Awaitable[Envelope]]) -> None:
        try:
            async with self._limit:
                job.made = await make()
        except Exception as error:
            job.error = _told(error)
        finally:
            job.since = anyio.current_time()
            job.done.set()

    async def _sweep(self) -> None:
        """Erases lapsed spools, and forgets finished work that nobody came back for."""
        while True:
            await anyio.sleep(SWEEP)
            try:
                await self._envelopes.sweep(self._clock())
            except MdgError as error:  # tried again at the next look; a spool that only grows needs an operator
                log.error("spool not swept", why=str(error))
            forgotten = [key for key, job in self._jobs.items() if job.since + KEPT < anyio.current_time()]
            for key in forgotten:
                del self._jobs[key]


def _told(error: Exception) -> Problem:
    """What those who wait are told. Whatever it was belongs to them, not to the other jobs."""
    match error:
        case Problem():
            return error
        case Refused(code="E_STORE_CORRUPT" | "E_CHANGED" as code):
            told: Problem = Conflict("a file of the study has changed since it was indexed", reason=code)
        case Refused(code=code):
            told = Unprocessable(f"the study cannot be put into an envelope: {code}", reason=code)
        case Unsupported():
            told = Unprocessable("a file of the study has an encoding that no envelope carries", reason="unsupported")
        case _:
            told = Unavailable("the envelope could not be made", reason=f"pack-{type(error).__name__}")
    told.__cause__ = error
    return told
