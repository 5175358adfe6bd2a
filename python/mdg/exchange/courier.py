"""Brings what the outbox owes to one destination: in order, at least once, until the other side has acknowledged it.

What a delivery means is the caller's business (`Deliver`); whatever it wants kept is written in the transaction that
takes the event out of the outbox, so an event is told and kept, or owed still. One that its receiver refuses, or that a
fault of ours keeps back, stays owed and is tried again later; it does not hold up those behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import Unavailable, reason, where
from mdg.model.identity import HpiO
from mdg.store import Store
from mdg.store.outbox import Owed, acknowledge, pending
from mdg.subscriptions.retry import wait

IDLE = 1.0
"""Seconds between two looks for new events."""
OUTAGE = 120.0
"""Seconds at most before a destination that could not be reached is asked again: one try, however much is owed."""
AT_ONCE = 100
"""Events that are read in one go."""

Keep = Callable[[AsyncConnection], Awaitable[None]]
"""What a delivery writes in the transaction of its acknowledgement; it only uses the connection it gets."""
Deliver = Callable[[Owed], Awaitable[Keep | None]]
"""Tells the destination of one event. Raises when it has not arrived: `Unavailable` when it is of no use to
try the next one now; whatever else it raises concerns only this one."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An event that was refused, how often, and until when it waits on anyio's clock."""

    owed: Owed
    times: int
    until: float


log = structlog.get_logger("mdg.courier")


class Courier:
    """Delivers for one destination of one custodian; run by one task."""

    def __init__(self, store: Store, custodian: HpiO, destination: str, deliver: Deliver) -> None:
        self._store = store
        self._custodian = custodian
        self._destination = destination
        self._deliver = deliver
        self._refused: dict[int, _Refusal] = {}
        self._read = 0
        self._failures = 0

    async def run(self) -> None:
        """Delivers until it is cancelled; nothing that goes wrong ends it."""
        while True:
            try:
                await self.round()
                self._failures = 0
            except Exception as error:  # a fault of ours must not end the gateway, and is no worse than an outage
                self._failures += 1
                self._log("not-delivered", error)
            pause = min(wait(self._failures).total_seconds(), OUTAGE) if self._failures else IDLE
            await anyio.sleep(pause)  # the outbox rings no bell: another process may have filled it

    async def round(self) -> None:
        """Tries once whatever is owed and due. `Unavailable`: the destination or the store cannot be reached, and what
        was not tried waits."""
        now = anyio.current_time()
        for refusal in [one for one in self._refused.values() if one.until <= now]:
            await self._try(refusal.owed, refusal.times)
        while owed := await self._unread():
            for one in owed:
                await self._try(one)
                self._read = one.event

    async def _unread(self) -> list[Owed]:
        """The next events that this courier has not tried yet: numbers grow in the order of commits."""
        async with self._store.read() as connection:
            return await pending(connection, self._custodian, self._destination, AT_ONCE, self._read)

    async def _try(self, owed: Owed, refusals: int = 0) -> None:
        try:
            await self._bring(owed)
        except Unavailable:
            raise
        except Exception as error:  # refused, or a fault of ours that this event brings to light
            self._log("refused", error, number=owed.event)
            until = anyio.current_time() + wait(refusals + 1).total_seconds()
            self._refused[owed.event] = _Refusal(owed, refusals + 1, until)
            return
        self._refused.pop(owed.event, None)
        self._failures = 0

    async def _bring(self, owed: Owed) -> None:
        keep = await self._deliver(owed)

        async def settle(connection: AsyncConnection) -> None:
            if keep is not None:
                await keep(connection)
            await acknowledge(connection, owed)

        await self._store.write(settle)

    def _log(self, what: str, error: Exception, **more: int) -> None:
        log.warning(what, destination=self._destination, reason=reason(error), where=where(error), **more)
