"""The audit's table and its one write: a row is durable when `record` returns, and otherwise nothing is released.

A row keeps the exact text of its AuditEvent, its place in the order, 16 random bytes and the hash of its leaf
(`mdg.audit.leaf`), so that a log of commitments can be built over rows that exist already. Rows are only ever added.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson
from sqlalchemy import Column, ColumnElement, Index, LargeBinary, Table, Text, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit.event import Agent, to_fhir
from mdg.audit.leaf import leaf, leaf_hash, new_salt
from mdg.errors import Unavailable
from mdg.model.event import Event, Outcome
from mdg.model.identity import HpiO, Ihi
from mdg.model.request import Requester
from mdg.store import Store
from mdg.store.schema import Number, custodian, metadata, microseconds

PAGE = 500
"""Records that are read at once."""
OF_CALLERS = 1000
"""Records that are shown of an id that callers sent: anybody may send the same id any number of times."""
AUDIT = Table(
    "audit",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    custodian(key=False),
    Column("recorded", Number, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("callers_id", Text),
    Column("kind", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("patient", Text),
    Column("client", Text),
    Column("organisation", Text),
    Column("person", Text),
    Column("salt", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("event", Text, nullable=False),
    Index(None, "custodian", "request_id"),
    Index(None, "custodian", "callers_id"),
    Index(None, "custodian", "recorded"),
    Index(None, "custodian", "outcome", "seq"),
    Index(None, "custodian", "patient", "seq"),
    Index(None, "custodian", "client", "seq"),
    Index(None, "custodian", "organisation", "seq"),
    Index(None, "custodian", "person", "seq"),
    sqlite_autoincrement=True,
)
"""`seq` numbers the rows and is never given twice. `event` is the whole AuditEvent in the canonical form of RFC 8785,
`salt` has 16 bytes, `leaf` is the hash of the record's leaf. The columns before them are what records are looked up by,
and repeat what `event` says: `request_id` is ours, `callers_id` is the X-Request-ID that the caller sent, `person` the
HPI-I of the user or the subject of the token."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are asked for; what is None does not count. `requester` is a client id, an HPI-O, an HPI-I or the
    subject of a token; times are UTC, `since` included and `until` not."""

    patient: Ihi | None = None
    requester: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = None


Record: TypeAlias = tuple[int, str]
"""`seq` and the AuditEvent exactly as it is stored, one line of JSON."""


class Audit:
    """The audit of one custodian; `agent` says which software writes it."""

    def __init__(self, store: Store, custodian: HpiO, agent: Agent) -> None:
        self._store = store
        self._custodian = custodian
        self._agent = agent

    async def record(self, event: Event) -> int:
        """Writes one event and returns its `seq` once the row is durable. `Unavailable` (reason `audit`) when it is
        not."""
        try:
            return await self._store.write(lambda connection: self.add(connection, event))
        except Unavailable as error:
            raise Unavailable(reason="audit", failure=error.failure) from error

    async def add(self, connection: AsyncConnection, event: Event) -> int:
        """Writes one event in the caller's transaction, together with what it is about; its `seq`."""
        recorded = datetime.now(UTC)
        resource = to_fhir(event, self._custodian, self._agent, recorded)
        salt, text = new_salt(), _canonical(resource)
        row = {
            "custodian": self._custodian,
            "recorded": microseconds(recorded),
            "request_id": event.request_id,
            "callers_id": event.caller.request_id if event.caller else None,
            "kind": event.kind.value,
            "outcome": event.outcome.value,
            "patient": event.patient,
            **_requester(event.requester),
            "salt": salt,
            "leaf": leaf_hash(leaf(str(resource["recorded"]), event.kind.value, salt, text)),
            "event": text,
        }
        added = await connection.execute(insert(AUDIT).values(row))
        key = added.inserted_primary_key
        if key is None:
            raise Unavailable(reason="audit")
        return int(key[0])

    async def for_request(self, request_id: str) -> list[dict[str, object]]:
        """The AuditEvents of one request, by the id that this gateway gave it, in the order they were written. Letters
        of the id are taken in either case (RFC 9562 4)."""
        one = AUDIT.c.request_id == request_id.lower()
        async with self._store.read() as connection:
            return await _events(connection, AUDIT.c.custodian == self._custodian, one)

    async def for_callers_id(self, callers_id: str) -> list[dict[str, object]]:
        """The AuditEvents of requests whose callers sent this X-Request-ID, the newest OF_CALLERS. Any caller can send
        any id, so these are not the records of one request: each names who called."""
        async with self._store.read() as connection:
            return await _of_callers(connection, callers_id, AUDIT.c.custodian == self._custodian)

    async def listed(self, wanted: Wanted, *, before: int | None, limit: int) -> list[Record]:
        """Up to `limit` records, the newest first, and of those before the `seq` of `before` if there is one."""
        async with self._store.read() as connection:
            return await _listed(connection, wanted, before, limit, AUDIT.c.custodian == self._custodian)

    async def newest(self) -> int:
        """The `seq` of the newest record, 0 when there is none: as cheap with a million records as with one."""
        async with self._store.read() as connection:
            return int((await connection.execute(select(func.coalesce(func.max(AUDIT.c.seq), 0)))).scalar_one())

    async def count(self) -> int:
        """How many records there are."""
        async with self._store.read() as connection:
            found = await connection.execute(
                select(func.count()).select_from(AUDIT).where(AUDIT.c.custodian == self._custodian)
            )
            return int(found.scalar_one())


def _canonical(resource: dict[str, object]) -> str:
    """The form of RFC 8785. An AuditEvent has names in ASCII and no number, so what orjson writes needs nothing more
    than its names in order."""
    return orjson.dumps(resource, option=orjson.OPT_SORT_KEYS).decode()


def _requester(requester: Requester | None) -> dict[str, str | None]:
    if requester is None:
        return {"client": None, "organisation": None, "person": None}
    return {
        "client": requester.client_id,
        "organisation": requester.organisation,
        "person": requester.practitioner or requester.subject,
    }


async def listed(store: Store, wanted: Wanted) -> AsyncIterator[Record]:
    """All such records of this database, the newest first, for its operator. They are read page by page."""
    before: int | None = None
    while True:
        async with store.read() as connection:
            page = await _listed(connection, wanted, before, PAGE)
        for record in page:
            yield record
        if len(page) < PAGE:
            return
        before = page[-1][0]


async def _listed(
    connection: AsyncConnection, wanted: Wanted, before: int | None, limit: int, *which: ColumnElement[bool]
) -> list[Record]:
    conditions = [*which]
    if wanted.patient is not None:
        conditions.append(AUDIT.c.patient == wanted.patient)
    if wanted.requester is not None:
        named = (AUDIT.c.client, AUDIT.c.organisation, AUDIT.c.person)
        conditions.append(or_(*(column == wanted.requester for column in named)))
    if wanted.since is not None:
        conditions.append(AUDIT.c.recorded >= microseconds(wanted.since))
    if wanted.until is not None:
        conditions.append(AUDIT.c.recorded < microseconds(wanted.until))
    if wanted.outcome is not None:
        conditions.append(AUDIT.c.outcome == wanted.outcome.value)
    if before is not None:
        conditions.append(AUDIT.c.seq < before)
    statement = select(AUDIT.c.seq, AUDIT.c.event).where(*conditions)
    found = await connection.execute(statement.order_by(AUDIT.c.seq.desc()).limit(limit))
    return [(row[0], row[1]) for row in found]


async def recorded(store: Store, request_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The AuditEvents of one request id in this database, for its operator: those of the request that a gateway gave
    this id, and the newest OF_CALLERS of requests whose callers sent it."""
    async with store.read() as connection:
        return (
            await _events(connection, AUDIT.c.request_id == request_id),
            await _of_callers(connection, request_id),
        )


async def _events(connection: AsyncConnection, *which: ColumnElement[bool]) -> list[dict[str, Any]]:
    found = await connection.execute(select(AUDIT.c.event).where(*which).order_by(AUDIT.c.seq))
    return [orjson.loads(text) for text in found.scalars()]


async def _of_callers(
    connection: AsyncConnection, callers_id: str, *which: ColumnElement[bool]
) -> list[dict[str, Any]]:
    wanted = select(AUDIT.c.event).where(*which, AUDIT.c.callers_id == callers_id)
    newest = (await connection.execute(wanted.order_by(AUDIT.c.seq.desc()).limit(OF_CALLERS))).scalars().all()
    return [orjson.loads(text) for text in reversed(newest)]
