"""SQLite: a file of this gateway's own, in WAL mode with `synchronous=FULL`.

One process writes, held by a lock beside the file. Readers open it `mode=ro`, so that no other connection can write or
checkpoint the log (security-tests 6).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from mdg.errors import InputOutput
from mdg.store import migrations
from mdg.store.database import BUSY, connections
from mdg.store.lock import check_place, only_process

DAMAGED = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""After one of these the state of the file is unknown."""
EVERY = (f"busy_timeout={BUSY * 1000}", "synchronous=FULL", "foreign_keys=ON", "mmap_size=0", "trusted_schema=OFF")
"""Pragmas of every connection."""


class SQLite:
    """The database in one file."""

    errors: tuple[type[Exception], ...] = (SQLAlchemyError, sqlite3.Error)

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
                raise self._unusable(error) from error

    def damaged(self, error: Exception) -> bool:
        """Whether SQLite or the disk under it has failed."""
        return _name(error).startswith(DAMAGED)

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
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> InputOutput:
        why = f"the database cannot be used ({_name(error) or type(error).__name__})"
        return InputOutput(str(self._path), f"{why}; check the disk and the rights of the file")


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
    url = f"sqlite+aiosqlite:///file:{quote(str(path))}?mode={mode}&uri=true"
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

        yield engine


def _name(error: Exception) -> str:
    """SQLite's own name of the failure, such as SQLITE_FULL."""
    original = getattr(error, "orig", error)
    return str(getattr(original, "sqlite_errorname", None) or getattr(original.__cause__, "sqlite_errorname", ""))
