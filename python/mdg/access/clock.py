"""The time that access is decided by, which never goes far back.

What has ended (a token, a ticket, a consent) must not come to life again, and what was used once must not become
usable, because the clock of the machine was set back. The gateway keeps the latest time that it has seen in its
database, and answers nobody while the clock lies more than BEHIND before that time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import anyio
import structlog
from sqlalchemy import Column, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import Unavailable
from mdg.model.identity import HpiO
from mdg.store import Store
from mdg.store.schema import Number, custodian, metadata, microseconds, moment

BEHIND = timedelta(seconds=60)
"""How far the clock may lie behind the latest time seen: what a time server corrects in one step."""
STEP = timedelta(seconds=10)
"""How much of the latest time a crash may lose."""
IDLE = 60.0
"""Seconds between two writes of the latest time when nobody asks."""

LATEST = Table("latest_time", metadata, custodian(), Column("seen", Number, nullable=False))
"""`seen`: the latest time, in UTC microseconds, that a process of this gateway has seen on its clock."""

Clock: TypeAlias = Callable[[], datetime]
"""Gives the time now, in UTC."""

log = structlog.get_logger("mdg.clock")


def utc_now() -> datetime:
    """The time by the clock of the machine."""
    return datetime.now(UTC)


class SteadyClock:
    """The clock of one custodian's gateway; `clock` is the clock of the machine."""

    def __init__(self, store: Store, custodian: HpiO, clock: Clock) -> None:
        self._store = store
        self._custodian = custodian
        self._clock = clock
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._told = False

    def __call__(self) -> datetime:
        """The time now. `Unavailable`, reason `clock`, while it lies more than BEHIND before the latest time seen."""
        now = self._clock()
        behind = self._latest - now > BEHIND
        if behind and not self._told:
            log.error(
                "clock is behind",
                now=now.isoformat(timespec="seconds"),
                latest=self._latest.isoformat(timespec="seconds"),
                what_to_do="correct the clock; if the later time was wrong, start once with mdg serve --trust-clock",
            )
        elif self._told and not behind:
            log.warning("clock is right again", now=now.isoformat(timespec="seconds"))
        self._told = behind
        if behind:
            raise Unavailable(reason="clock")
        self._latest = max(now, self._latest)
        return now

    async def load(self) -> None:
        """Reads the latest time that earlier processes have seen. `Unavailable` when the store does not answer."""
        async with self._store.read() as connection:
            await self._read(connection)

    async def keep(self, connection: AsyncConnection) -> None:
        """Writes the latest time in the transaction of `connection`, unless the kept one is nearly as late.
        `Unavailable` when another process of this gateway has seen a time that this clock is behind."""
        kept = await self._read(connection)
        self()
        if kept is None or self._latest >= kept + STEP:
            await self._replace(connection)

    async def record(self) -> None:
        """Writes the time now, durably. `Unavailable` when the clock is behind, or the store cannot be written."""

        async def work(connection: AsyncConnection) -> None:
            await self._read(connection)
            self()
            await self._replace(connection)

        await self._store.write(work)

    async def trust(self) -> None:
        """Takes the time now for the latest, for an operator who knows that a later one was wrong."""
        self._latest = self._clock()
        await self._store.write(self._replace)

    async def run(self) -> None:
        """Writes the time now and then, until it is cancelled: also to see that the store can be written when nobody
        asks."""
        while True:
            try:
                await self.record()
            except Unavailable as error:
                log.error("time not kept", reason=error.reason, why=str(error.failure or error))
            await anyio.sleep(IDLE)

    async def _read(self, connection: AsyncConnection) -> datetime | None:
        """The kept time, which the latest time is never before."""
        wanted = select(LATEST.c.seen).where(LATEST.c.custodian == self._custodian)
        seen = (await connection.execute(wanted)).scalar()
        if seen is None:
            return None
        self._latest = max(self._latest, moment(seen))
        return moment(seen)

    async def _replace(self, connection: AsyncConnection) -> None:
        await connection.execute(delete(LATEST).where(LATEST.c.custodian == self._custodian))
        row = {"custodian": self._custodian, "seen": microseconds(self._latest)}
        await connection.execute(insert(LATEST).values(row))
