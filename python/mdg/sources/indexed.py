"""The half that every indexed source shares: answering from the rows that its scan has settled (`mdg.store.index`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
from sqlalchemy import ColumnElement, Row, and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import NotFound
from mdg.model.identity import HpiO, LocalId
from mdg.model.imaging import Patient, Series, StoredInstance, Study, StudyKey
from mdg.model.located import Located
from mdg.model.query import Field, OneOf, Query, matches
from mdg.sources.study_version import Terms, settle
from mdg.store import Store, index
from mdg.store.index import Part, instances, of_study, patients, series, studies, versions
from mdg.store.schema import moment

AT_ONCE = 2
"""Searches that read all studies of a patient at once. Such a search is mostly work of this process (0.3 s for 3,000
studies), so many at once would all be late, where a few in turn are answered."""


class IndexedSource:
    """Reads of one source's part of the index; `name` is the value of its `source` columns."""

    def __init__(self, store: Store, custodian: HpiO, name: str, terms: Terms) -> None:
        self.name = name
        self._terms = terms
        self._store = store
        self._custodian = custodian
        self._part = Part(custodian, self.name)
        self._searches = anyio.CapacityLimiter(AT_ONCE)

    async def find(self, query: Query) -> Sequence[Study]:
        """All matching studies whose files are here and agree on whose they are, newest first."""
        exact = _exact(query)
        if exact:
            found = await self._fit(query.patients, *exact)
        else:
            async with self._searches:
                found = await self._fit(query.patients)
        return [study for study in found if matches(query, study)]

    async def patient(self, local: LocalId) -> Patient | None:
        """What the study of this patient that settled last says of them; None when none of their studies is here."""
        here = select(studies.c.uid).where(
            self._mine, studies.c.issuer == patients.c.issuer, studies.c.patient == patients.c.value
        )
        statement = select(patients).where(
            patients.c.custodian == self._custodian,
            patients.c.issuer == local.issuer,
            patients.c.value == local.value,
            here.exists(),
        )
        async with self._store.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        if row is None:
            return None
        return Patient(
            id=row.id,
            local=LocalId(row.value, row.issuer),
            family=row.family,
            given=tuple(row.given),
            birth_date=row.birth_date,
            sex=row.sex,
            prefix=row.prefix,
            suffix=row.suffix,
        )

    async def owner(self, uid: str) -> LocalId | None:
        """The patient of a study whose files are here and agree on whose they are."""
        statement = select(studies.c.patient, studies.c.issuer).where(
            self._mine, studies.c.uid == uid, studies.c.quarantine.is_(None)
        )
        async with self._store.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else LocalId(row.patient, row.issuer)

    async def suspect(self, located: Located) -> None:
        """The object becomes a problem, so that the next scan reads it although its version may be the same."""
        await self._store.write(partial(index.suspect, part=self._part, key=located.key))

    async def checks(self, located: Located, start: int, end: int) -> bytes:
        """The check values of the pieces that hold the bytes [start, end) of an object; none for an object of one
        piece, which its SHA-256 proves."""
        async with self._store.read() as connection:
            first, last = start // index.PIECE, (end - 1) // index.PIECE
            return await index.check_values(connection, self._part, located.key, first, last)

    async def instances(self, key: StudyKey) -> Sequence[StoredInstance]:
        """One file for each SOPInstanceUID of exactly this version."""
        columns = (instances.c[name] for name in ("series", "uid", "key", "version", "size", "sha256"))
        statement = (
            select(*columns)
            .where(self._part.of(instances), instances.c.study == key.uid)
            .order_by(instances.c.series, instances.c.uid, instances.c.key)
        )
        async with self._store.read() as connection:
            study = next(iter(await self._studies(connection, studies.c.uid == key.uid)), None)
            if study is None or study.key != key:
                raise NotFound(reason="version")
            rows = (await connection.execute(statement)).all()
        files = {row.uid: self._stored(row) for row in reversed(rows)}
        return list(reversed(files.values()))

    async def settle(self, uids: Sequence[str]) -> int:
        """Makes the indexed objects of each study a version of it, if they have changed, with its event; all in one
        transaction. The number of new versions."""

        async def work(connection: AsyncConnection) -> int:
            keys = [await settle(connection, self._part, uid, self._terms) for uid in uids]
            return len(keys) - keys.count(None)

        return await self._store.write(work)

    @property
    def _mine(self) -> ColumnElement[bool]:
        """Studies of this source that still have files."""
        return and_(self._part.of(studies), studies.c.instances > 0)

    async def _fit(self, patients: Sequence[LocalId], *which: ColumnElement[bool]) -> list[Study]:
        """Studies of these patients that may be shown. Whose a study is stands in the condition by which it is looked
        up: one that is hidden costs what one that is absent costs."""
        if not patients:
            return []
        owner = tuple_(studies.c.issuer, studies.c.patient).in_([(local.issuer, local.value) for local in patients])
        async with self._store.read() as connection:
            return await self._studies(connection, and_(owner, studies.c.quarantine.is_(None), *which))

    async def _studies(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> list[Study]:
        joined = studies.join(
            patients,
            and_(
                patients.c.custodian == studies.c.custodian,
                patients.c.issuer == studies.c.issuer,
                patients.c.value == studies.c.patient,
            ),
        ).join(versions, of_study)
        statement = (
            select(studies, patients.c.id.label("patient_id"), versions.c.settled)
            .select_from(joined)
            .where(self._mine, condition)
            .order_by(studies.c.started.desc().nulls_last(), studies.c.uid)
        )
        found = (await connection.execute(statement)).all()
        parts: dict[str, list[Series]] = {row.uid: [] for row in found}
        statement = (  # asked although nothing may have been found, so that the number of statements tells nothing
            select(series)
            .where(self._part.of(series), series.c.study.in_(list(parts)))
            .order_by(series.c.number.nulls_last(), series.c.uid)
        )
        for row in await connection.execute(statement):
            parts[row.study].append(_series(row))
        return [self._study(row, parts[row.uid]) for row in found]

    def _stored(self, row: Row[Any]) -> StoredInstance:
        located = Located(self.name, row.key, row.version, row.size, row.sha256)
        return StoredInstance(sop_instance_uid=row.uid, series_uid=row.series, located=located)

    def _study(self, row: Row[Any], parts: list[Series]) -> Study:
        return Study(
            key=StudyKey(self._custodian, row.uid, row.version),
            id=row.id,
            patient=LocalId(row.patient, row.issuer),
            patient_id=row.patient_id,
            started=row.started,
            description=row.description,
            accession=row.accession,
            accession_issuer=row.accession_issuer,
            modalities=tuple(row.modalities),
            series=tuple(parts),
            instances=row.instances,
            bytes=row.bytes,
            updated=moment(row.settled),
            labels=tuple(row.labels),
        )


def _exact(query: Query) -> list[ColumnElement[bool]]:
    """The filters of `query` that few studies pass, in SQL."""
    columns = {Field.STUDY_UID: studies.c.uid, Field.LOGICAL_ID: studies.c.id}
    return [
        columns[one.field].in_(sorted(one.values))
        for one in query.filters
        if isinstance(one, OneOf) and one.field in columns and one.values is not None
    ]


def _series(row: Row[Any]) -> Series:
    return Series(
        uid=row.uid,
        modality=row.modality,
        number=row.number,
        description=row.description,
        body_part=row.body_part,
        laterality=row.laterality,
        instances=row.instances,
    )
