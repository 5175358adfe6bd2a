"""The index: what studies, series and instances the indexed sources hold, and the files that they cannot serve.

Rows of `instances` and `problems` say what was found in an object of a given size and version; `studies`, `series` and
`patients` are made from them when a study settles (`mdg.sources.study_version`), so a scan that was cut short leaves
nothing that must be read again. `unsettled` names the studies whose rows are newer than their study row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
content: such an object is read again although its size and version are the same."""
PIECE, CHECK, BLOCK = 1 << 16, 32, 1 << 10
"""Bytes of a piece of an object, bytes of its check value, check values in a row of `checks` (64 MiB of the object)."""


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
"""Every version that a study has had, in whichever source: the study key of spec/storage 4. Sources count
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
    Column("key", Text, primary_key=True),
    Column("folder", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("size", Number, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("study", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("facts", Document, nullable=False),
    Index(None, "custodian", "source", "study"),
    Index("ix_instances_known", "custodian", "source", "folder", "key", "size", "version"),
)
"""One object each, as it was when it was read (`mdg.model.located`); `facts` are the header values that its study,
series and patient are made from (`mdg.sources.facts`). `folder` is `folder_of(key)`: `ix_instances_known` answers what
is known of one folder without reading the rows."""

checks = Table(
    "checks",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("block", Number, primary_key=True, autoincrement=False),
    Column("pieces", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["custodian", "source", "key"], ["instances.custodian", "instances.source", "instances.key"], ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)
"""The check table of each instance: a BLAKE3 value of CHECK bytes for each PIECE of it, BLOCK values in a row, so that
a range of a large object needs only the rows of that range. An object of one piece has none: its SHA-256 says as
much, and a folder of small images half as many rows."""

problems = Table(
    "problems",
    metadata,
    custodian(),
    Column("source", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("folder", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("size", Number, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "custodian", "source", "folder"),
)
"""Objects that are not served, each with a code and what to do; an unchanged one is not read again. A key that ends
with `/` is that of a folder."""

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


def folder_of(key: str) -> str:
    """The part of a key before its last `/`; `/` itself for a key at the root."""
    head, slash, _ = key.rpartition("/")
    return head or slash


def object_row(key: str, version: str, size: int) -> dict[str, Any]:
    """The columns of `instances` and of `problems` that say which object it is."""
    return {"key": key, "folder": folder_of(key), "version": version, "size": size}


async def known(connection: AsyncConnection, part: Part, folder: str) -> dict[str, tuple[int, str] | None]:
    """Key to (size, version) of every object of `folder` that was read, served or not; None for a PASSING problem: its
    object must be read again."""
    served = select(instances.c.key, instances.c.size, instances.c.version)
    found: dict[str, tuple[int, str] | None] = {
        row.key: (row.size, row.version)
        for row in await connection.execute(served.where(part.of(instances), instances.c.folder == folder))
    }
    for row in await connection.execute(select(problems).where(part.of(problems), problems.c.folder == folder)):
        found[row.key] = None if row.code in PASSING else (row.size, row.version)
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
    known: Collection[str],
) -> None:
    """Objects that were read become rows of `instances` and `problems`. Each row of `found` holds `check`, the whole
    check table of its object. `known` are the keys among them that have a row already."""
    await forget(connection, part, keys=sorted(known))
    pieces = [part.row | one for row in found for one in _blocks(row["key"], row["check"])]
    served = [part.row | {name: value for name, value in row.items() if name != "check"} for row in found]
    for table, rows in ((instances, served), (problems, [part.row | row for row in bad]), (checks, pieces)):
        if rows:
            await connection.execute(insert(table), rows)
    await _touch(connection, part, {row["study"] for row in found})


def _blocks(key: str, check: bytes) -> Iterable[dict[str, Any]]:
    if len(check) == CHECK:
        return
    step = BLOCK * CHECK
    for block, start in enumerate(range(0, len(check), step)):
        yield {"key": key, "block": block, "pieces": check[start : start + step]}


async def check_values(connection: AsyncConnection, part: Part, key: str, first: int, last: int) -> bytes:
    """The check values of the pieces `first` to `last` (inclusive) of an object; fewer where it has fewer pieces, and
    none where it has one."""
    rows = select(checks.c.block, checks.c.pieces).where(
        part.of(checks), checks.c.key == key, checks.c.block.between(first // BLOCK, last // BLOCK)
    )
    found = (await connection.execute(rows.order_by(checks.c.block))).all()
    joined = b"".join(row.pieces for row in found)
    skipped = first // BLOCK * BLOCK
    return joined[(first - skipped) * CHECK : (last + 1 - skipped) * CHECK]


async def suspect(connection: AsyncConnection, part: Part, key: str) -> None:
    """An object that was indexed has other bytes than it had: a PASSING problem until a scan has read it again."""

    def it(table: Table) -> ColumnElement[bool]:
        return and_(part.of(table), table.c.key == key)

    was = (await connection.execute(select(instances.c.size, instances.c.version).where(it(instances)))).one_or_none()
    if was is None:
        return
    why = (
        "it changed after it was indexed, and the next scan reads it again; restore it if nobody should have changed it"
    )
    row = part.row | object_row(key, was.version, was.size) | {"code": "E_CHANGED", "message": why}
    await connection.execute(delete(problems).where(it(problems)))
    await connection.execute(insert(problems).values(row))


async def forget(
    connection: AsyncConnection, part: Part, folder: str | None = None, *, keys: Sequence[str] | None = None
) -> None:
    """Removes what is known of the objects `keys`, of all objects of `folder`, or of every object; their studies must
    settle again. Versions of studies go on counting."""
    for some in _some(keys) if keys is not None else [None]:
        for table in (instances, problems):
            chosen = [part.of(table)]
            if folder is not None:
                chosen.append(table.c.folder == folder)
            if some is not None:
                chosen.append(table.c.key.in_(some))
            if table is instances:
                uids = await connection.execute(select(instances.c.study).distinct().where(*chosen))
                await _touch(connection, part, uids.scalars().all())
            await connection.execute(delete(table).where(*chosen))


async def replace_study(connection: AsyncConnection, part: Part, uid: str, found: Sequence[dict[str, Any]]) -> None:
    """The objects of one study become `found`, wherever they were before."""
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
        select(problems.c.key)
        .where(problems.c.custodian == custodian, problems.c.code == PASSED_OVER)
        .order_by(problems.c.key)
    )
    return list((await connection.execute(statement)).scalars())


async def file_problems(connection: AsyncConnection, custodian: HpiO) -> list[IndexProblem]:
    """Every file that is not served, sorted by its path."""
    statement = (
        select(problems)
        .where(problems.c.custodian == custodian, problems.c.code != PASSED_OVER)
        .order_by(problems.c.key)
    )
    rows = await connection.execute(statement)
    return [IndexProblem(row.code, row.key.rstrip("/") or row.key, row.message) for row in rows]


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
