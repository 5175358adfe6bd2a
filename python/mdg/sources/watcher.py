"""What a gateway does with the sources that announce settled studies: looks at all of them at the start, follows each
one from then on, and forgets those that left the settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import aclosing
from functools import partial

import anyio
import structlog
from sqlalchemy import select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import MdgError, Unavailable, reason
from mdg.model.identity import HpiO
from mdg.sources.scan import Progress, ScanReport
from mdg.sources.source import Finds, Watches
from mdg.sources.study_version import Terms, settle
from mdg.store import Store, index

LOG = structlog.get_logger(__name__)
PAUSE = 5.0
"""Seconds without another try after studies could not be settled."""


async def scan(sources: Iterable[Finds], progress: Progress | None = None, *, rebuild: bool = False) -> ScanReport:
    """Looks at everything in the sources that can be looked through, one after the other; what all of them did."""
    report = ScanReport()
    for source in sources:
        if isinstance(source, Watches):
            report.add(await source.scan(progress, rebuild=rebuild))
    return report


async def follow(source: Watches) -> None:
    """Settles what `source` announces, until it is cancelled. What cannot be settled now is announced again, and a
    source that fails is followed anew: a folder that nobody may look into must not end the gateway."""
    while True:
        try:
            async with aclosing(source.watch()) as announced:
                async for uids in announced:
                    await _settle(source, uids)
            return
        except (MdgError, OSError) as error:
            LOG.warning("source not followed", source=source.name, reason=reason(error), retry_in_s=PAUSE)
            await anyio.sleep(PAUSE)


async def _settle(source: Watches, uids: Sequence[str]) -> None:
    try:
        await source.settle(uids)
    except Unavailable as error:
        LOG.warning("studies not settled", source=source.name, reason=error.reason, retry_in_s=PAUSE)
        await anyio.sleep(PAUSE)


async def forget_others(store: Store, custodian: HpiO, kept: Collection[str], terms: Terms) -> None:
    """Forgets what was indexed of every source that is not among `kept`: its studies are gone, and the registry and the
    subscribers are told so. `Unavailable` when the store does not keep it."""
    tables = (index.studies, index.unsettled, index.problems)
    each = (select(table.c.source).where(table.c.custodian == custodian) for table in tables)
    async with store.read() as connection:
        found = set((await connection.execute(union(*each))).scalars())
    for name in sorted(found - set(kept)):
        await store.write(partial(_forget, part=index.Part(custodian, name), terms=terms))


async def _forget(connection: AsyncConnection, part: index.Part, terms: Terms) -> None:
    await index.forget(connection, part)
    waiting = select(index.unsettled.c.study).where(part.of(index.unsettled)).order_by(index.unsettled.c.study)
    for uid in (await connection.execute(waiting)).scalars().all():
        await settle(connection, part, uid, terms)
