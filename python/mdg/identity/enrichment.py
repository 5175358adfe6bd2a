"""The enrichment table: local patient id to IHI, each row with who said so (spec/patient-identity 3).

Rows that came from a study are kept under that study, so that a corrected or removed file takes its claim with it; rows
of `identity.csv` belong to no study and are replaced as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Index,
    LargeBinary,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.identity import identity_csv
from mdg.identity.identity_csv import Line
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.store.index import studies
from mdg.store.schema import Number, metadata
from mdg.store.schema import custodian as custodian_column

CSV = "identity.csv"
"""The origin of what the operator has confirmed."""
JMIX = "jmix"
"""The source of what the metadata of an envelope said."""
AT_ONCE = 500
"""Patients that one statement names or adds."""

_OF_A_STUDY = text("study <> ''")

identities = Table(
    "identities",
    metadata,
    custodian_column(),
    Column("issuer", Text, primary_key=True),
    Column("patient", Text, primary_key=True),
    Column("ihi", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("study", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("verified", Text),
    Column("file", Text),
    Index(None, "custodian", "ihi", "issuer", "patient"),
    Index(None, "custodian", "origin", "study", sqlite_where=_OF_A_STUDY, postgresql_where=_OF_A_STUDY),
    sqlite_with_rowid=False,
)
"""`origin` is `identity.csv` or the name of the image source whose `study` made the claim. `source` is who says so: the
column of identity.csv, `dicom-1` to `dicom-5` (spec/patient-identity 2), or `jmix`.
`verified` is `YYYY-MM-DD`. `file` is the path of the first file of the study that says so.
The key answers who a patient is and the first index who a person is, each alone and in order, so that no planner has a
reason to read the table instead. Rows of `identity.csv`, of which there may be millions, are in no other index."""


_SHARED = (identities.c.custodian, identities.c.origin, identities.c.study)
_LINE = (identities.c.issuer, identities.c.patient, identities.c.ihi, identities.c.source, identities.c.verified)
"""The columns of a row of `identity.csv`: what all rows share, and the line."""

files = Table(
    "identity_files",
    metadata,
    custodian_column(),
    Column("digest", LargeBinary, nullable=False),
    Column("rows", Number, nullable=False),
    Column("patients", Number, nullable=False),
    Column("ihis", Number, nullable=False),
)
"""The identity.csv that was read last: its SHA-256, and how many rows, patients and IHIs it has. There is no row while
the table of identities does not hold the content of that file."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that `local` is the person `ihi`; `file` is the path of the image file that says so."""

    local: LocalId
    ihi: Ihi
    source: str
    verified: date | None = None
    file: str | None = None


def whose(custodian: ColumnElement[str], study: ColumnElement[str], ihi: ColumnElement[str]) -> ColumnElement[bool]:
    """The condition that the study with the UID `study` is, in some source and beyond doubt, the person's: `ihi` is the
    one IHI of its patient."""
    other = identities.alias("other")

    def same_patient(of: FromClause) -> ColumnElement[bool]:
        return and_(
            of.c.custodian == studies.c.custodian, of.c.issuer == studies.c.issuer, of.c.patient == studies.c.patient
        )

    return (
        exists()
        .where(
            studies.c.custodian == custodian,
            studies.c.uid == study,
            studies.c.quarantine.is_(None),
            same_patient(identities),
            identities.c.ihi == ihi,
            ~exists().where(same_patient(other), other.c.ihi != identities.c.ihi).correlate(studies, identities),
        )
        .correlate_except(studies, identities)
    )


async def lines_in_force(connection: AsyncConnection, custodian: HpiO) -> AsyncIterator[Sequence[Line]]:
    """All rows of `identity.csv`, some thousand at a time, in the order of issuer and patient."""
    after = ("", "")
    wanted = (
        select(*_LINE)
        .where(
            identities.c.custodian == custodian,
            identities.c.origin == CSV,
            tuple_(identities.c.issuer, identities.c.patient) > tuple_(bindparam("issuer"), bindparam("patient")),
        )
        .order_by(identities.c.issuer, identities.c.patient)
        .limit(identity_csv.AT_ONCE)
    )
    while page := (await connection.execute(wanted, {"issuer": after[0], "patient": after[1]})).all():
        yield [(row[0], row[1], row[2], row[3], row[4]) for row in page]
        after = page[-1][0], page[-1][1]


async def change_csv(
    connection: AsyncConnection,
    custodian: HpiO,
    gone: AsyncIterator[Sequence[Line]],
    come: AsyncIterator[Sequence[Line]],
) -> list[StudyKey]:
    """The rows `gone` of `identity.csv` end and the rows `come` begin, in the caller's transaction.

    Returns: every study of a patient for whom another IHI stands there now. Registry and subscribers must hear of it,
    by what the caller writes in the same transaction."""
    of_a_study = select(studies.c.issuer, studies.c.patient).distinct().where(studies.c.custodian == custodian)
    # Only patients who have a study: a file of a million lines has few that anybody waits to hear of.
    known = {tuple(row) for row in await connection.execute(of_a_study)}
    before: set[tuple[str, ...]] = set()
    after: set[tuple[str, ...]] = set()
    # By the driver itself: SQLAlchemy makes a statement's parameters slower than the database takes them.
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    ended = " AND ".join(f"{column.name} = {mark}" for column in (*_SHARED, *_LINE[:4]))
    end = f"DELETE FROM identities WHERE {ended}"  # noqa: S608 -- names of columns
    columns = [column.name for column in (*_SHARED, *_LINE)]
    values = ", ".join([mark] * len(columns))
    begin = f"INSERT INTO identities ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 -- likewise
    shared = (str(custodian), CSV, "")
    async for lines in gone:
        before |= {line[:3] for line in lines if line[:2] in known}
        await connection.exec_driver_sql(end, [(*shared, *line[:4]) for line in lines])
    async for lines in come:
        after |= {line[:3] for line in lines if line[:2] in known}
        await connection.exec_driver_sql(begin, [(*shared, *line) for line in lines])
    await connection.execute(delete(files).where(files.c.custodian == custodian))
    changed = sorted({row[:2] for row in before ^ after})
    found: list[StudyKey] = []
    for start in range(0, len(changed), AT_ONCE):
        some = tuple_(studies.c.issuer, studies.c.patient).in_(changed[start : start + AT_ONCE])
        wanted = select(studies.c.uid, studies.c.version).where(studies.c.custodian == custodian, some)
        rows = await connection.execute(wanted.order_by(studies.c.uid))
        found += [StudyKey(custodian, row.uid, row.version) for row in rows]
    return found


async def replace_csv(connection: AsyncConnection, custodian: HpiO, claims: Iterable[Claim]) -> list[StudyKey]:
    """All rows of `identity.csv` become `claims`, a few, in the caller's transaction, as `change_csv` changes them."""
    wanted = {
        (one.local.issuer, one.local.value, str(one.ihi), one.source, one.verified.isoformat() if one.verified else "")
        for one in claims
    }
    now = {line async for page in lines_in_force(connection, custodian) for line in page}

    async def pages(lines: set[Line]) -> AsyncIterator[Sequence[Line]]:
        if lines:
            yield sorted(lines)

    return await change_csv(connection, custodian, pages(now - wanted), pages(wanted - now))


async def replace_study(
    connection: AsyncConnection, custodian: HpiO, origin: str, study: str, claims: Iterable[Claim]
) -> None:
    """All rows that the study with the UID `study` of the image source `origin` brought become `claims`."""
    await connection.execute(delete(identities).where(_brought(custodian, origin, study)))
    shared = {"custodian": custodian, "origin": origin, "study": study}
    rest = iter(claims)
    while some := [shared | _row(claim) for claim in islice(rest, AT_ONCE)]:
        await connection.execute(insert(identities), some)


async def claimed(connection: AsyncConnection, custodian: HpiO, origin: str, study: str) -> frozenset[Ihi]:
    """Every IHI that the study with the UID `study` of the image source `origin` names."""
    wanted = select(identities.c.ihi).where(_brought(custodian, origin, study))
    return frozenset(Ihi(value) for value in (await connection.execute(wanted)).scalars())


async def people(connection: AsyncConnection, custodian: HpiO, local: LocalId) -> frozenset[Ihi]:
    """Every IHI that is known for a local patient."""
    wanted = select(identities.c.ihi).where(
        identities.c.custodian == custodian, identities.c.issuer == local.issuer, identities.c.patient == local.value
    )
    return frozenset(Ihi(value) for value in (await connection.execute(wanted)).scalars())


def _brought(custodian: HpiO, origin: str, study: str) -> ColumnElement[bool]:
    """The condition that a row is one of the study's own; said as its index says it."""
    return and_(
        identities.c.custodian == custodian, identities.c.origin == origin, identities.c.study == study, _OF_A_STUDY
    )


def _row(claim: Claim) -> dict[str, object]:
    return {
        "issuer": claim.local.issuer,
        "patient": claim.local.value,
        "ihi": claim.ihi,
        "source": claim.source,
        "verified": claim.verified.isoformat() if claim.verified else None,
        "file": claim.file,
    }
