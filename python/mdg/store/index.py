"""The index: what studies, series and instances the indexed sources hold, and the files that they cannot serve.

Rows of `instances` and `problems` say what was found in a file of a given size and time; `studies`, `series` and
`patients` are made from them when a study settles (`mdg.sources.settle`), so a scan that was cut short leaves nothing
that must be read again. `unsettled` names the studies whose rows are newer than their study row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Table,
    Text,
    and_,
    cast,
    delete,
    func,
    insert,
    select,
    union,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.model.identity import HpiO
from mdg.model.imaging import StudyKey
from mdg.store.schema import Document, Number, custodian, metadata, microseconds

MIXED_PATIENTS = "mixed-patients"
DUPLICATE_INSTANCE = "duplicate-instance"
PASSED_OVER = "passed-over"
"""The code of a file that says nothing about a study and needs nothing done, such as a DICOMDIR."""
PASSING = frozenset({"E_SOURCE", "E_CHANGED", "E_FS_UNAVAILABLE"})
"""Codes of problems that lie in the moment (no permission, a failing disk, a file that was being written), not in the
content: such a file is read again although its size and time are the same."""


@dataclass(frozen=True, slots=True)
class IndexProblem:
    """Something that keeps a file or a study from being served: a code, where it is, and what to do about it."""

    code: str
    where: str
    message: str


patients = Table(
    "patients",
    metadata,
    custodian(),
    Column("issuer", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("family", Text),
    Column("given", Document, nullable=False),
    Column("prefix", Text),
    Column("suffix", Text),
    Column("birth_date", Text),
    Column("sex", Text),
)
"""The people that settled studies name; `id` is the random logical id of the Patient resource."""

versions = Table(
    "versions",
    metadata,
    custodian(),
    Column("uid", Text, primary_key=True),
    Column("version", Number, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("settled", Number, nullable=False),
)
"""Every version that a study has had, in whichever source: the study key of architecture "Decided once". Sources count
together and rows stay when files go, so a key never means two contents. `content` is a SHA-256 over the instances of
the version."""

studies = Table(
    "studies",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("version", Number, nullable=False),
    Column("id", Text, nullable=False, unique=True),
    Column("issuer", Text, nullable=False),
    Column("patient", Text, nullable=False),
    Column("started", Text),
    Column("description", Text),
    Column("accession", Text),
    Column("accession_issuer", Text),
    Column("modalities", Document, nullable=False),
    Column("instances", Number, nullable=False),
    Column("bytes", Number, nullable=False),
    Column("labels", Document, nullable=False),
    Column("quarantine", Text),
    Column("evidence", Document, nullable=False),
    ForeignKeyConstraint(["custodian", "uid", "version"], ["versions.custodian", "versions.uid", "versions.version"]),
    ForeignKeyConstraint(
        ["custodian", "issuer", "patient"], ["patients.custodian", "patients.issuer", "patients.value"]
    ),
    Index(None, "custodian", "issuer", "patient"),
    Index(None, "custodian", "uid"),
)
"""The current version of each study of each source. `quarantine` is why it must not be shown, `evidence`
are the paths of two files that show it. A study whose files are
gone keeps its row, with no instances, and so its logical id."""

of_study = and_(
    versions.c.custodian == studies.c.custodian,
    versions.c.uid == studies.c.uid,
    versions.c.version == studies.c.version,
)
"""Joins each study with the row of its current version."""

series = Table(
    "series",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("study", Text, primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("modality", Text, nullable=False),
    Column("number", Number),
    Column("description", Text),
    Column("body_part", Text),
    Column("laterality", Text),
    Column("instances", Number, nullable=False),
    ForeignKeyConstraint(
        ["custodian", "source", "study"], ["studies.custodian", "studies.source", "studies.uid"], ondelete="CASCADE"
    ),
)

instances = Table(
    "instances",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("size", Number, nullable=False),
    Column("mtime_ns", Number, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("check", LargeBinary, nullable=False),
    Column("study", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("facts", Document, nullable=False),
    Index(None, "custodian", "source", "study"),
    Index("ix_instances_known", "custodian", "source", "folder", "name", "size", "mtime_ns"),
)
"""One file each, as it was when it was read; `facts` are the header values that its study, series and patient are made
from (`mdg.sources.facts`). `ix_instances_known` answers a scan without reading the rows."""

problems = Table(
    "problems",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("size", Number, nullable=False),
    Column("mtime_ns", Number, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
)
"""Files that are not served, each with a code and what to do; an unchanged one is not read again."""

unsettled = Table(
    "unsettled",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("study", Text, primary_key=True),
    Column("touched", Number, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One custodian's part of one source: what the functions below read and change."""

    custodian: HpiO
    source: str

    def of(self, table: Table) -> ColumnElement[bool]:
        """The condition that a row of `table` belongs to this part."""
        return and_(table.c.custodian == self.custodian, table.c.source == self.source)

    @property
    def row(self) -> dict[str, object]:
        """The columns that every row of this part has."""
        return {"custodian": self.custodian, "source": self.source}


async def known(connection: AsyncConnection, part: Part, folder: str) -> dict[str, tuple[int, int]]:
    """Name to (size, mtime_ns) of every file of `folder` that was read, served or not; (-1, -1) for a PASSING problem,
    which no file matches."""
    served = select(instances.c.name, instances.c.size, instances.c.mtime_ns)
    found = {
        row.name: (row.size, row.mtime_ns)
        for row in await connection.execute(served.where(part.of(instances), instances.c.folder == folder))
    }
    for row in await connection.execute(select(problems).where(part.of(problems), problems.c.folder == folder)):
        found[row.name] = (-1, -1) if row.code in PASSING else (row.size, row.mtime_ns)
    return found


async def folders(connection: AsyncConnection, part: Part) -> list[str]:
    """Every folder that has a row, sorted."""
    each = (select(table.c.folder).where(part.of(table)) for table in (instances, problems))
    return sorted((await connection.execute(union(*each))).scalars())


async def keep(
    connection: AsyncConnection,
    part: Part,
    found: Sequence[dict[str, Any]],
    bad: Sequence[dict[str, Any]],
    *,
    known: Collection[tuple[str, str]],
) -> None:
    """Files that were read become rows of `instances` and `problems`. `known` are the (folder, name) among them that
    have a row already."""
    for folder in sorted({folder for folder, _ in known}):
        await forget(connection, part, folder, [name for within, name in known if within == folder])
    for table, rows in ((instances, found), (problems, bad)):
        if rows:
            await connection.execute(insert(table), [part.row | row for row in rows])
    await _touch(connection, part, {row["study"] for row in found})


async def suspect(connection: AsyncConnection, part: Part, file: PurePath) -> None:
    """A file that was indexed has other bytes than it had: a PASSING problem until a scan has read it again."""
    where = {"folder": str(file.parent), "name": file.name}

    def it(table: Table) -> ColumnElement[bool]:
        return and_(part.of(table), *(table.c[name] == value for name, value in where.items()))

    was = (await connection.execute(select(instances.c.size, instances.c.mtime_ns).where(it(instances)))).one_or_none()
    if was is None:
        return
    why = (
        "it changed after it was indexed, and the next scan reads it again; restore it if nobody should have changed it"
    )
    row = part.row | where | {"size": was.size, "mtime_ns": was.mtime_ns, "code": "E_CHANGED", "message": why}
    await connection.execute(delete(problems).where(it(problems)))
    await connection.execute(insert(problems).values(row))


async def forget(
    connection: AsyncConnection, part: Part, folder: str | None = None, names: Sequence[str] | None = None
) -> None:
    """Removes what is known of these files of `folder`, of all its files, or of every file; their studies must settle
    again. Versions go on counting."""
    for some in _some(names) if names is not None else [None]:
        for table in (instances, problems):
            chosen = [part.of(table)]
            if folder is not None:
                chosen.append(table.c.folder == folder)
            if some is not None:
                chosen.append(table.c.name.in_(some))
            if table is instances:
                uids = await connection.execute(select(instances.c.study).distinct().where(*chosen))
                await _touch(connection, part, uids.scalars().all())
            await connection.execute(delete(table).where(*chosen))


async def replace_study(connection: AsyncConnection, part: Part, uid: str, found: Sequence[dict[str, Any]]) -> None:
    """The files of one study become `found`, wherever they were before."""
    await connection.execute(delete(instances).where(part.of(instances), instances.c.study == uid))
    await keep(connection, part, found, [], known=())


async def current(connection: AsyncConnection, part: Part, uid: str) -> StudyKey:
    """The key of the present version of a settled study."""
    version = select(studies.c.version).where(part.of(studies), studies.c.uid == uid)
    return StudyKey(part.custodian, uid, (await connection.execute(version)).scalar_one())


async def waiting(connection: AsyncConnection, part: Part, before: datetime) -> list[str]:
    """StudyInstanceUIDs of the studies that must settle and have not been touched since `before`."""
    statement = (
        select(unsettled.c.study)
        .where(part.of(unsettled), unsettled.c.touched <= microseconds(before))
        .order_by(unsettled.c.study)
    )
    return list((await connection.execute(statement)).scalars())


async def totals(connection: AsyncConnection, part: Part) -> tuple[int, int, int]:
    """(studies, instances, bytes) that can be served."""
    sums = [cast(func.coalesce(func.sum(studies.c[name]), 0), Number) for name in ("instances", "bytes")]
    statement = select(func.count(), *sums).where(part.of(studies), studies.c.instances > 0)
    row = (await connection.execute(statement)).one()
    return row[0], row[1], row[2]


async def count_problems(connection: AsyncConnection, part: Part) -> int:
    """How many files and folders are not served."""
    wanted = (part.of(problems), problems.c.code != PASSED_OVER)
    return (await connection.execute(select(func.count()).select_from(problems).where(*wanted))).scalar_one()


async def count_passed_over(connection: AsyncConnection, part: Part) -> int:
    """How many files were passed over."""
    wanted = (part.of(problems), problems.c.code == PASSED_OVER)
    return (await connection.execute(select(func.count()).select_from(problems).where(*wanted))).scalar_one()


async def passed_over(connection: AsyncConnection, custodian: HpiO) -> list[str]:
    """The path of every file that was passed over, sorted."""
    statement = (
        select(problems.c.folder, problems.c.name)
        .where(problems.c.custodian == custodian, problems.c.code == PASSED_OVER)
        .order_by(problems.c.folder, problems.c.name)
    )
    return [str(PurePath(row.folder, row.name)) for row in await connection.execute(statement)]


async def file_problems(connection: AsyncConnection, custodian: HpiO) -> list[IndexProblem]:
    """Every file that is not served, sorted by its path."""
    statement = (
        select(problems)
        .where(problems.c.custodian == custodian, problems.c.code != PASSED_OVER)
        .order_by(problems.c.folder, problems.c.name)
    )
    rows = await connection.execute(statement)
    return [IndexProblem(row.code, str(PurePath(row.folder, row.name)), row.message) for row in rows]


async def _touch(connection: AsyncConnection, part: Part, uids: Iterable[str]) -> None:
    """Names studies whose rows have changed."""
    touched = microseconds(datetime.now(UTC))
    for some in _some(sorted(uids)):
        again = update(unsettled).where(part.of(unsettled), unsettled.c.study.in_(some)).values(touched=touched)
        if (await connection.execute(again)).rowcount < len(some):
            await connection.execute(delete(unsettled).where(part.of(unsettled), unsettled.c.study.in_(some)))
            rows = [part.row | {"study": uid, "touched": touched} for uid in some]
            await connection.execute(insert(unsettled), rows)


def _some(values: Sequence[str]) -> list[Sequence[str]]:
    """Slices that fit the bound variables of one statement."""
    return [values[start : start + 500] for start in range(0, len(values), 500)]
