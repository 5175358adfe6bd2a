"""The tables of subscriptions, and what is read from and written to them.

Delivery is in order and one at a time for each subscription, so what has arrived is always the first `delivered` of its
`events`: a row of `notifications` is written once and never changed. Every function works in the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    Index,
    Row,
    Table,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.jobs import New
from mdg.jobs.events import StudyEvent, events
from mdg.jobs.table import add as add_jobs
from mdg.model.identity import HpiI, HpiO, Ihi
from mdg.model.request import Requester
from mdg.model.subscription import Numbered, Payload, Status, Subscription, Topic, Wanted
from mdg.store.schema import Document, Number, custodian, metadata, microseconds, moment

subscriptions = Table(
    "subscriptions",
    metadata,
    custodian(),
    Column("id", Text, primary_key=True),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("practitioner", Text),
    Column("purposes", Document, nullable=False),
    Column("scopes", Document, nullable=False),
    Column("jkt", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("expires", Number, nullable=False),
    Column("patient", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("study", Text),
    Column("endpoint", Text, nullable=False),
    Column("bearer", Text),
    Column("payload", Text, nullable=False),
    Column("lapses", Number),
    Column("status", Text, nullable=False),
    Column("created", Number, nullable=False),
    Column("since", Number, nullable=False),
    Column("events", Number, nullable=False),
    Column("delivered", Number, nullable=False),
    Column("changed", Number, nullable=False),
    Index(None, "custodian", "patient"),
)
"""The columns up to `expires` are what the token said when the subscription was made: each sending is decided by them.
`bearer` is the value of the header Authorization. `since` is the last event that there was when it was made, so that no
clock decides what is told in it. `changed` is when its status or `delivered` did last."""

notifications = Table(
    "notifications",
    metadata,
    custodian(),
    Column("subscription", Text, primary_key=True),
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("event", Number, nullable=False),
    Column("study", Text, nullable=False),
    Column("version", Number, nullable=False),
    Column("time", Number, nullable=False),
    ForeignKeyConstraint(
        ["custodian", "subscription"], ["subscriptions.custodian", "subscriptions.id"], ondelete="CASCADE"
    ),
    Index(None, "custodian", "study"),
)
"""Which event has which number in which subscription."""

NOTIFY = "notify"
"""The kind of job that sends a subscription what it has not had; its key is the id."""
END = "end-subscription"
"""The kind of job that switches a subscription off when its end has come; its key is the id."""
WAITING = (Status.REQUESTED, Status.ACTIVE)
"""States in which something is sent."""


async def add(connection: AsyncConnection, of: HpiO, new: Subscription) -> None:
    """Keeps a new subscription and the jobs that send its handshake and end it."""
    owner, wanted = new.owner, new.wanted
    row = {
        "custodian": of,
        "id": new.id,
        "issuer": owner.issuer,
        "subject": owner.subject,
        "client_id": owner.client_id,
        "organisation": owner.organisation,
        "practitioner": owner.practitioner,
        "purposes": list(owner.purposes),
        "scopes": sorted(owner.scopes),
        "jkt": owner.jkt,
        "token_id": owner.token_id,
        "expires": microseconds(owner.expires),
        "patient": new.patient,
        "topic": wanted.topic,
        "study": wanted.study,
        "endpoint": wanted.endpoint,
        "bearer": wanted.authorization,
        "payload": wanted.payload,
        "lapses": microseconds(wanted.end) if wanted.end else None,
        "status": new.status,
        "created": microseconds(new.created),
        "since": select(func.coalesce(func.max(events.c.seq), 0)).scalar_subquery(),
        "events": new.events,
        "delivered": new.delivered,
        "changed": microseconds(new.created),
    }
    await connection.execute(insert(subscriptions).values(row))
    jobs = [notify(new.id, owner.organisation)]
    if wanted.end is not None:
        jobs.append(New(END, new.id, f"Subscription/{new.id}", due=wanted.end))
    await add_jobs(connection, of, jobs, new.created)


def notify(id_: str, organisation: str) -> New:
    """The job that sends what a subscription has not had: at the time of its next try, if one has failed."""
    return New(NOTIFY, id_, f"Subscription/{id_}", lane=organisation, hasten=False)


async def count(connection: AsyncConnection, of: HpiO, owner: Requester) -> int:
    """How many subscriptions the client has, for whichever patients and in whichever state."""
    statement = select(func.count()).select_from(subscriptions).where(_of_client(of, owner))
    return int((await connection.execute(statement)).scalar_one())


async def find(connection: AsyncConnection, of: HpiO, id_: str, owner: Requester | None = None) -> Subscription | None:
    """One subscription; with `owner` only when it is theirs."""
    statement = select(subscriptions).where(_one(of, id_))
    if owner is not None:
        statement = statement.where(_of_client(of, owner), subscriptions.c.patient == owner.patient)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _subscription(row)


async def remove(connection: AsyncConnection, of: HpiO, id_: str) -> None:
    """Forgets a subscription and its events; nothing happens when there is none."""
    await connection.execute(delete(subscriptions).where(_one(of, id_)))  # and its events by the foreign key


async def number(connection: AsyncConnection, happened: StudyEvent, patient: Ihi | None, now: datetime) -> None:
    """Gives the event its next number in each subscription that matches, and writes the jobs that send it. Those match
    that are about `patient`, whose study it is, for all studies or for this one, and those that were told of the study
    before, also if it is another patient's now. A study that nobody may be shown has no `patient`.

    What happened before a subscription was made is not told in it, and nothing in one that is off. An event has one
    number in a subscription, however often this is called.
    """
    of = happened.study.custodian
    in_it = and_(
        notifications.c.custodian == subscriptions.c.custodian, notifications.c.subscription == subscriptions.c.id
    )
    told = and_(notifications.c.custodian == of, notifications.c.study == happened.study.uid)
    whose = [select(notifications.c.subscription).where(told)]
    if patient is not None:
        about = or_(subscriptions.c.topic == Topic.PATIENT_IMAGING, subscriptions.c.study == happened.study.uid)
        asked = and_(subscriptions.c.custodian == of, subscriptions.c.patient == patient, about)
        whose.append(select(subscriptions.c.id).where(asked))
    columns = (subscriptions.c[name] for name in ("id", "events", "status", "organisation"))
    statement = select(*columns).where(
        subscriptions.c.custodian == of,
        subscriptions.c.status != Status.OFF,
        subscriptions.c.since < happened.seq,
        subscriptions.c.id.in_(union(*whose)),  # each by its index; an OR would read all subscriptions at every event
        ~exists().where(in_it, notifications.c.event == happened.seq),
    )
    matching = (await connection.execute(statement)).all()
    if not matching:
        return
    row = {
        "custodian": of,
        "event": happened.seq,
        "study": happened.study.uid,
        "version": happened.study.version,
        "time": microseconds(happened.time),
    }
    rows = [row | {"subscription": one.id, "number": one.events + 1} for one in matching]
    await connection.execute(insert(notifications), rows)
    for one in matching:
        await connection.execute(update(subscriptions).where(_one(of, one.id)).values(events=one.events + 1))
    waiting = [notify(one.id, one.organisation) for one in matching if one.status in WAITING]
    await add_jobs(connection, of, waiting, now)


async def event(connection: AsyncConnection, of: HpiO, id_: str, number: int) -> Numbered:
    """The event with this number in a subscription."""
    statement = select(notifications).where(
        notifications.c.custodian == of, notifications.c.subscription == id_, notifications.c.number == number
    )
    row = (await connection.execute(statement)).one()
    return Numbered(row.number, row.study, moment(row.time))


async def keep(connection: AsyncConnection, of: HpiO, before: Subscription, after: Subscription, now: datetime) -> None:
    """What became of a try, unless the subscription has been changed or removed while it lasted."""
    as_it_was = and_(_one(of, before.id), subscriptions.c.status == before.status)
    values = {"status": after.status, "delivered": after.delivered, "changed": microseconds(now)}
    same = and_(as_it_was, subscriptions.c.delivered == before.delivered)
    await connection.execute(update(subscriptions).where(same).values(values))


async def switch_off(connection: AsyncConnection, of: HpiO, id_: str, now: datetime) -> None:
    """The subscription gets nothing more, and no more events a number."""
    off = {"status": Status.OFF, "changed": microseconds(now)}
    await connection.execute(update(subscriptions).where(_one(of, id_)).values(off))


async def forget(connection: AsyncConnection, of: HpiO, before: datetime) -> None:
    """Removes the events older than `before` that will not be sent any more, whose numbers stay counted, and the
    subscriptions that ended before then."""
    open_ = exists().where(
        subscriptions.c.custodian == notifications.c.custodian,
        subscriptions.c.id == notifications.c.subscription,
        subscriptions.c.status.in_(WAITING),
        subscriptions.c.delivered < notifications.c.number,
    )
    old = and_(notifications.c.custodian == of, notifications.c.time < microseconds(before))
    await connection.execute(delete(notifications).where(old, ~open_))
    ended = and_(
        subscriptions.c.custodian == of,
        subscriptions.c.status.not_in(WAITING),
        subscriptions.c.changed < microseconds(before),
        func.coalesce(subscriptions.c.lapses, 0) < microseconds(before),
    )
    await connection.execute(delete(subscriptions).where(ended))  # and their events by the foreign key


def _one(of: HpiO, id_: str) -> ColumnElement[bool]:
    return and_(subscriptions.c.custodian == of, subscriptions.c.id == id_)


def _of_client(of: HpiO, owner: Requester) -> ColumnElement[bool]:
    return and_(
        subscriptions.c.custodian == of,
        subscriptions.c.issuer == owner.issuer,
        subscriptions.c.client_id == owner.client_id,
        subscriptions.c.organisation == owner.organisation,
    )


def _subscription(row: Row[Any]) -> Subscription:
    patient = Ihi(row.patient)
    topic = Topic(row.topic)
    owner = Requester(
        issuer=row.issuer,
        subject=row.subject,
        client_id=row.client_id,
        organisation=HpiO(row.organisation),
        practitioner=HpiI(row.practitioner) if row.practitioner else None,
        purposes=tuple(row.purposes),
        patient=patient,
        scopes=frozenset(row.scopes),
        jkt=row.jkt,
        token_id=row.token_id,
        expires=moment(row.expires),
    )
    wanted = Wanted(
        topic=topic,
        patient=patient if topic is Topic.PATIENT_IMAGING else None,
        study=row.study,
        endpoint=row.endpoint,
        payload=Payload(row.payload),
        authorization=row.bearer,
        end=None if row.lapses is None else moment(row.lapses),
    )
    return Subscription(
        id=row.id,
        owner=owner,
        patient=patient,
        wanted=wanted,
        status=Status(row.status),
        created=moment(row.created),
        events=row.events,
        delivered=row.delivered,
    )
