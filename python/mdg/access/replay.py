"""What may be used once: DPoP proofs and the nonces of retrieval requests, remembered until a day after they could not
be used anyway: so long a clock that went wrong may take to be put right.

The table is shared by all processes of a gateway, so that one use here forbids a second one there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy import Column, Select, Table, Text, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.access.clock import SteadyClock
from mdg.errors import Conflict
from mdg.model.identity import HpiO
from mdg.store import Store
from mdg.store.schema import Number, custodian, metadata, microseconds

SWEEP = timedelta(minutes=1)  # between two deletions of what has lapsed
LATE = timedelta(days=1)  # between the end of a use and its deletion

REPLAY = Table(
    "replay",
    metadata,
    custodian(),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("until", Number, nullable=False, index=True),
)
"""`until`: UTC microseconds after which the row says nothing any more."""


class Replay:
    """The uses that one custodian's gateway has seen. Each use is written with the time at which it was seen."""

    def __init__(self, store: Store, custodian: HpiO, clock: SteadyClock) -> None:
        self._store = store
        self._custodian = custodian
        self._clock = clock
        self._under_way: set[tuple[str, str]] = set()
        self._swept: datetime | None = None

    async def seen(self, kind: str, key: str, until: datetime) -> bool:
        """Records the use of `key`, atomically and durably; True when it had been used before. `Unavailable` when the
        store cannot record it, or the clock is behind."""
        row = {"custodian": self._custodian, "kind": kind, "key": key, "until": microseconds(until)}
        now = self._clock()
        sweep = self._swept is None or now >= self._swept + SWEEP
        if sweep:
            self._swept = now

        async def use(connection: AsyncConnection) -> bool:
            await self._clock.keep(connection)
            if sweep:
                await connection.execute(delete(REPLAY).where(REPLAY.c.until < microseconds(now - LATE)))
            if (await connection.execute(self._used(kind, key))).first() is not None:
                return True
            try:
                async with connection.begin_nested():
                    await connection.execute(insert(REPLAY).values(row))
            except IntegrityError:
                return True  # another process was faster
            return False

        return await self._store.write(use)

    @asynccontextmanager
    async def once(self, kind: str, key: str, until: datetime) -> AsyncGenerator[None]:
        """A use that counts only when the work under it ends without an error.

        `Conflict` at the start when `key` was used or is being used here, and at the end when another process was
        faster. After an error, a 503 above all, the key stays unused (seg/1 10.1).
        """
        if (kind, key) in self._under_way:
            raise Conflict("this request was made before; sign a new one", reason="nonce-seen")
        self._under_way.add((kind, key))
        try:
            async with self._store.read() as connection:
                if (await connection.execute(self._used(kind, key))).first() is not None:
                    raise Conflict("this request was made before; sign a new one", reason="nonce-seen")
            yield
            if await self.seen(kind, key, until):
                raise Conflict("this request was made before; sign a new one", reason="nonce-seen")
        finally:
            self._under_way.discard((kind, key))

    def _used(self, kind: str, key: str) -> Select[tuple[int]]:
        return select(REPLAY.c.until).where(
            REPLAY.c.custodian == self._custodian, REPLAY.c.kind == kind, REPLAY.c.key == key
        )
