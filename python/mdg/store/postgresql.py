"""PostgreSQL: a database on a server that others run, by psycopg 3.

Any number of gateway processes may use it. Their transactions exclude each other by an advisory lock, so that a writer
finds what SQLite promises: nothing changes under it, and `seq` grows in the order of commits. Readers see one state
(REPEATABLE READ) and cannot write. A server that may forget what it has committed is refused.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from mdg.errors import InputOutput, Misuse
from mdg.store import migrations
from mdg.store.database import BUSY, connections

DAMAGED = ("XX001", "XX002")
"""The server found a broken table or index (PostgreSQL manual, appendix A, class XX)."""
WRITERS = int.from_bytes(b"mdg")
"""The advisory lock that a writing transaction holds until its end."""
IDLE = 30
"""Seconds after which the server ends a writing transaction whose process has stopped, so that others can write."""
PARAMETERS = {
    "client_encoding": "utf8",
    "connect_timeout": str(BUSY),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
"""libpq's, unless the URL says otherwise: a server that has vanished is given up after about 25 seconds. Keepalives are
for a silent connection; where a statement waits to be received, only `tcp_user_timeout` (milliseconds) ends it before
the system does, after a quarter of an hour."""
UNFIT = """
    SELECT name || ' = ' || setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
    OR name = 'server_encoding' AND setting <> 'UTF8'
"""
WRITING = (
    "SET synchronous_commit = on",
    f"SET lock_timeout = '{BUSY}s'",
    f"SET idle_in_transaction_session_timeout = '{IDLE}s'",
)
READING = ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",)
PART = "database"
"""How messages name it: the setting. Its URL has a password and stays out of them."""


class PostgreSQL:
    """The database at a URL."""

    errors: tuple[type[Exception], ...] = (SQLAlchemyError, psycopg.Error)
    shared = True

    def __init__(self, url: str) -> None:
        try:
            given = make_url(url).set(drivername="postgresql+psycopg")
            given.get_dialect()().create_connect_args(given)  # reads hosts and ports
        except (SQLAlchemyError, ValueError):
            why = "write it as postgresql://user:password@host/name, with %40 for an @ in the password"
            raise Misuse(f"{PART}: it is no URL that can be read; {why}") from None
        self._url = given.set(query={**PARAMETERS, **given.query})

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[AsyncEngine]:
        """The one connection of this process that writes."""
        async with _connections(self._url, writes=True) as engine:
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(migrations.upgrade)
            except self.errors as error:
                raise InputOutput(PART, f"it cannot be written: {_why(error)}") from error
            yield engine

    @asynccontextmanager
    async def readers(self) -> AsyncIterator[AsyncEngine]:
        """Connections whose transactions are read-only."""
        async with _connections(self._url, writes=False) as engine:
            try:
                async with engine.connect() as connection:
                    here = await connection.run_sync(migrations.current)
            except self.errors as error:
                raise InputOutput(PART, f"it cannot be read: {_why(error)}") from error
            if here is None:
                raise InputOutput(PART, "it has no tables yet; start the gateway or index a folder first")
            yield engine

    async def check(self) -> None:
        """Connects as the writer does, so that an unfit server is refused, and reads the step of the schema."""
        async with _connections(self._url, writes=True) as engine:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(migrations.check)
                    await connection.rollback()
            except self.errors as error:
                raise InputOutput(PART, f"it cannot be written: {_why(error)}") from error

    def failure(self, error: Exception) -> InputOutput:
        """What the server or the driver said."""
        return InputOutput(PART, f"it cannot be used: {_why(error)}")

    def damaged(self, error: Exception) -> bool:
        """Whether the server has found its own files broken."""
        return getattr(getattr(error, "orig", error), "sqlstate", None) in DAMAGED


@asynccontextmanager
async def _connections(url: URL, *, writes: bool) -> AsyncIterator[AsyncEngine]:
    async with connections(url, writes=writes, pool_pre_ping=True) as engine:
        if writes:

            @event.listens_for(engine.sync_engine, "connect")
            def refuse_unfit(connection: Any, _: object) -> None:
                cursor = connection.cursor()
                cursor.execute(UNFIT)
                unfit = [name for (name,) in cursor.fetchall()]
                cursor.close()
                if unfit:
                    connection.close()
                    raise InputOutput(PART, f"nothing is safe on a server with {', '.join(unfit)}; change its settings")

            @event.listens_for(engine.sync_engine, "begin")
            def exclude_others(connection: Connection) -> None:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            for statement in WRITING if writes else READING:
                cursor.execute(statement)
            cursor.close()
            connection.commit()  # a setting ends with a transaction that does not

        @event.listens_for(engine.sync_engine, "handle_error")
        def hide_rows(context: ExceptionContext) -> None:
            for error in (context.original_exception, context.sqlalchemy_exception):
                if error is not None and error.args:  # lines after the first show the row, which may name a person
                    error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

        yield engine


def _why(error: Exception) -> str:
    """What the server said, which never has the password; the driver's own words may have parts of the URL."""
    original = getattr(error, "orig", error)
    said = original.diag.message_primary if isinstance(original, psycopg.Error) else None
    if said is None and (refusal := re.search(r"FATAL: +(.*)", str(error))):
        said = refusal[1]
    return said or "the server does not answer; look at the host, port and sslmode of the URL"
