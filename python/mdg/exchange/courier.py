"""Brings what the outbox owes to one destination: in order, at least once, until the other side has acknowledged it.

What a delivery means is the caller's business (`Deliver`); whatever it wants kept is written in the transaction that
takes the event out of the outbox, so an event is told and kept, or owed still. One that its receiver refuses stays owed
and is tried again later; it does not hold up those behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import MdgError, Unavailable
from mdg.model.identity import HpiO
from mdg.store import Store
from mdg.store.outbox import Owed, acknowledge, pending

IDLE = 1.0
"""Seconds between two looks for new events."""
WAITS = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Seconds before what failed is tried again, the last one for as long as it fails (fhir-au 6.3)."""
AT_ONCE = 100
"""Events that are read in one go."""

Keep = Callable[[AsyncConnection], Awaitable[None]]
"""What a delivery writes in the transaction of its acknowledgement; it only uses the connection it gets."""
Deliver = Callable[[Owed], Awaitable[Keep | None]]
"""Tells the destination of one event. Raises `MdgError` when it has not arrived: `Unavailable` when it is of no use to
try the next one now, any other when only this one is refused."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How often one event was refused, and until when it waits on anyio's clock."""

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

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        failures = 0
        while True:
            try:
                await self.round()
                failures = 0
            except Unavailable as error:
                failures += 1
                log.warning("not-delivered", destination=self._destination, reason=error.reason)
            await anyio.sleep(_wait(failures) if failures else IDLE)

    async def round(self) -> None:
        """Tries once whatever is owed and due. `Unavailable`: the destination or the store cannot be reached, and what
        was not tried waits."""
        after = 0
        while True:
            async with self._store.read() as connection:
                owed = await pending(connection, self._custodian, self._destination, AT_ONCE, after)
            if not owed:
                return
            for one in owed:
                refusal = self._refused.get(one.event)
                if refusal is None or refusal.until <= anyio.current_time():
                    await self._try(one, refusal.times if refusal else 0)
            after = owed[-1].event

    async def _try(self, owed: Owed, refusals: int) -> None:
        try:
            keep = await self._deliver(owed)
        except Unavailable:
            raise
        except MdgError as error:
            log.warning("refused", destination=self._destination, number=owed.event, why=type(error).__name__)
            self._refused[owed.event] = _Refusal(refusals + 1, anyio.current_time() + _wait(refusals + 1))
            return

        async def settle(connection: AsyncConnection) -> None:
            if keep is not None:
                await keep(connection)
            await acknowledge(connection, owed)

        await self._store.write(settle)
        self._refused.pop(owed.event, None)


def _wait(failures: int) -> float:
    """Seconds until the next try after so many failures in a row, at least one."""
    return WAITS[min(failures, len(WAITS)) - 1]
