"""What a gateway says of itself: whether it can answer, and to its operator what it is doing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from mdg import __version__
from mdg.app.rooms import Rooms
from mdg.errors import MdgError
from mdg.sources.source import Watches
from mdg.store.index import IndexProblem, file_problems

STARTED = datetime.now(UTC)


async def ready(rooms: Rooms) -> bool:
    """Whether the gateway can answer safely: it is not stopping, its identity.csv is in force, its clock is not behind,
    its store answers and kept what was written last. After a write that failed a small one is tried, so that the answer
    recovers by itself."""
    if rooms.stopping.is_set() or rooms.identities.awaited:
        return False
    try:
        rooms.clock()
        if rooms.store.failure is not None:
            await rooms.clock.record()
        await rooms.audit.newest()  # strangers may ask, so it costs the same however many records there are
    except MdgError:
        return False
    return True


async def details(rooms: Rooms) -> Mapping[str, object]:
    """Health for operators."""
    return {
        "ready": await ready(rooms),
        "version": __version__,
        "started": STARTED.isoformat(timespec="seconds"),
        "identities": "identity.csv is being read" if rooms.identities.awaited else "in force",
        "audit_records": await rooms.audit.count(),
        "problems": len(await problems(rooms)),
        "scanning": any(source.scanning for source in rooms.sources if isinstance(source, Watches)),
        "jobs": await rooms.jobs.counts(),
        "sandbox": rooms.settings.sandbox,
    }


async def problems(rooms: Rooms) -> Sequence[IndexProblem]:
    """Every file that is not served and every study that cannot be found, as `mdg index --problems` lists them."""
    async with rooms.store.read() as connection:
        files = await file_problems(connection, rooms.settings.custodian)
    return [*files, *await rooms.identities.problems()]
