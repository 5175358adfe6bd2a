"""Revocations: tokens, clients, people and organisations that an operator has refused until further notice.

The table is the only place of a revocation, and each call asks it: a revocation acts in every process that shares the
database from its COMMIT on, and a restart changes nothing. Nothing is remembered in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from sqlalchemy import Column, ColumnElement, Row, Select, Table, Text, delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import NotFound
from mdg.model.identity import HpiO
from mdg.model.request import Requester
from mdg.store import Store
from mdg.store.schema import Number, custodian, metadata, microseconds, moment

SPENT = timedelta(days=1)
"""How long a revoked token is remembered. A token lives ten minutes at most (`requester.LIFE_MOST`); the rest is for
clocks that went wrong."""

REVOCATIONS = Table(
    "revocations",
    metadata,
    custodian(),
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("since", Number, nullable=False),
)
"""`kind` and `value` say which tokens are refused, `id` names the row in an address, `since` is its time (UTC)."""


class Of(StrEnum):
    """What a revocation names: a claim of the token and its value. Tokens of every issuer are compared."""

    TOKEN = "token"  # noqa: S105 -- the kind of thing, not one
    """One token, by its `jti`."""
    CLIENT = "client"
    """Every token of a `client_id`."""
    SUBJECT = "subject"
    """Every token of a `sub`."""
    PRACTITIONER = "practitioner"
    """Every token of an HPI-I."""
    ORGANISATION = "organisation"
    """Every token of an HPI-O."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One row: which tokens are refused, and since when (UTC)."""

    id: str
    kind: Of
    value: str
    since: datetime


Also: TypeAlias = Callable[[AsyncConnection, Revocation], Awaitable[object]]
"""What is written in the same transaction: the audit record of the change."""


class Revoked(Protocol):
    """Says whether anything in a token was revoked. `Unavailable` when that cannot be known."""

    async def cover(self, requester: Requester) -> bool: ...


class NothingRevoked:
    """For a gate that has no operator, such as the one of the sandbox's stand-ins."""

    async def cover(self, requester: Requester) -> bool:
        return False


class Revocations:
    """The revocations of one custodian."""

    def __init__(self, store: Store, custodian: HpiO, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._custodian = custodian
        self._clock = clock

    async def cover(self, requester: Requester) -> bool:
        """Whether anything in this token was revoked. `Unavailable` without the store."""
        named = [(str(kind), value) for kind, value in _named(requester).items() if value is not None]
        wanted = (
            select(REVOCATIONS.c.id)
            .where(
                REVOCATIONS.c.custodian == self._custodian,
                tuple_(REVOCATIONS.c.kind, REVOCATIONS.c.value).in_(named),
            )
            .limit(1)
        )
        async with self._store.read() as connection:
            return (await connection.execute(wanted)).first() is not None

    async def all(self) -> list[Revocation]:
        """Every revocation, the oldest first."""
        wanted = (
            select(REVOCATIONS)
            .where(REVOCATIONS.c.custodian == self._custodian)
            .order_by(REVOCATIONS.c.since, REVOCATIONS.c.id)
        )
        async with self._store.read() as connection:
            return [_revocation(row) for row in await connection.execute(wanted)]

    async def add(self, kind: Of, value: str, also: Also) -> Revocation:
        """Revokes, together with the record that `also` writes. What was revoked before stays as it is; tokens that
        were revoked longer ago than SPENT have ended, and are forgotten."""
        now = self._clock()

        async def keep(connection: AsyncConnection) -> Revocation:
            spent = (
                REVOCATIONS.c.custodian == self._custodian,
                REVOCATIONS.c.kind == Of.TOKEN,
                REVOCATIONS.c.since < microseconds(now - SPENT),
            )
            await connection.execute(delete(REVOCATIONS).where(*spent))
            same = self._one(REVOCATIONS.c.kind == kind, REVOCATIONS.c.value == value)
            found = (await connection.execute(same)).first()
            made = _revocation(found) if found else Revocation(str(uuid4()), kind, value, now)
            if found is None:
                row = {"kind": made.kind, "value": made.value, "id": made.id, "since": microseconds(made.since)}
                await connection.execute(insert(REVOCATIONS).values(custodian=self._custodian, **row))
            await also(connection, made)
            return made

        return await self._store.write(keep)

    async def remove(self, id_: str, also: Also) -> None:
        """Ends a revocation, together with the record that `also` writes. `NotFound` if no revocation has this id."""

        async def end(connection: AsyncConnection) -> None:
            found = (await connection.execute(self._one(REVOCATIONS.c.id == id_))).first()
            if found is None:
                raise NotFound(reason="no-such-revocation")
            await connection.execute(delete(REVOCATIONS).where(REVOCATIONS.c.id == id_))
            await also(connection, _revocation(found))

        await self._store.write(end)

    def _one(self, *which: ColumnElement[bool]) -> Select[tuple[Any, ...]]:
        return select(REVOCATIONS).where(REVOCATIONS.c.custodian == self._custodian, *which)


def _named(requester: Requester) -> dict[Of, str | None]:
    return {
        Of.TOKEN: requester.token_id,
        Of.CLIENT: requester.client_id,
        Of.SUBJECT: requester.subject,
        Of.PRACTITIONER: requester.practitioner,
        Of.ORGANISATION: requester.organisation,
    }


def _revocation(row: Row[tuple[Any, ...]]) -> Revocation:
    return Revocation(row.id, Of(row.kind), row.value, moment(row.since))
