"""In a sandbox without identity.csv every patient gets a made-up IHI, so that a first try finds something.

The rows say `sandbox` as their source. A patient who has an IHI from anywhere keeps it; the made-up one of a local id
is always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.identity.enrichment import Claim, identities, replace_csv
from mdg.jobs.events import identified
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.sandbox.identifiers import made_up
from mdg.store import Store
from mdg.store.index import patients

SOURCE = "sandbox"


async def make_up_identities(store: Store, custodian: HpiO) -> Sequence[Claim]:
    """Gives each indexed patient without an IHI a made-up one; the claims made so far, new or not."""
    known = select(identities.c.issuer, identities.c.patient).where(
        identities.c.custodian == custodian, identities.c.source != SOURCE
    )
    everybody = select(patients.c.issuer, patients.c.value).where(patients.c.custodian == custodian)
    async with store.read() as connection:
        have = {LocalId(row.patient, row.issuer) for row in await connection.execute(known)}
        locals_ = [LocalId(row.value, row.issuer) for row in await connection.execute(everybody)]
    today = datetime.now(UTC).date()
    claims = [Claim(local, _made_up(local), SOURCE, today) for local in sorted(set(locals_) - have)]

    async def keep(connection: AsyncConnection) -> None:
        await identified(connection, await replace_csv(connection, custodian, claims))

    await store.write(keep)
    return claims


async def made_up_ihi(store: Store, custodian: HpiO) -> Ihi | None:
    """One of the made-up IHIs, which belong to no real person and so may be shown; None if no made-up IHI is known.

    A row of identity.csv may name `sandbox` as its source too, so the IHI itself must be the made-up one."""
    made = select(identities.c.issuer, identities.c.patient, identities.c.ihi).where(
        identities.c.custodian == custodian, identities.c.source == SOURCE
    )
    async with store.read() as connection:
        rows = (await connection.execute(made.order_by(identities.c.ihi))).all()
    return next((Ihi(row.ihi) for row in rows if row.ihi == _made_up(LocalId(row.patient, row.issuer))), None)


def _made_up(local: LocalId) -> Ihi:
    return made_up(Ihi, f"{local.issuer}\n{local.value}")
