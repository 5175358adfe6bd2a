"""The database: one connection that writes, others that can only read.

Every change goes through `Store.write`. Works that wait together share one transaction, each under a savepoint of its
own, and each caller resumes after the COMMIT that holds its work is on the disk (WAL, `synchronous=FULL`): one sync
pays for many records. Readers open the file `mode=ro`, so that no other connection can write or checkpoint the log
(security-tests 6). Tables and their SQL belong to the rooms; migrations are in `mdg/store/migrations`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import anyio
import orjson
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool

from mdg.errors import InputOutput, Unavailable, Unsupported
from mdg.store import migrations
from mdg.store.lock import only_process

T = TypeVar("T")

GROUP = 64
"""Works that share one transaction at most: bounds how long the first of them waits for the last."""
WAITING = 1024
"""Works that may wait; callers beyond that wait at the door, so a flood cannot fill the memory."""
READERS = 16
"""Reading connections at most; a reader beyond that waits for BUSY seconds."""
BUSY = 5
"""Seconds to wait for a lock of SQLite (a backup tool, an operator's shell) or for a free reader."""
LOST = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""After one of these the state of the file is unknown; nothing more is written until a restart has checked it."""


@dataclass(eq=False, slots=True)
class _Job:
    """One work in the queue, and what came of it."""

    work: Callable[[AsyncConnection], Awaitable[Any]]
    finished: anyio.Event = field(default_factory=anyio.Event)
    abandoned: bool = False
    value: Any = None
    error: Exception | None = None


class Store:
    """An open database. Safe to share between tasks of one event loop."""

    def __init__(self, readers: AsyncEngine, jobs: MemoryObjectSendStream[_Job] | None) -> None:
        self._readers = readers
        self._jobs = jobs

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, read_only: bool = False) -> AsyncIterator[Self]:
        """The database at `url`: a path, or `sqlite:///path`. It is made and migrated when it is new, and checked when
        the last process did not close it. With `read_only` nothing is made, migrated or locked.

        `InputOutput`: another process has it, it lies on a network file system, it is damaged, made by a newer
        version, or cannot be read. `Unsupported`: another kind of database.
        """
        path = _path(url)
        if read_only:
            if not await anyio.Path(path).is_file():
                raise InputOutput(str(path), "there is no database here; start the gateway or index a folder first")
            async with _engine(path, "ro") as readers:
                yield cls(readers, None)
            return
        with only_process(path):
            unclean = await anyio.to_thread.run_sync(_prepare, path)
            async with _engine(path, "rwc") as engine:
                try:
                    writer = await engine.connect()
                except SQLAlchemyError as error:
                    raise _unusable(path, error) from error
                async with aclosing(writer), _engine(path, "ro") as readers:
                    await _ready(path, writer, check=unclean)
                    send, receive = anyio.create_memory_object_stream[_Job](WAITING)
                    failure: Exception | None = None
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(_write, writer, receive)
                        async with send:
                            try:
                                yield cls(readers, send)
                            except Exception as error:  # would leave the task group wrapped in an ExceptionGroup
                                failure = error
                    if failure is not None:
                        raise failure

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Runs `work` on the one writing connection and returns its value once the COMMIT is durable.

        `work` must only use the connection it gets: whatever else it waits for, all writers wait for. What it raises
        comes back here and undoes only its own changes. Any error of the database: `Unavailable`, reason `store`, and
        nothing of the work is kept.
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
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise Unavailable(reason="store") from error


async def _write(writer: AsyncConnection, jobs: MemoryObjectReceiveStream[_Job]) -> None:
    """The writer: takes what waits, runs it as one group, until the store is closed."""
    lost = False
    async with jobs:
        try:
            async for first in jobs:
                group = [first]
                while len(group) < GROUP and jobs.statistics().current_buffer_used:
                    group.append(jobs.receive_nowait())
                with anyio.CancelScope(shield=True):
                    lost = await _run_group(writer, group, lost)
        finally:
            while jobs.statistics().current_buffer_used:
                _fail([jobs.receive_nowait()], None)


async def _run_group(writer: AsyncConnection, group: list[_Job], lost: bool) -> bool:
    """Runs and commits one group; whether the file can no longer be trusted with writes."""
    if lost:
        _fail(group, None)
        return True
    # A work alone needs no savepoint: undoing the transaction undoes the same. `nested` is what a work runs under.
    nested = writer.begin_nested if len(group) > 1 else writer.begin
    try:
        async with writer.begin() if len(group) > 1 else nullcontext():
            for job in group:
                if not job.abandoned:
                    await _run(writer, job, nested())
    except (SQLAlchemyError, sqlite3.Error) as error:
        _fail(group, error)
        return _name(error).startswith(LOST)
    for job in group:
        job.finished.set()
    return False


async def _run(writer: AsyncConnection, job: _Job, within: AbstractAsyncContextManager[object]) -> None:
    try:
        async with within:
            job.value = await job.work(writer)
    except OperationalError:
        # A full disk or a failed read may already have undone the whole transaction, savepoints and all: what ran
        # before in this group is gone with it, so none of the group may be told that it was kept.
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        job.error = _unavailable(error)
    except Exception as error:  # whatever the work raised belongs to its caller, not to the writer
        job.error = error


def _fail(group: list[_Job], cause: Exception | None) -> None:
    for job in group:
        job.error = _unavailable(cause)
        job.finished.set()


def _unavailable(cause: Exception | None) -> Unavailable:
    error = Unavailable(reason="store")
    error.__cause__ = cause
    return error


def _name(error: Exception) -> str:
    """SQLite's own name of the failure, such as SQLITE_FULL."""
    original = getattr(error, "orig", error)
    return str(getattr(original, "sqlite_errorname", None) or getattr(original.__cause__, "sqlite_errorname", ""))


def _path(url: str) -> Path:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url).resolve()
    if scheme != "sqlite":
        raise Unsupported(scheme, "this version keeps its data in SQLite; give the path of a file")
    return Path(rest.removeprefix("/")).resolve()


def _prepare(path: Path) -> bool:
    """Makes an empty private file when there is none; whether the last writer left its log behind."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return (log := path.with_name(path.name + "-wal")).exists() and log.stat().st_size > 0
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; the data folder must be writable by the gateway") from error


async def _ready(path: Path, writer: AsyncConnection, *, check: bool) -> None:
    try:
        if check:
            async with writer.begin():
                found = (await writer.exec_driver_sql("PRAGMA integrity_check(1)")).scalar_one()
            if found != "ok":
                raise InputOutput(str(path), "the database is damaged; restore the last backup, then start again")
        async with writer.begin():
            await writer.run_sync(migrations.upgrade)
    except SQLAlchemyError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: SQLAlchemyError) -> InputOutput:
    why = _name(error) or type(error).__name__
    return InputOutput(str(path), f"the database cannot be used ({why}); check the disk and the rights of the file")


@asynccontextmanager
async def _engine(path: Path, mode: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the file: `rwc` holds exactly one connection, `ro` a pool of readers."""
    pool: type[Pool] = NullPool
    options: dict[str, Any] = {}
    if mode == "ro":
        pool = AsyncAdaptedQueuePool
        options = {"pool_size": READERS // 4, "max_overflow": READERS - READERS // 4, "pool_timeout": BUSY}
    engine = create_async_engine(
        f"sqlite+aiosqlite:///file:{quote(str(path))}?mode={mode}&uri=true",
        poolclass=pool,
        hide_parameters=True,  # they name people, and an error may end in a log
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        **options,
    )
    pragmas = [
        f"busy_timeout={BUSY * 1000}",
        "synchronous=FULL",
        "foreign_keys=ON",
        "mmap_size=0",
        "trusted_schema=OFF",
    ]
    pragmas += ["journal_mode=WAL", "journal_size_limit=67108864"] if mode == "rwc" else ["query_only=ON"]

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own; `begin` does
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if mode == "rwc" else "BEGIN")

    try:
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await engine.dispose()
