"""A study settles: what its files say becomes its study, series and patient rows, its identity claims, and, when its
content changed, a new version with an event and the jobs that follow, all in one transaction.

Rows are a function of the indexed files alone, whatever the order in which they were read, so a scan that was killed
and resumed ends like one that was not.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import ColumnElement, Row, Text, and_, cast, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.identity.enrichment import JMIX, Claim, claimed, replace_study
from mdg.jobs.events import SETTLED, happened, identified
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.sources import facts
from mdg.store.index import (
    DUPLICATE_INSTANCE,
    MIXED_PATIENTS,
    Part,
    instances,
    of_study,
    patients,
    series,
    studies,
    unsettled,
    versions,
)
from mdg.store.schema import microseconds

_WHOSE = ("issuer", "patient", "quarantine")
"""Columns of a study that say whose it is, and whether that is in doubt."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a service decides about facts that files leave open: who issued an unnamed PatientID, and in which zone its
    times are."""

    default_issuer: str
    time_zone: ZoneInfo


async def settle(
    connection: AsyncConnection, part: Part, study: str, terms: Terms, envelope_ihis: Collection[Ihi] = ()
) -> StudyKey | None:
    """Settles one study of `part` in the caller's transaction; its key when its content changed, else None.
    `envelope_ihis` are what the metadata of the envelope named, for a study that arrived in one."""
    await connection.execute(delete(unsettled).where(part.of(unsettled), unsettled.c.study == study))
    ours = and_(part.of(instances), instances.c.study == study)
    columns = (instances.c[name] for name in ("series", "uid", "size", "sha256", "key"))
    statement = select(*columns).where(ours).order_by(instances.c.key)
    files = (await connection.execute(statement)).all()
    said = await _said(connection, ours)
    one = and_(part.of(studies), studies.c.uid == study)
    settled = select(*(studies.c[name] for name in ("version", *_WHOSE)), versions.c.content)
    settled = settled.join(versions, of_study).where(one)
    before = (await connection.execute(settled)).one_or_none()
    if not files and before is None:
        return None
    parts = _series(files, said)
    values, claims = _facts(files, said, parts, terms, envelope_ihis) if files else (_EMPTY, [])
    content = _content(files)
    changed = before is None or before.content != content
    if changed:
        values["version"] = await _new_version(connection, part, study, content)
    if files:
        owner = LocalId(values["patient"], values["issuer"])
        await _keep_patient(connection, part.custodian, owner, [row for _, row, _ in said])
    if before is None:
        row = part.row | {"uid": study, "id": secrets.token_hex(16), "labels": ["N"]}
        await connection.execute(insert(studies).values(row | values))
    else:
        await connection.execute(update(studies).where(one).values(values))
    await connection.execute(delete(series).where(part.of(series), series.c.study == study))
    if files:
        await connection.execute(insert(series), [part.row | {"study": study} | values for values in parts])
    if before is not None and not changed:
        # The same objects may be somebody else's now: after a rebuild under another default issuer, or because a second
        # envelope says whose they are.
        was = {name: getattr(before, name) for name in _WHOSE}
        others = await claimed(connection, part.custodian, part.source, study) != {claim.ihi for claim in claims}
        if others or was != {name: values.get(name, value) for name, value in was.items()}:
            key = StudyKey(part.custodian, study, before.version)
            await identified(connection, [key])
    await replace_study(connection, part.custodian, part.source, study, claims)
    if not changed:
        return None
    key = StudyKey(part.custodian, study, values["version"])
    await happened(connection, SETTLED, [key])
    return key


Said: TypeAlias = tuple[str, facts.Facts, str]
"""SeriesInstanceUID, what is kept of a header, and the first file that says so."""


async def _said(connection: AsyncConnection, ours: ColumnElement[bool]) -> list[Said]:
    """Each different thing that the files of a series say, in the order of the files: a thousand slices say one. Files
    have the order of their keys, and the first one speaks for the study."""
    kept = cast(instances.c.facts, Text)  # PostgreSQL compares no JSON
    statement = (
        select(instances.c.series, kept, func.min(instances.c.key))
        .where(ours)
        .group_by(instances.c.series, kept)
        .order_by(func.min(instances.c.key))
    )
    return [(uid, orjson.loads(text), path) for uid, text, path in await connection.execute(statement)]


async def _new_version(connection: AsyncConnection, part: Part, study: str, content: bytes) -> int:
    """Writes the row of the next version; its number."""
    newest = select(func.coalesce(func.max(versions.c.version), 0)).where(
        versions.c.custodian == part.custodian, versions.c.uid == study
    )
    version: int = (await connection.execute(newest)).scalar_one() + 1
    row = {"uid": study, "version": version, "content": content, "settled": microseconds(datetime.now(UTC))}
    await connection.execute(insert(versions).values(part.row | row))
    return version


def _content(files: Sequence[Row[Any]]) -> bytes:
    """SHA-256 over what the version consists of: every object with its series and its digest."""
    digest = hashlib.sha256()
    for line in sorted({f"{row.series} {row.uid} {row.sha256.hex()}\n" for row in files}):
        digest.update(line.encode())
    return digest.digest()


_EMPTY: dict[str, Any] = {"instances": 0, "bytes": 0, "quarantine": None, "evidence": []}


def _facts(
    files: Sequence[Row[Any]],
    said: Sequence[Said],
    parts: Sequence[dict[str, Any]],
    terms: Terms,
    envelope_ihis: Collection[Ihi],
) -> tuple[dict[str, Any], list[Claim]]:
    """(values of the study row, what the files say about the patient's IHI). Mixed patients prove nothing about any."""
    rows = [row for _, row, _ in said]
    by_file = [(facts.whose([row], terms.default_issuer), path) for _, row, path in reversed(said)]
    people = {local: path for whose, path in by_file for local in whose.patients}
    owner = facts.local_id(rows[0], terms.default_issuer)
    objects = {row.uid: row for row in reversed(files)}
    copies = [row for row in files if objects[row.uid].sha256 != row.sha256]
    quarantine, evidence = None, []
    if len(people) > 1:
        quarantine, evidence = MIXED_PATIENTS, sorted(people.values())[:2]
    elif copies:
        quarantine = DUPLICATE_INSTANCE
        evidence = [row.key for row in (objects[copies[0].uid], copies[0])]
    named: dict[tuple[Ihi, str], str | None]
    named = {(ihi, f"dicom-{form}"): path for whose, path in by_file for ihi, form in whose.claims}
    named |= {(ihi, JMIX): None for ihi in envelope_ihis}
    claims = [Claim(owner, ihi, by, file=named[ihi, by]) for ihi, by in sorted(named)] if len(people) == 1 else []
    values = {
        "issuer": owner.issuer,
        "patient": owner.value,
        "started": facts.started(rows, terms.time_zone),
        "description": facts.first(rows, "StudyDescription"),
        "accession": facts.first(rows, "AccessionNumber"),
        "accession_issuer": facts.first(rows, "IssuerOfAccessionNumber"),
        "modalities": sorted({values["modality"] for values in parts}),
        "instances": len(objects),
        "bytes": sum(row.size for row in objects.values()),
        "quarantine": quarantine,
        "evidence": evidence,
    }
    return values, claims


def _series(files: Sequence[Row[Any]], said: Sequence[Said]) -> list[dict[str, Any]]:
    """The values of each series row."""
    counts = Counter(uid for uid, _ in {(row.series, row.uid) for row in files})
    parts: dict[str, list[facts.Facts]] = {}
    for uid, row, _ in said:
        parts.setdefault(uid, []).append(row)
    found = []
    for uid, rows in parts.items():
        found.append(
            {
                "uid": uid,
                "modality": facts.modality(facts.first(rows, "Modality")),
                "number": facts.series_number(facts.first(rows, "SeriesNumber")),
                "description": facts.first(rows, "SeriesDescription"),
                "body_part": facts.first(rows, "BodyPartExamined"),
                "laterality": facts.laterality(facts.first(rows, "Laterality")),
                "instances": counts[uid],
            }
        )
    return found


async def _keep_patient(
    connection: AsyncConnection, custodian: HpiO, local: LocalId, rows: Sequence[facts.Facts]
) -> None:
    """The patient row: a new random id at first sight, then the demographics of the study that settled last."""
    name = facts.name(facts.first(rows, "PatientName"))
    born = facts.day(facts.first(rows, "PatientBirthDate"))
    values = {
        "family": name.family,
        "given": list(name.given),
        "prefix": name.prefix,
        "suffix": name.suffix,
        "birth_date": born.isoformat() if born else None,
        "sex": facts.sex(facts.first(rows, "PatientSex")),
    }
    who = {"custodian": custodian, "issuer": local.issuer, "value": local.value}
    one = and_(*(patients.c[name] == value for name, value in who.items()))
    if not (await connection.execute(update(patients).where(one).values(values))).rowcount:
        await connection.execute(insert(patients).values(who | {"id": secrets.token_hex(16)} | values))
