"""The audit's table and its one write: a row is durable when `record` returns, and otherwise nothing is released.

A row keeps the full AuditEvent, its place in the order and 16 random bytes, so that a log of salted commitments can be
built over rows that exist already (fhir-au 7.2). Rows are only ever added.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from sqlalchemy import Column, Index, LargeBinary, Table, Text, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit.event import Agent, to_fhir
from mdg.errors import Unavailable
from mdg.model.event import Event
from mdg.model.identity import HpiO
from mdg.store import Store
from mdg.store.schema import Document, Number, custodian, metadata, microseconds

AUDIT = Table(
    "audit",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=True),
    custodian(key=False),
    Column("recorded", Number, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("event", Document, nullable=False),
    Index(None, "custodian", "request_id"),
    sqlite_autoincrement=True,
)
"""`seq` numbers the rows and is never given twice; `event` is the whole AuditEvent, `salt` has 16 bytes."""


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
            raise Unavailable(reason="audit") from error

    async def add(self, connection: AsyncConnection, event: Event) -> int:
        """Writes one event in the caller's transaction, together with what it is about; its `seq`."""
        recorded = datetime.now(UTC)
        row = {
            "custodian": self._custodian,
            "recorded": microseconds(recorded),
            "request_id": event.request_id,
            "salt": secrets.token_bytes(16),
            "event": to_fhir(event, self._custodian, self._agent, recorded),
        }
        added = await connection.execute(insert(AUDIT).values(row))
        key = added.inserted_primary_key
        if key is None:
            raise Unavailable(reason="audit")
        return int(key[0])

    async def for_request(self, request_id: str) -> list[dict[str, object]]:
        """The AuditEvents of one request id, in the order they were written."""
        wanted = (
            select(AUDIT.c.event)
            .where(AUDIT.c.custodian == self._custodian, AUDIT.c.request_id == request_id)
            .order_by(AUDIT.c.seq)
        )
        async with self._store.read() as connection:
            found = await connection.execute(wanted)
            return list(found.scalars())

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


async def recorded(store: Store, request_id: str) -> list[dict[str, object]]:
    """The AuditEvents of one request id, whoever's gateway wrote them into this database: for its operator."""
    wanted = select(AUDIT.c.event).where(AUDIT.c.request_id == request_id).order_by(AUDIT.c.seq)
    async with store.read() as connection:
        return list((await connection.execute(wanted)).scalars())
