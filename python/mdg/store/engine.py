"""The store: one connection that writes, others that can only read.

Every change goes through `Store.write`. Works that wait together share one transaction, each under a savepoint of its
own, and each caller resumes after the COMMIT that holds its work is on the disk: one sync pays for many records. How a
kind of database opens its connections, and what makes a COMMIT durable, stands in `mdg.store.sqlite` and
`mdg.store.postgresql`; tables and their SQL belong to the rooms; migrations are in `mdg/store/migrations`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mdg.errors import InputOutput, Unavailable, Unsupported
from mdg.store.database import Database
from mdg.store.sqlite import SQLite

T = TypeVar("T")

_ANNOUNCED = "mdg.announced"

GROUP = 64
"""Works that share one transaction at most: bounds how long the first of them waits for the last."""
WAITING = 1024
"""Works that may wait; callers beyond that wait at the door, so a flood cannot fill the memory."""


@dataclass(eq=False, slots=True)
class _Job:
    """One work in the queue, and what came of it."""

    work: Callable[[AsyncConnection], Awaitable[Any]]
    finished: anyio.Event = field(default_factory=anyio.Event)
    abandoned: bool = False
    value: Any = None
    error: Exception | None = None


def announce(connection: AsyncConnection) -> None:
    """Once the transaction of `connection` is durable, `Store.listen` is told in this process. A work that is undone
    may be announced all the same."""
    connection.info[_ANNOUNCED] = True


class Store:
    """An open database. Safe to share between tasks of one event loop."""

    def __init__(self, database: Database, readers: AsyncEngine, jobs: MemoryObjectSendStream[_Job] | None) -> None:
        self._database = database
        self._readers = readers
        self._jobs = jobs
        self._failure: InputOutput | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def shared(self) -> bool:
        """Whether other processes may write to the database too."""
        return self._database.shared

    def listen(self, told: Callable[[], None]) -> None:
        """Has `told` called after each COMMIT of this process that holds something announced (`announce`)."""
        self._listeners.append(told)

    @property
    def failure(self) -> InputOutput | None:
        """Why the last transaction that writes was not kept; None when it was."""
        return self._failure

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, read_only: bool = False) -> AsyncIterator[Self]:
        """The database at `url`: a path, `sqlite:///path`, or `postgresql://user:password@host/name`. A new one is made
        and migrated. With `read_only` nothing is made, migrated or locked.

        `InputOutput`: it cannot be used, and why: another process has the file, it lies on a network file system, it is
        damaged or made by a newer version; the server does not answer, or may lose what it has committed; the driver is
        not installed. `Unsupported`: another kind of database. `Misuse`: it is no URL.
        """
        database = _database(url)
        if read_only:
            async with database.readers() as readers:
                yield cls(database, readers, None)
            return
        async with database.writer() as writer, database.readers() as readers:
            send, receive = anyio.create_memory_object_stream[_Job](WAITING)
            store = cls(database, readers, send)
            failure: Exception | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store._write, writer, receive)
                async with send:
                    try:
                        yield store
                    except Exception as error:  # would leave the task group wrapped in an ExceptionGroup
                        failure = error
            if failure is not None:
                raise failure

    @staticmethod
    async def check(url: str) -> None:
        """Whether `open` would find a database that can be used at `url`, or a place for a new one; nothing is changed.
        The errors are those of `open`, apart from a database that another process uses."""
        await _database(url).check()

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Runs `work` on the one writing connection and returns its value once the COMMIT is durable.

        `work` must only use the connection it gets: whatever else it waits for, all writers wait for. What it raises
        comes back here and undoes only its own changes. Any error of the database: `Unavailable`, reason `store`, and
        nothing of the work is kept, unless the connection was lost while a server answered the COMMIT: then nobody
        knows. A caller who is cancelled does not stop a work that has begun.
        """
        job = _Job(work)
        if self._jobs is None:
            raise Unavailable(reason="store")
        try:
            await self._jobs.send(job)
            await job.finished.wait()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise Unavailable(reason="store") from error
        except anyio.get_cancelled_exc_class():
            job.abandoned = True
            raise
        if job.error is not None:
            raise job.error
        value: T = job.value
        return value

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection that cannot write, on one consistent state of the database. Any error of the database:
        `Unavailable`, reason `store`."""
        try:
            async with self._readers.connect() as connection:
                yield connection
        except self._database.errors as error:
            raise _unavailable(self._database, error) from error

    async def _write(self, writer: AsyncEngine, jobs: MemoryObjectReceiveStream[_Job]) -> None:
        """The writer: takes what waits, runs it as one group, until the store is closed."""
        damage: Exception | None = None
        async with jobs:
            try:
                async for first in jobs:
                    group = [first]
                    while len(group) < GROUP and jobs.statistics().current_buffer_used:
                        group.append(jobs.receive_nowait())
                    with anyio.CancelScope(shield=True):
                        if damage is not None:
                            _fail(self._database, group, damage)
                            continue
                        error = await self._run(writer, group)
                    self._failure = None if error is None else _failure(self._database, error)
                    if error is not None and self._database.damaged(error):
                        damage = error
            finally:
                while jobs.statistics().current_buffer_used:
                    _fail(self._database, [jobs.receive_nowait()], None)

    async def _run(self, writer: AsyncEngine, group: list[_Job]) -> Exception | None:
        """Runs and commits one group, and tells the listeners; the error that kept the whole group from being kept."""
        announced, error = await _run_group(self._database, writer, group)
        if announced:
            for told in self._listeners:
                told()
        return error


async def _run_group(database: Database, writer: AsyncEngine, group: list[_Job]) -> tuple[bool, Exception | None]:
    """Runs and commits one group: whether a work announced something, and the error that kept all from being kept."""
    announced = False
    try:
        async with writer.connect() as connection:
            # A work alone needs no savepoint: undoing the transaction undoes the same. `nested`: what works run under.
            nested = connection.begin_nested if len(group) > 1 else connection.begin
            async with connection.begin() if len(group) > 1 else nullcontext():
                for job in group:
                    if not job.abandoned:
                        await _run(database, connection, job, nested())
            announced = connection.info.pop(_ANNOUNCED, False)
    except InputOutput as error:  # the connection was lost, and what answers now must not be written
        _fail(database, group, error)
        return False, error
    except database.errors as error:
        _fail(database, group, error)
        return False, error
    for job in group:
        job.finished.set()
    return announced, None


async def _run(
    database: Database, connection: AsyncConnection, job: _Job, within: AbstractAsyncContextManager[object]
) -> None:
    try:
        async with within:
            job.value = await job.work(connection)
    except OperationalError:
        # A full disk, a failed read or a lost connection may already have undone the whole transaction, savepoints and
        # all: what ran before in this group is gone with it, so none of the group may be told that it was kept.
        raise
    except database.errors as error:
        job.error = _unavailable(database, error)
    except Exception as error:  # whatever the work raised belongs to its caller, not to the writer
        job.error = error


def _fail(database: Database, group: list[_Job], cause: Exception | None) -> None:
    for job in group:
        job.error = _unavailable(database, cause)
        job.finished.set()


def _unavailable(database: Database, cause: Exception | None) -> Unavailable:
    error = Unavailable(reason="store", failure=None if cause is None else _failure(database, cause))
    error.__cause__ = cause
    return error


def _failure(database: Database, cause: Exception) -> InputOutput:
    return cause if isinstance(cause, InputOutput) else database.failure(cause)


def _database(url: str) -> Database:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return SQLite(Path(url))
    if scheme == "sqlite":
        return SQLite(Path(rest.removeprefix("/")))
    if scheme == "postgresql":
        try:
            from mdg.store.postgresql import PostgreSQL
        except ImportError as error:
            why = "the driver of PostgreSQL is not installed here: pip install 'mdg[postgres]'"
            raise InputOutput("database", why) from error
        return PostgreSQL(url)
    raise Unsupported(scheme, "data is kept in SQLite or PostgreSQL; give the path of a file, or postgresql://…")
