"""What happened to studies, numbered, and the jobs that follow from it: written in the transaction of the change.

The number of an event grows in the order of commits and is never given twice. What a subscriber is told counts by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, Table, Text, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.jobs import table
from mdg.jobs.table import New
from mdg.model.identity import HpiO
from mdg.model.imaging import StudyKey
from mdg.store.schema import Number, custodian, metadata, microseconds, moment

SETTLED = "study-settled"
"""The kind of event that a study has a new version."""
IDENTIFIED = "study-identified"
"""The kind of event that other persons may be meant by the patient of a study."""
TELL_REGISTRY = "tell-registry"
"""The kind of job that looks at whom a study is about, and tells the registry what it does not know of them."""
MATCH_SUBSCRIBERS = "match-subscribers"
"""The kind of job that gives an event its number in each subscription that it concerns."""

events = Table(
    "events",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    custodian(key=False),
    Column("time", Number, nullable=False),
    Column("kind", Text, nullable=False),
    Column("study", Text, nullable=False),
    Column("version", Number, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice, even after old events were removed
)


@dataclass(frozen=True, slots=True)
class StudyEvent:
    """Something happened to a study; `time` is UTC."""

    seq: int
    kind: str
    study: StudyKey
    time: datetime


async def happened(connection: AsyncConnection, kind: str, studies: Sequence[StudyKey]) -> None:
    """Writes an event of each study, and the jobs that follow, in the caller's transaction."""
    if not studies:
        return
    now = datetime.now(UTC)
    rows = [
        {"custodian": key.custodian, "time": microseconds(now), "kind": kind, "study": key.uid, "version": key.version}
        for key in studies
    ]
    wanted = insert(events).returning(events.c.seq, events.c.custodian, events.c.study)
    following: dict[HpiO, list[New]] = {}
    for row in await connection.execute(wanted, rows):
        match = New(MATCH_SUBSCRIBERS, str(row.seq), f"study {row.study}")
        following.setdefault(HpiO(row.custodian), []).extend([match, look(row.study)])
    for custodian_, new in following.items():
        await table.add(connection, custodian_, new, now)


async def identified(connection: AsyncConnection, studies: Sequence[StudyKey]) -> None:
    """Writes that other persons may be meant by the patients of these studies, in the caller's transaction."""
    await happened(connection, IDENTIFIED, studies)


def look(study: str) -> New:
    """The job by which the registry comes to know whom the study with this UID is about now."""
    return New(TELL_REGISTRY, study, f"study {study}")


async def event(connection: AsyncConnection, of: HpiO, seq: int) -> StudyEvent | None:
    """The event with this number."""
    row = (await connection.execute(select(events).where(events.c.custodian == of, events.c.seq == seq))).one_or_none()
    if row is None:
        return None
    return StudyEvent(row.seq, row.kind, StudyKey(of, row.study, row.version), moment(row.time))
