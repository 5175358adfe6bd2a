"""What happened, numbered, and what must still be told to whom: written in the transaction of the change itself.

An outbox row exists as long as its event is owed to its destination; who delivers it removes the row when the other
side has acknowledged it. Delivery, retry and order are the business of the registry and subscriptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, ForeignKey, Table, Text, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.model.identity import HpiO
from mdg.model.imaging import StudyKey
from mdg.store.schema import Number, custodian, metadata, microseconds, moment

REGISTRY = "registry"
"""A destination of every study that settles: the record locator of its patient."""
SUBSCRIBERS = "subscribers"
"""The other one: whoever has asked to be told of it."""
EVERYBODY = (REGISTRY, SUBSCRIBERS)
"""Whoever wants to know whose a study is and what is in it."""

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

outbox = Table(
    "outbox",
    metadata,
    Column("event", Number, ForeignKey(events.c.seq), primary_key=True, autoincrement=False),
    custodian(key=False),
    Column("destination", Text, primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Owed:
    """An event that `destination` has not acknowledged; `time` is UTC."""

    event: int
    destination: str
    kind: str
    study: StudyKey
    time: datetime


async def append(
    connection: AsyncConnection, kind: str, studies: Sequence[StudyKey], destinations: Sequence[str]
) -> None:
    """Records an event of each study and owes it to each destination, in the caller's transaction."""
    if not studies:
        return
    now = microseconds(datetime.now(UTC))
    rows = [
        {"custodian": key.custodian, "time": now, "kind": kind, "study": key.uid, "version": key.version}
        for key in studies
    ]
    added = await connection.execute(insert(events).returning(events.c.seq, events.c.custodian), rows)
    owed = [{"event": row.seq, "custodian": row.custodian} for row in added]
    if destinations:
        rows = [row | {"destination": name} for row in owed for name in destinations]
        await connection.execute(insert(outbox), rows)


async def pending(
    connection: AsyncConnection, custodian: HpiO, destination: str, limit: int, after: int = 0
) -> list[Owed]:
    """The oldest `limit` events that are owed to `destination` and numbered above `after`, in their order."""
    statement = (
        select(outbox.c.destination, events)
        .join(events, events.c.seq == outbox.c.event)
        .where(outbox.c.custodian == custodian, outbox.c.destination == destination, outbox.c.event > after)
        .order_by(outbox.c.event)
        .limit(limit)
    )
    rows = await connection.execute(statement)
    return [
        Owed(row.seq, row.destination, row.kind, StudyKey(custodian, row.study, row.version), moment(row.time))
        for row in rows
    ]


async def counts(connection: AsyncConnection, custodian: HpiO) -> dict[str, int]:
    """How many events are owed to each destination that is owed any."""
    statement = (
        select(outbox.c.destination, func.count().label("number"))
        .where(outbox.c.custodian == custodian)
        .group_by(outbox.c.destination)
        .order_by(outbox.c.destination)
    )
    return {row.destination: row.number for row in await connection.execute(statement)}


async def acknowledge(connection: AsyncConnection, owed: Owed) -> None:
    """The event is owed to this destination no more; nothing happens when it was not."""
    await connection.execute(
        delete(outbox).where(outbox.c.event == owed.event, outbox.c.destination == owed.destination)
    )
