"""From IHI to local patient ids and back, and which studies cannot be shown because of whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread
from sqlalchemy import and_, exists, func, select

from mdg.identity import enrichment, identity_csv
from mdg.identity.enrichment import identities
from mdg.identity.identity_csv import CsvReport
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.store import Store
from mdg.store.index import DUPLICATE_INSTANCE, MIXED_PATIENTS, IndexProblem, studies

NO_IHI = "no-ihi"
TWO_IHIS = "two-ihis"

WHAT_TO_DO = {
    NO_IHI: "study has no IHI, so it cannot be found: add a line to identity.csv with the PatientID and issuer of its "
    "files, the IHI, who confirmed it and when",
    TWO_IHIS: "two different IHIs are known for the patient of the study, so nothing of this patient is shown: correct "
    "identity.csv or the files",
    MIXED_PATIENTS: "the files of the study name different patients, so it is not shown: separate or correct the files",
    DUPLICATE_INSTANCE: "different files of the study carry the same SOPInstanceUID, so it is not shown: remove the "
    "wrong ones",
}
"""Every reason that keeps an indexed study from being discoverable, and the way out."""


class Identities:
    """The identities that one custodian knows. Doubt is never resolved here: a patient with two IHIs has none."""

    def __init__(self, store: Store, custodian: HpiO) -> None:
        self._store = store
        self._custodian = custodian

    async def local_ids(self, ihi: Ihi) -> Sequence[LocalId]:
        """The local ids whose only IHI is `ihi`. `Unavailable` when the store does not answer."""
        other = identities.alias("other")
        doubt = exists().where(
            other.c.custodian == identities.c.custodian,
            other.c.issuer == identities.c.issuer,
            other.c.patient == identities.c.patient,
            other.c.ihi != ihi,
        )
        statement = (
            select(identities.c.issuer, identities.c.patient)
            .distinct()
            .where(identities.c.custodian == self._custodian, identities.c.ihi == ihi, ~doubt)
            .order_by(identities.c.issuer, identities.c.patient)
        )
        async with self._store.read() as connection:
            return [LocalId(row.patient, row.issuer) for row in await connection.execute(statement)]

    async def ihi_of(self, local: LocalId) -> Ihi | None:
        """The only IHI of a local patient; None when there is none or more than one. `Unavailable` as above."""
        async with self._store.read() as connection:
            found = await enrichment.people(connection, self._custodian, local)
        return next(iter(found)) if len(found) == 1 else None

    async def people(self, uid: str) -> frozenset[Ihi]:
        """Every IHI that is claimed for the patient of a study, in doubt or not, whether its files are still here or
        gone. `Unavailable` as above."""
        same = and_(
            studies.c.custodian == identities.c.custodian,
            studies.c.issuer == identities.c.issuer,
            studies.c.patient == identities.c.patient,
        )
        claimed = (  # without DISTINCT, for which SQLite would read all identities in the order of their IHIs
            select(identities.c.ihi)
            .join(studies, same)
            .where(identities.c.custodian == self._custodian, studies.c.uid == uid)
        )
        async with self._store.read() as connection:
            return frozenset(Ihi(value) for value in (await connection.execute(claimed)).scalars())

    async def load_csv(self, path: Path) -> CsvReport:
        """Replaces all rows of identity.csv by those of `path`, or none: `Refused` E_IDENTITY names each bad line,
        `InputOutput` when the file cannot be read, `Unavailable` when the store cannot keep it."""
        claims = await to_thread.run_sync(identity_csv.read, path)
        await self._store.write(lambda connection: enrichment.replace_csv(connection, self._custodian, claims))
        return CsvReport(len(claims), len({claim.local for claim in claims}), len({claim.ihi for claim in claims}))

    async def problems(self) -> Sequence[IndexProblem]:
        """Every indexed study that cannot be found, why, and what to do. Names studies, never patients."""
        ihis = (
            select(func.count(identities.c.ihi.distinct()))
            .where(
                identities.c.custodian == studies.c.custodian,
                identities.c.issuer == studies.c.issuer,
                identities.c.patient == studies.c.patient,
            )
            .scalar_subquery()
        )
        statement = (
            select(studies.c.uid, studies.c.quarantine, ihis.label("ihis"))
            .where(studies.c.custodian == self._custodian, studies.c.instances > 0)
            .order_by(studies.c.uid, studies.c.source)
        )
        found = []
        async with self._store.read() as connection:
            for row in await connection.execute(statement):
                code = row.quarantine or {0: NO_IHI, 1: None}.get(row.ihis, TWO_IHIS)
                if code is not None:
                    found.append(IndexProblem(code, f"study {row.uid}", WHAT_TO_DO[code]))
        return found
