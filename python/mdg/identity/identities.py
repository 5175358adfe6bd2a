"""From IHI to local patient ids and back, and which studies cannot be shown because of whose they are."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from anyio import to_thread
from sqlalchemy import Row, Select, and_, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import InputOutput, Unavailable
from mdg.identity import enrichment, identity_csv
from mdg.identity.enrichment import identities
from mdg.identity.identity_csv import CsvReport, IdentityTable, Line
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.store import Store
from mdg.store.index import DUPLICATE_INSTANCE, MIXED_PATIENTS, IndexProblem, patients, studies

NO_IHI = "no-ihi"
TWO_IHIS = "two-ihis"

WHAT_TO_DO = {
    NO_IHI: "study has no IHI, so it cannot be found: add a line to identity.csv with the PatientID of its files, the "
    "issuer {}, the IHI, who confirmed it and when",
    TWO_IHIS: "two different IHIs are known for the patient of the study, so nothing of this patient is shown: correct "
    "identity.csv or the files; they are named in {}",
    MIXED_PATIENTS: "the files of the study name different patients, so it is not shown: separate or correct the "
    "files, among them {}",
    DUPLICATE_INSTANCE: "different files of the study carry the same SOPInstanceUID, so it is not shown: remove the "
    "wrong ones, among them {}",
}
"""Every reason that keeps an indexed study from being discoverable, and the way out. The place is for what `_about`
names."""
_SAME = and_(
    studies.c.custodian == identities.c.custodian,
    studies.c.issuer == identities.c.issuer,
    studies.c.patient == identities.c.patient,
)


Announce: TypeAlias = Callable[[AsyncConnection, Sequence[StudyKey]], Awaitable[None]]
"""Writes, in the caller's transaction, that other persons are meant by the patients of these studies."""


class Identities:
    """The identities that one custodian knows. Doubt is never resolved here: a patient with two IHIs has none.

    `announce` is called in the transaction that takes an identity.csv, with every study whose person is another one by
    it; without it nobody hears of that."""

    def __init__(
        self, store: Store, custodian: HpiO, default_issuer: str = "", announce: Announce | None = None
    ) -> None:
        self._store = store
        self._custodian = custodian
        self._default_issuer = default_issuer
        self._announce = announce
        self._awaited = False

    @property
    def awaited(self) -> bool:
        """Whether the identity.csv of this start is still being read: until it is in force nobody is looked up, because
        an answer by an older table, or by none, would be believed."""
        return self._awaited

    async def expect(self, path: Path) -> None:
        """From now on nobody is looked up until `load_csv` has taken `path`, unless it is in force already. Errors as
        `holds`."""
        self._awaited = not await self.holds(path)

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
        async with self._reading() as connection:
            return [LocalId(row.patient, row.issuer) for row in await connection.execute(statement)]

    async def ihi_of(self, local: LocalId) -> Ihi | None:
        """The only IHI of a local patient; None when there is none or more than one. `Unavailable` as above."""
        async with self._reading() as connection:
            found = await enrichment.people(connection, self._custodian, local)
        return next(iter(found)) if len(found) == 1 else None

    async def people(self, uid: str) -> frozenset[Ihi]:
        """Every IHI that is claimed for the patient of a study, in doubt or not, whether its files are still here or
        gone. `Unavailable` as above."""
        claimed = (  # without DISTINCT, for which SQLite would read all identities in the order of their IHIs
            select(identities.c.ihi)
            .join(studies, _SAME)
            .where(identities.c.custodian == self._custodian, studies.c.uid == uid)
        )
        async with self._reading() as connection:
            return frozenset(Ihi(value) for value in (await connection.execute(claimed)).scalars())

    async def of_study(self, *, uid: str | None = None, id_: str | None = None) -> tuple[str | None, frozenset[Ihi]]:
        """The StudyInstanceUID of a study, by its UID or logical id, and every IHI that is claimed for its patient, in
        doubt or not. One statement, whether there is such a study or not. `Unavailable` as above."""
        claimed = (
            select(studies.c.uid, identities.c.ihi)
            .outerjoin(identities, _SAME)
            .where(studies.c.custodian == self._custodian, studies.c.uid == uid if uid else studies.c.id == id_)
        )
        async with self._reading() as connection:
            found = (await connection.execute(claimed)).all()
        return next((row.uid for row in found), None), frozenset(Ihi(row.ihi) for row in found if row.ihi is not None)

    async def of_patient(self, id_: str) -> frozenset[Ihi]:
        """Every IHI that is claimed for the Patient of this logical id. `Unavailable` as above."""
        claimed = (
            select(identities.c.ihi)
            .join(
                patients,
                and_(
                    patients.c.custodian == identities.c.custodian,
                    patients.c.issuer == identities.c.issuer,
                    patients.c.value == identities.c.patient,
                ),
            )
            .where(identities.c.custodian == self._custodian, patients.c.id == id_)
        )
        async with self._reading() as connection:
            return frozenset(Ihi(value) for value in (await connection.execute(claimed)).scalars())

    async def holds(self, path: Path) -> bool:
        """Whether the content of this identity.csv is in force. `InputOutput` when the file cannot be read,
        `Unavailable` as above."""
        known = await self._file()
        return known is not None and known.digest == await to_thread.run_sync(identity_csv.digest, path)

    async def load_csv(self, path: Path) -> CsvReport:
        """Replaces all rows of identity.csv by those of `path`, or none; a file that is the same as last time is not
        even parsed, however many lines it has. `Refused` E_IDENTITY names each bad line,
        `InputOutput` when the file cannot be read, `Unavailable` when the store cannot keep it."""
        digest = await to_thread.run_sync(identity_csv.digest, path)
        known = await self._file()
        if known is not None and known.digest == digest:
            self._awaited = False
            return CsvReport(known.rows, known.patients, known.ihis)
        table = await to_thread.run_sync(identity_csv.read, path)
        try:
            if await to_thread.run_sync(identity_csv.digest, path) != digest:  # it would name lines not in force
                raise InputOutput(str(path), "changed while it was read; load it again")
            taken = await self._take(path, table, digest)
            self._awaited = False
            return taken
        except sqlite3.Error as error:
            raise InputOutput(str(path), identity_csv.NO_ROOM) from error
        finally:
            await to_thread.run_sync(table.close)

    async def _take(self, path: Path, table: IdentityTable, digest: bytes) -> CsvReport:
        """Puts the table in force: what is already there is compared beside the writer, and only what differs is
        written, in one transaction."""
        report = await to_thread.run_sync(table.report)
        async with self._store.read() as connection:
            seen = (await connection.execute(self._wanted_file())).one_or_none()
            async for page in enrichment.lines_in_force(connection, self._custodian):
                await to_thread.run_sync(table.compare, page)

        async def keep(connection: AsyncConnection) -> None:
            now = (await connection.execute(self._wanted_file())).one_or_none()
            if now is not None and now.digest == digest:
                return  # another process has put the same table in force meanwhile
            if now != seen:
                raise InputOutput(str(path), "another process has loaded a table meanwhile; load it again")
            gone, come = _pages(table.gone()), _pages(table.come())
            changed = await enrichment.change_csv(connection, self._custodian, gone, come)
            if self._announce is not None:
                await self._announce(connection, changed)
            row = {"custodian": self._custodian, "digest": digest, **asdict(report)}
            await connection.execute(insert(enrichment.files).values(row))

        await self._store.write(keep)
        return report

    async def unmatched(self) -> int:
        """Lines of the identity.csv in use whose patient has no study here."""
        file = await self._file()
        if file is None:
            return 0
        here = (
            select(studies.c.issuer, studies.c.patient)
            .distinct()
            .where(studies.c.custodian == self._custodian, studies.c.instances > 0)
            .subquery()
        )
        matched = (
            select(func.count())
            .select_from(here)
            .join(identities, and_(identities.c.issuer == here.c.issuer, identities.c.patient == here.c.patient))
            .where(identities.c.custodian == self._custodian, identities.c.origin == enrichment.CSV)
        )
        async with self._store.read() as connection:
            found: int = (await connection.execute(matched)).scalar_one()
        return int(file.rows) - found

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to look somebody up by. `Unavailable` also while a table is awaited."""
        if self._awaited:
            raise Unavailable("identity.csv is being read; try again in a few seconds", reason="identities")
        async with self._store.read() as connection:
            yield connection

    async def _file(self) -> Row[Any] | None:
        """What is known of the identity.csv in use."""
        async with self._store.read() as connection:
            found: Row[Any] | None = (await connection.execute(self._wanted_file())).one_or_none()
        return found

    def _wanted_file(self) -> Select[Any]:
        return select(enrichment.files).where(enrichment.files.c.custodian == self._custodian)

    async def problems(self) -> Sequence[IndexProblem]:
        """Every indexed study that cannot be found, why, and what to do. Names studies and files, never patients."""
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
            select(studies, ihis.label("ihis"))
            .where(studies.c.custodian == self._custodian, studies.c.instances > 0)
            .order_by(studies.c.uid, studies.c.source)
        )
        found = []
        async with self._store.read() as connection:
            for row in await connection.execute(statement):
                code = row.quarantine or {0: NO_IHI, 1: None}.get(row.ihis, TWO_IHIS)
                if code is not None:
                    about = await self._about(connection, code, row)
                    found.append(IndexProblem(code, f"study {row.uid}", WHAT_TO_DO[code].format(about)))
        return found

    async def _about(self, connection: AsyncConnection, code: str, study: Row[Any]) -> str:
        """What WHAT_TO_DO names: the issuer to write down, or where the contradiction can be seen."""
        if code == NO_IHI:
            return f"{study.issuer} (default_issuer)" if study.issuer == self._default_issuer else study.issuer
        if code != TWO_IHIS:
            return " and ".join(study.evidence)
        named = await connection.execute(
            select(identities.c.ihi, identities.c.file, identities.c.origin)
            .where(
                identities.c.custodian == self._custodian,
                identities.c.issuer == study.issuer,
                identities.c.patient == study.patient,
            )
            .order_by(identities.c.file)
        )
        places = {row.ihi: row.file or row.origin for row in named}
        return " and ".join(sorted(set(places.values())))


async def _pages(pages: Iterator[Sequence[Line]]) -> AsyncIterator[Sequence[Line]]:
    """Each page, fetched in a thread."""
    while page := await to_thread.run_sync(next, pages, None):
        yield page
