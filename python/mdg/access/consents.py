"""The consent records of patients, as an operator has entered them (IEF A4.5): what each decision is asked with.

The table is the only place of a record and each decision reads it: a record acts in every process that shares the
database from its COMMIT on, and a restart changes nothing. A record that is ended or replaced leaves the table; the
audit says that it was there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from sqlalchemy import Column, Index, Row, Select, Table, Text, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.access.rules.consent import patient_of
from mdg.errors import Conflict, NotFound
from mdg.model.identity import HpiO, Ihi
from mdg.model.request import Consent
from mdg.store import Store
from mdg.store.schema import Document, Number, custodian, metadata, microseconds, moment

MOST = 100
"""Records of one patient: each decision about the patient reads them all."""

CONSENTS = Table(
    "consents",
    metadata,
    custodian(),
    Column("id", Text, primary_key=True),
    Column("ihi", Text, nullable=False),
    Column("recorded", Number, nullable=False),
    Column("content", Document, nullable=False),
    Index(None, "custodian", "ihi"),
)
"""`content` is a FHIR R4 Consent as it was entered, `recorded` when that was (UTC)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record: whose it is and since when it counts (UTC)."""

    consent: Consent
    ihi: Ihi
    since: datetime


Also: TypeAlias = Callable[[AsyncConnection, Recorded], Awaitable[object]]
"""What is written in the same transaction: the audit record of the change."""


class Consents(Protocol):
    """Gives the consent records of a patient. `Unavailable` when they cannot be known: then nothing is decided."""

    async def of(self, ihi: Ihi) -> Sequence[Consent]: ...


class RecordedConsents:
    """The consent records that one custodian keeps."""

    def __init__(self, store: Store, custodian: HpiO, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._custodian = custodian
        self._clock = clock

    async def of(self, ihi: Ihi) -> Sequence[Consent]:
        """The records of this patient, the oldest first. `Unavailable` without the store."""
        return [one.consent for one in await self.listed(ihi)]

    async def listed(self, ihi: Ihi) -> list[Recorded]:
        """The same, with the time of each."""
        wanted = self._where(CONSENTS.c.ihi == ihi).order_by(CONSENTS.c.recorded, CONSENTS.c.id)
        async with self._store.read() as connection:
            return [_recorded(row) for row in await connection.execute(wanted)]

    async def record(self, content: Mapping[str, object], also: Also, *, replaces: str | None = None) -> Recorded:
        """Keeps a FHIR Consent, together with the record that `also` writes, in place of the one with the id
        `replaces`. `NotUnderstood` for one that could only be read as a denial of everything, `NotFound` if none has
        that id, `Conflict` when it is another patient's, or the patient has MOST."""
        ihi = patient_of(content)
        made = Recorded(Consent(replaces or str(uuid4()), content), ihi, self._clock())

        async def keep(connection: AsyncConnection) -> Recorded:
            if replaces is not None:
                if (await self._end(connection, replaces)).ihi != ihi:
                    raise Conflict("the consent that it replaces is another patient's", reason="another-patient")
            elif (await connection.execute(self._count(ihi))).scalar_one() >= MOST:
                raise Conflict(f"the patient has {MOST} consents; end those that no longer count", reason="most")
            row = {"id": made.consent.id, "ihi": ihi, "recorded": microseconds(made.since), "content": dict(content)}
            await connection.execute(insert(CONSENTS).values(custodian=self._custodian, **row))
            await also(connection, made)
            return made

        return await self._store.write(keep)

    async def end(self, id_: str, also: Also) -> None:
        """Ends a record, together with the record that `also` writes. `NotFound` if none has this id."""

        async def end(connection: AsyncConnection) -> None:
            await also(connection, await self._end(connection, id_))

        await self._store.write(end)

    async def _end(self, connection: AsyncConnection, id_: str) -> Recorded:
        found = (await connection.execute(self._where(CONSENTS.c.id == id_))).first()
        if found is None:
            raise NotFound(reason="no-such-consent")
        gone = delete(CONSENTS).where(CONSENTS.c.custodian == self._custodian, CONSENTS.c.id == id_)
        await connection.execute(gone)
        return _recorded(found)

    def _where(self, *which: Any) -> Select[Any]:
        return select(CONSENTS).where(CONSENTS.c.custodian == self._custodian, *which)

    def _count(self, ihi: Ihi) -> Select[Any]:
        mine = (CONSENTS.c.custodian == self._custodian, CONSENTS.c.ihi == ihi)
        return select(func.count()).select_from(CONSENTS).where(*mine)


def _recorded(row: Row[Any]) -> Recorded:
    return Recorded(Consent(row.id, row.content), Ihi(row.ihi), moment(row.recorded))
