"""What the store asks of a kind of database, and the connections that all kinds are given.

A kind is one file of this folder, `sqlite` or `postgresql`, with one class of this shape. It opens connections that
keep the store's promises; the queue in front of the one that writes is the store's own (`mdg.store.engine`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import orjson
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mdg.errors import InputOutput

READERS = 16
"""Reading connections at most; a reader beyond that waits for BUSY seconds."""
BUSY = 5
"""Seconds to wait for a lock (another process, a backup tool, an operator's shell) or for a free reader."""


class Database(Protocol):
    """One database of some kind."""

    errors: tuple[type[Exception], ...]
    """What its driver raises, wrapped or not."""
    shared: bool
    """Whether other processes may write to it too."""

    def writer(self) -> AbstractAsyncContextManager[AsyncEngine]:
        """Exactly one connection, made again when it was lost: a COMMIT on it is durable, and a transaction on it
        excludes every other that writes. The database is made, checked and migrated first. `InputOutput`: it cannot."""

    def readers(self) -> AbstractAsyncContextManager[AsyncEngine]:
        """Up to READERS connections that cannot write, each transaction on one consistent state. Nothing is made,
        migrated or locked. `InputOutput`: there is nothing to read."""

    async def check(self) -> None:
        """Looks whether the database could be used, and changes nothing. `InputOutput`: it could not, and why."""

    def failure(self, error: Exception) -> InputOutput:
        """What the operator is told of an error of the driver: which database, why, and what to do."""

    def damaged(self, error: Exception) -> bool:
        """Whether the content can no longer be trusted with writes, until a restart has checked it."""


@asynccontextmanager
async def connections(url: str | URL, *, writes: bool, **options: Any) -> AsyncIterator[AsyncEngine]:
    """A pool on `url`: one connection that writes, or READERS that do not. All are closed at the end."""
    kept, more = (1, 0) if writes else (READERS // 4, READERS - READERS // 4)
    engine = create_async_engine(
        url,
        pool_size=kept,
        max_overflow=more,
        pool_timeout=BUSY,
        pool_reset_on_return="rollback" if not writes else None,  # the store ends each transaction that writes
        hide_parameters=True,  # they name people, and an error may end in a log
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        **options,
    )
    try:
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await engine.dispose()
