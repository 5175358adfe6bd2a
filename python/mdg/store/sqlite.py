"""SQLite: a file of this gateway's own, in WAL mode with `synchronous=FULL`.

One process writes, held by a lock beside the file. Readers open it `mode=ro`, so that no other connection can write or
checkpoint the log (spec/storage 3).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import anyio
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from mdg.errors import InputOutput
from mdg.store import migrations
from mdg.store.database import BUSY, connections
from mdg.store.lock import check_place, only_process

REASONS = {
    "SQLITE_ERROR": "its tables are not those of this version of mdg; use the version that made it or a new folder",
    "SQLITE_FULL": "no space is left on its disk; make room, then try again",
    "SQLITE_IOERR_SHMSIZE": "no space is left on its disk; make room, then try again",
    "SQLITE_BUSY": "another program holds it; end that program, then try again",
    "SQLITE_READONLY": "it cannot be written; give the gateway the right to write it",
    "SQLITE_CANTOPEN": "it cannot be opened; check the rights of its folder, and how many files the gateway may open",
}
"""What the operator can do about a failure, by SQLite's name of the failure."""
DAMAGED = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""After one of these the state of the file is unknown."""
EVERY = (f"busy_timeout={BUSY * 1000}", "synchronous=FULL", "foreign_keys=ON", "mmap_size=0", "trusted_schema=OFF")
"""Pragmas of every connection."""


class Dialect(SQLiteDialect_aiosqlite):
    """aiosqlite, where the end of a connection of a cancelled task waits for nothing.

    SQLAlchemy's own way closes such a connection in a task of its own, and when that is interrupted asks the thread of
    the connection to stop a second time. A thread that has stopped never answers, so the process would never end.
    """

    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._stopping: set[asyncio.Future[Any]] = set()

    def do_terminate(self, dbapi_connection: Any) -> None:
        stopping = self.get_driver_connection(dbapi_connection).stop()
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def stopped(self) -> None:
        """Returns when no thread of a connection that was given up is left."""
        if self._stopping:
            await asyncio.wait(self._stopping)


registry.register("sqlite.mdg", __name__, Dialect.__name__)


class SQLite:
    """The database in one file."""

    errors: tuple[type[Exception], ...] = (SQLAlchemyError, sqlite3.Error)
    shared = False

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[AsyncEngine]:
        """The one connection that writes, in the one process that may; an unclean stop is followed by a check."""
        with only_process(self._path):
            unclean = await anyio.to_thread.run_sync(_prepare, self._path)
            async with _connections(self._path, writes=True) as engine:
                await self._ready(engine, check=unclean)
                yield engine

    @asynccontextmanager
    async def readers(self) -> AsyncIterator[AsyncEngine]:
        """Connections that open the file read-only."""
        if not await anyio.Path(self._path).is_file():
            why = "there is no database here; start the gateway or index a folder first"
            raise InputOutput(str(self._path), why)
        async with _connections(self._path, writes=False) as engine:
            yield engine

    async def check(self) -> None:
        """Reads the file, or looks at the folder in which it would be made."""
        await anyio.to_thread.run_sync(check_place, self._path)
        if not await anyio.Path(self._path).is_file():
            return
        async with _connections(self._path, writes=False) as engine:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(migrations.check)
            except SQLAlchemyError as error:
                raise self.failure(error) from error

    def failure(self, error: Exception) -> InputOutput:
        """The file, the cause in words where it is a known one, and SQLite's name of it."""
        name = _name(error)
        why = REASONS.get(name, "the database cannot be used; check the disk and the rights of the file")
        return InputOutput(str(self._path), f"{why} ({name or type(error).__name__})")

    def damaged(self, error: Exception) -> bool:
        """Whether SQLite or the disk under it has failed. A full disk is no damage, also where SQLite names the failure
        of its shared index by an IOERR."""
        return _name(error).startswith(DAMAGED) and _name(error) not in REASONS

    async def _ready(self, engine: AsyncEngine, *, check: bool) -> None:
        try:
            if check:
                async with engine.begin() as connection:
                    found = (await connection.exec_driver_sql("PRAGMA integrity_check(1)")).scalar_one()
                if found != "ok":
                    why = "the database is damaged; restore the last backup, then start again"
                    raise InputOutput(str(self._path), why)
            async with engine.begin() as connection:
                await connection.run_sync(migrations.upgrade)
        except SQLAlchemyError as error:
            raise self.failure(error) from error


def _prepare(path: Path) -> bool:
    """Makes an empty private file when there is none; whether the last writer left its log behind."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return (log := path.with_name(path.name + "-wal")).exists() and log.stat().st_size > 0
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; the data folder must be writable by the gateway") from error


@asynccontextmanager
async def _connections(path: Path, *, writes: bool) -> AsyncIterator[AsyncEngine]:
    mode, more = ("rwc", ("journal_mode=WAL", "journal_size_limit=67108864")) if writes else ("ro", ("query_only=ON",))
    url = f"sqlite+mdg:///file:{quote(str(path))}?mode={mode}&uri=true"
    async with connections(url, writes=writes) as engine:

        @event.listens_for(engine.sync_engine, "connect")
        def connect(connection: Any, _: object) -> None:
            connection.isolation_level = None  # the driver must not begin transactions on its own; `begin` does
            pragmas = "".join(f"PRAGMA {pragma};" for pragma in (*EVERY, *more))
            connection.run_async(lambda driver: driver.executescript(pragmas))

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            # Asked of the driver itself: by a cursor it is three ways to the connection's thread and back, not one.
            statement = "BEGIN IMMEDIATE" if writes else "BEGIN"
            own: Any = connection.connection.dbapi_connection
            try:
                own.run_async(lambda driver: driver.execute(statement))
            except sqlite3.OperationalError as error:
                raise OperationalError(statement, None, error) from error

        try:
            yield engine
        finally:
            with anyio.CancelScope(shield=True):
                await cast("Dialect", engine.dialect).stopped()


def _name(error: Exception) -> str:
    """SQLite's own name of the failure, such as SQLITE_FULL."""
    original = getattr(error, "orig", error)
    return str(getattr(original, "sqlite_errorname", None) or getattr(original.__cause__, "sqlite_errorname", ""))
