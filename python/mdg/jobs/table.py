"""The table of jobs: what still has to be done, and what became of it.

A row is written in the transaction of its cause, so work is owed exactly when its cause is kept. A process that does a
job holds a lease on the row: it renews the lease while it works, and a lease that has ended may be taken by another
process. Every change of a row under a lease names its holder, so a process that lost a lease keeps nothing.

Writing transactions exclude each other on both databases (`mdg.store`), so no statement here locks rows.
Payloads may hold identifiers of people; kind, key, `about`, error code and `why` never do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Row,
    Table,
    Text,
    and_,
    case,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import Conflict, NotFound
from mdg.jobs.retry import LONGEST
from mdg.model.identity import HpiO
from mdg.store import announce
from mdg.store.schema import Document, Number, metadata, microseconds, moment
from mdg.store.schema import custodian as custodian_column

LEASE = timedelta(seconds=30)
"""How long a job of a process that was killed stays untouched. Clocks of processes that share a database must agree to
within a part of it."""
KEPT_DONE, KEPT_FAILED = timedelta(days=1), timedelta(days=30)
"""How long jobs that are done, and jobs that failed or were cancelled, can still be looked up."""


class State(StrEnum):
    """Where a job stands. Waiting and running jobs are open."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OPEN = text("state IN ('waiting', 'running')")

jobs = Table(
    "jobs",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    custodian_column(key=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("payload", Document, nullable=False),
    Column("state", Text, nullable=False),
    Column("again", Number, nullable=False),
    Column("due", Number, nullable=False),
    Column("tries", Number, nullable=False),
    Column("owner", Text),
    Column("lease", Number),
    Column("error", Text),
    Column("why", Text),
    Column("created", Number, nullable=False),
    Column("finished", Number),
    Index("ix_jobs_open", "custodian", "kind", "key", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index(None, "custodian", "state", "kind", "due"),
    sqlite_autoincrement=True,  # an operator's number never means another job
)
"""`key` says which work it is: a kind has one open job of a key. `about` names it for an operator, `lane` those whose
jobs wait for each other. `again` is 1 when the same work was asked for while it ran. `owner` is the process that
runs it until `lease`, or ran it last: host, process id, random. `tries` counts those since the last success; `error`
and `why` are of the last one that failed."""


@dataclass(frozen=True, slots=True)
class New:
    """A job to be written. `about` is `key` unless said. It is due at once unless `due` (UTC) says otherwise.

    If a job of this kind and key is open already, none is added: one that waits becomes due at `due`, if `hasten` and
    that is earlier; one that runs is done once more."""

    kind: str
    key: str
    about: str = ""
    lane: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    due: datetime | None = None
    hasten: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the table. Times are UTC."""

    id: int
    kind: str
    key: str
    about: str
    lane: str
    payload: Mapping[str, Any] = field(repr=False)
    state: State
    due: datetime
    tries: int
    owner: str | None
    error: str | None
    why: str | None
    created: datetime
    finished: datetime | None

    @property
    def open(self) -> bool:
        """Whether it still has to be done."""
        return self.state in (State.WAITING, State.RUNNING)


class LeaseLost(Exception):
    """The job is no longer this process's: its lease ended, or an operator cancelled it."""


async def add(connection: AsyncConnection, of: HpiO, new: Sequence[New], now: datetime) -> None:
    """Writes jobs in the caller's transaction. Their loop in this process hears of it when that is committed, a loop of
    another process at its next look."""
    if not new:
        return
    rows = [
        {
            "custodian": of,
            "kind": one.kind,
            "key": one.key,
            "about": one.about or one.key,
            "lane": one.lane,
            "payload": dict(one.payload),
            "state": State.WAITING,
            "again": 0,
            "due": microseconds(one.due or now),
            "tries": 0,
            "created": microseconds(now),
        }
        for one in new
    ]
    for hasten in {one.hasten for one in new}:
        some = [row for row, one in zip(rows, new, strict=True) if one.hasten == hasten]
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        adding = insert(jobs)
        due = case((jobs.c.due > adding.excluded.due, adding.excluded.due), else_=jobs.c.due) if hasten else jobs.c.due
        changed = {"again": case((jobs.c.state == State.RUNNING, 1), else_=0), "due": due}
        once = adding.on_conflict_do_update(
            index_elements=["custodian", "kind", "key"], index_where=_OPEN, set_=changed
        )
        await connection.execute(once, some)
    announce(connection)


async def claim(
    connection: AsyncConnection,
    of: HpiO,
    kind: str,
    owner: str,
    now: datetime,
    *,
    most: int,
    each: int | None = None,
    busy: Mapping[str, int] | None = None,
    but: Collection[int] = (),
) -> list[Job]:
    """Takes up to `most` jobs of `kind` that may be done now, those that have waited longest first, under a lease for
    `owner`. If `each` is given, a lane has at most so many at once; `busy` says how many it has in this process
    already. `but` are the jobs that this process is doing: they are not taken from itself."""
    may = (jobs.c.custodian == of, jobs.c.kind == kind, _may_be_done(now), jobs.c.id.not_in(list(but)))
    order = (jobs.c.due, jobs.c.id)
    if each is None:
        ids = list((await connection.execute(select(jobs.c.id).where(*may).order_by(*order).limit(most))).scalars())
    else:
        place = func.row_number().over(partition_by=jobs.c.lane, order_by=order)
        waiting = select(jobs.c.id, jobs.c.lane, jobs.c.due, place.label("place")).where(*may).subquery()
        statement = select(waiting).where(waiting.c.place <= each).order_by(waiting.c.due, waiting.c.id)
        taken = busy or {}
        rows = (await connection.execute(statement)).all()
        ids = [row.id for row in rows if row.place + taken.get(row.lane, 0) <= each][:most]
    if not ids:
        return []
    lease = {"state": State.RUNNING, "owner": owner, "lease": microseconds(now + LEASE), "again": 0}
    taking = update(jobs).where(jobs.c.id.in_(ids)).values(**lease, tries=jobs.c.tries + 1)
    return sorted((_job(row) for row in await connection.execute(taking.returning(jobs))), key=lambda job: job.id)


async def due_kinds(connection: AsyncConnection, of: HpiO, kinds: Collection[str], now: datetime) -> list[str]:
    """Which of `kinds` have a job that may be done now."""
    found = []
    for kind in kinds:  # one look each into the index: the kinds are few, their jobs may be many
        wanted = select(jobs.c.id).where(jobs.c.custodian == of, jobs.c.kind == kind, _may_be_done(now)).limit(1)
        if (await connection.execute(wanted)).first() is not None:
            found.append(kind)
    return found


async def renew(connection: AsyncConnection, owner: str, ids: Collection[int], now: datetime) -> None:
    """Makes the leases of these jobs last from now, as far as they are the owner's still."""
    mine = and_(jobs.c.id.in_(list(ids)), _held_by(owner))
    await connection.execute(update(jobs).where(mine).values(lease=microseconds(now + LEASE)))


async def held(connection: AsyncConnection, owner: str) -> set[int]:
    """The jobs that `owner` holds."""
    return set((await connection.execute(select(jobs.c.id).where(_held_by(owner)))).scalars())


async def release(connection: AsyncConnection, of: HpiO, owner: str | None, now: datetime) -> None:
    """Gives back what `owner` holds, or what everybody holds, to be done at once: by a process that stops, or by one
    that knows that it is alone."""
    whose = and_(jobs.c.custodian == of, jobs.c.state == State.RUNNING) if owner is None else _held_by(owner)
    back = {"state": State.WAITING, "lease": None, "due": microseconds(now)}
    await connection.execute(update(jobs).where(whose).values(back))


async def end(connection: AsyncConnection, job: Job, now: datetime) -> None:
    """The job is done; one that was asked for again while it ran waits to be done once more. `LeaseLost`."""
    asked = jobs.c.again == 1
    values = {
        "state": case((asked, State.WAITING), else_=State.DONE),
        "due": microseconds(now),
        "tries": case((asked, 0), else_=jobs.c.tries),
        "finished": case((asked, None), else_=microseconds(now)),
        "error": None,
        "why": None,
    }
    await _leave(connection, job, values)


async def again(connection: AsyncConnection, job: Job, now: datetime, after: timedelta) -> None:
    """The try succeeded, and the same job has more to do after a while, or now if it was asked for. `LeaseLost`."""
    due = case((jobs.c.again == 1, microseconds(now)), else_=microseconds(now + after))
    values = {"state": State.WAITING, "due": due, "tries": 0, "error": None, "why": None}
    await _leave(connection, job, values)


async def fail(
    connection: AsyncConnection, job: Job, now: datetime, *, error: str, why: str, due: datetime | None, counts: bool
) -> None:
    """The try failed. The next try is at `due`; without `due` the job has failed for good. Unless it `counts`, the try
    is not counted: a service that the job needs was away. `LeaseLost`."""
    values: dict[str, Any] = {"error": error, "why": why, "state": State.FAILED, "finished": microseconds(now)}
    if not counts:
        values["tries"] = jobs.c.tries - 1
    if due is not None:
        values |= {"state": State.WAITING, "finished": None, "due": microseconds(due)}
    await _leave(connection, job, values)


async def find(connection: AsyncConnection, of: HpiO, id_: int) -> Job | None:
    """One job."""
    row = (await connection.execute(select(jobs).where(jobs.c.custodian == of, jobs.c.id == id_))).one_or_none()
    return None if row is None else _job(row)


async def find_open(connection: AsyncConnection, of: HpiO, kind: str, key: str) -> Job | None:
    """The open job of a kind and key."""
    wanted = select(jobs).where(jobs.c.custodian == of, jobs.c.kind == kind, jobs.c.key == key, _OPEN)
    row = (await connection.execute(wanted)).one_or_none()
    return None if row is None else _job(row)


async def count_open(connection: AsyncConnection, of: HpiO, kind: str, lane: str | None = None) -> int:
    """How many jobs of a kind are open, in one lane or in all."""
    wanted = select(func.count()).select_from(jobs).where(jobs.c.custodian == of, jobs.c.kind == kind, _OPEN)
    if lane is not None:
        wanted = wanted.where(jobs.c.lane == lane)
    return int((await connection.execute(wanted)).scalar_one())


async def listed(
    connection: AsyncConnection,
    of: HpiO,
    *,
    states: Collection[State],
    kind: str | None = None,
    before: int | None = None,
    most: int,
) -> list[Job]:
    """Jobs in these states, the newest first, with numbers below `before`."""
    wanted: list[ColumnElement[bool]] = [jobs.c.custodian == of, jobs.c.state.in_(list(states))]
    if kind is not None:
        wanted.append(jobs.c.kind == kind)
    if before is not None:
        wanted.append(jobs.c.id < before)
    rows = await connection.execute(select(jobs).where(*wanted).order_by(jobs.c.id.desc()).limit(most))
    return [_job(row) for row in rows]


async def counts(connection: AsyncConnection, of: HpiO) -> dict[str, dict[str, int]]:
    """How many jobs there are of each kind, in each state that any is in."""
    statement = (
        select(jobs.c.kind, jobs.c.state, func.count().label("number"))
        .where(jobs.c.custodian == of)
        .group_by(jobs.c.kind, jobs.c.state)
        .order_by(jobs.c.kind, jobs.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for row in await connection.execute(statement):
        found.setdefault(row.kind, {})[row.state] = row.number
    return found


async def retry(connection: AsyncConnection, of: HpiO, id_: int, now: datetime) -> Job:
    """An operator wants the job tried now: one that waits, failed or was cancelled. `NotFound`; `Conflict` if it runs,
    is done, or the same work is open under another number."""
    job = await _known(connection, of, id_)
    if job.state in (State.RUNNING, State.DONE):
        raise Conflict(f"the job is {job.state}", reason=f"job-{job.state}")
    other = await find_open(connection, of, job.kind, job.key)
    if other is not None and other.id != id_:
        raise Conflict(f"job {other.id} does the same work", reason="job-open")
    values = {"state": State.WAITING, "due": microseconds(now), "tries": 0, "finished": None}
    row = (await connection.execute(update(jobs).where(jobs.c.id == id_).values(values).returning(jobs))).one()
    announce(connection)
    return _job(row)


async def cancel(connection: AsyncConnection, of: HpiO, id_: int, now: datetime) -> Job:
    """An operator wants the job not to be done. A process that is doing it stops within seconds, and keeps nothing.
    `NotFound`; `Conflict` if the job is not open."""
    job = await _known(connection, of, id_)
    if not job.open:
        raise Conflict(f"the job is {job.state}", reason=f"job-{job.state}")
    values = {"state": State.CANCELLED, "lease": None, "finished": microseconds(now), "again": 0}
    row = (await connection.execute(update(jobs).where(jobs.c.id == id_).values(values).returning(jobs))).one()
    announce(connection)
    return _job(row)


async def forget(connection: AsyncConnection, of: HpiO, now: datetime) -> None:
    """Removes the rows of jobs that ended long ago."""
    done = and_(jobs.c.state == State.DONE, jobs.c.finished < microseconds(now - KEPT_DONE))
    others = and_(jobs.c.state.in_([State.FAILED, State.CANCELLED]), jobs.c.finished < microseconds(now - KEPT_FAILED))
    await connection.execute(delete(jobs).where(jobs.c.custodian == of, or_(done, others)))


async def _known(connection: AsyncConnection, of: HpiO, id_: int) -> Job:
    job = await find(connection, of, id_)
    if job is None:
        raise NotFound(reason="no-such-job")
    return job


async def _leave(connection: AsyncConnection, job: Job, values: Mapping[str, Any]) -> None:
    """Changes a job that `job.owner` holds and gives the lease back."""
    mine = and_(jobs.c.id == job.id, _held_by(str(job.owner)))
    left = await connection.execute(update(jobs).where(mine).values(again=0, lease=None, **values))
    if not left.rowcount:
        raise LeaseLost
    announce(connection)


def _held_by(owner: str) -> ColumnElement[bool]:
    return and_(jobs.c.owner == owner, jobs.c.state == State.RUNNING)


def _may_be_done(now: datetime) -> ColumnElement[bool]:
    """A job that is due, or whose lease has ended. If the time of another try lies further ahead than any delay allows,
    the clock was wrong when it was written, and it does not count."""
    late = microseconds(now + LONGEST)
    due = and_(
        jobs.c.state == State.WAITING, or_(jobs.c.due <= microseconds(now), and_(jobs.c.due > late, jobs.c.tries > 0))
    )
    ended = and_(jobs.c.state == State.RUNNING, or_(jobs.c.lease <= microseconds(now), jobs.c.lease > late))
    return or_(due, ended)


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        key=row.key,
        about=row.about,
        lane=row.lane,
        payload=row.payload,
        state=State(row.state),
        due=moment(row.due),
        tries=row.tries,
        owner=row.owner,
        error=row.error,
        why=row.why,
        created=moment(row.created),
        finished=None if row.finished is None else moment(row.finished),
    )
