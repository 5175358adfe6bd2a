"""The index: what studies, series and instances the indexed sources hold, and the files that they cannot serve.

Rows of `instances` and `problems` say what was found in a file of a given size and time; `studies`, `series` and
`patients` are made from them when a study settles (`mdg.sources.settle`), so a scan that was cut short leaves nothing
that must be read again. `unsettled` names the studies whose rows are newer than their study row.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, ForeignKeyConstraint, Index, LargeBinary, Table, Text

from mdg.store.schema import Document, Number, custodian, metadata

MIXED_PATIENTS = "mixed-patients"
DUPLICATE_INSTANCE = "duplicate-instance"


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
    Column("birth_date", Text),
    Column("sex", Text),
)
"""The people that settled studies name; `id` is the random logical id of the Patient resource."""

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
    Column("content", LargeBinary, nullable=False),
    Column("updated", Number, nullable=False),
    ForeignKeyConstraint(
        ["custodian", "issuer", "patient"], ["patients.custodian", "patients.issuer", "patients.value"]
    ),
    Index(None, "custodian", "issuer", "patient"),
)
"""The current version of each study. `content` is a SHA-256 over its instances and facts: another one makes another
version. `quarantine` is why it must not be shown. A study whose files are gone keeps its row, with no instances, so
that a version number is never used twice."""

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
)
"""One file each, as it was when it was read; `facts` are the header values that its study, series and patient are made
from (`mdg.sources.facts`)."""

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
