"""What this gateway has told the registry, person by person, and because of which studies.

A change is written here before it is sent and marked when the registry has acknowledged it, so that after a crash or a
lost answer the same change is sent again under the same key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Column, ColumnElement, Table, Text, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.model.identity import HpiO, Ihi
from mdg.registry.record import TYPE, Record, Status
from mdg.store import Store
from mdg.store.schema import Number, metadata, microseconds
from mdg.store.schema import custodian as custodian_column

registrations = Table(
    "registrations",
    metadata,
    custodian_column(),
    Column("ihi", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("service_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("last_updated", Number),
    Column("acknowledged", Number),
)
"""The last change of each person: `key` is its Idempotency-Key, `acknowledged` when the registry had taken it (null: it
may not have), `last_updated` the time on the registry's own clock."""

registered_studies = Table(
    "registered_studies",
    metadata,
    custodian_column(),
    Column("study", Text, primary_key=True),
    Column("ihi", Text, primary_key=True),
)
"""Whom a study was about when it was last looked at: what a study no longer says must still be taken back."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry was last told of a person, or is being told while it is not `acknowledged`."""

    ihi: Ihi = field(repr=False)
    service_id: str
    status: Status
    key: str
    record_id: str = ""
    acknowledged: bool = False


class Registrations:
    """Those of one custodian. What changes a row takes the caller's transaction."""

    def __init__(self, store: Store, custodian: HpiO) -> None:
        self._store = store
        self._custodian = custodian

    async def of(self, ihi: Ihi) -> Registration | None:
        """The registration of a person; None when the registry was never told. `Unavailable` when the store does not
        answer."""
        async with self._store.read() as connection:
            row = (await connection.execute(select(registrations).where(self._one(ihi)))).one_or_none()
        if row is None:
            return None
        acknowledged = row.acknowledged is not None
        return Registration(ihi, row.service_id, Status(row.status), row.key, row.record_id, acknowledged)

    async def about(self, study: str) -> frozenset[Ihi]:
        """Whom the study with this UID was about when `keep_about` was last called for it."""
        known = select(registered_studies.c.ihi).where(self._because_of(study))
        async with self._store.read() as connection:
            return frozenset(Ihi(value) for value in (await connection.execute(known)).scalars())

    async def begin(self, connection: AsyncConnection, before: Registration | None, change: Registration) -> bool:
        """Keeps a change that is to be sent, if the last one of this person is `before` still: two processes never
        begin two. Whether it was so."""
        values = {
            "service_id": change.service_id,
            "status": change.status,
            "key": change.key,
            "record_id": change.record_id,
            "acknowledged": None,
        }
        if before is not None:
            same = and_(self._one(change.ihi), registrations.c.key == before.key)
            return bool((await connection.execute(update(registrations).where(same).values(values))).rowcount)
        if (await connection.execute(select(registrations.c.key).where(self._one(change.ihi)))).first() is not None:
            return False
        row = {"custodian": self._custodian, "ihi": change.ihi, "type": TYPE}
        await connection.execute(insert(registrations).values(row | values))
        return True

    async def acknowledge(self, connection: AsyncConnection, change: Registration, answer: Record | None) -> None:
        """Keeps what the registry answered to `change`; None when it knew nothing of what was to be removed."""
        values: dict[str, object] = {"acknowledged": microseconds(datetime.now(UTC))}
        if answer is not None:
            values |= {"record_id": answer.record_id, "last_updated": microseconds(answer.last_updated)}
        mine = and_(self._one(change.ihi), registrations.c.key == change.key)
        await connection.execute(update(registrations).where(mine).values(values))

    async def keep_about(self, connection: AsyncConnection, study: str, people: frozenset[Ihi]) -> None:
        """Keeps whom a study is about now."""
        await connection.execute(delete(registered_studies).where(self._because_of(study)))
        rows = [{"custodian": self._custodian, "study": study, "ihi": ihi} for ihi in sorted(people)]
        if rows:
            await connection.execute(insert(registered_studies), rows)

    async def forget(self, connection: AsyncConnection) -> None:
        """As if the registry had never been told anything."""
        for table in (registrations, registered_studies):
            await connection.execute(delete(table).where(table.c.custodian == self._custodian))

    def _one(self, ihi: Ihi) -> ColumnElement[bool]:
        who = registrations.c.custodian == self._custodian
        return and_(who, registrations.c.ihi == ihi, registrations.c.type == TYPE)

    def _because_of(self, study: str) -> ColumnElement[bool]:
        return and_(registered_studies.c.custodian == self._custodian, registered_studies.c.study == study)
