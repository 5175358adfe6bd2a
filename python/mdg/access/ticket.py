"""Tickets: the part of a download's address that says for whom and until when it was granted (seg/1 10.1).

A ticket is `<expiry>.<code>`: seconds since 1970, and 64 bytes over what it grants. The code is the gateway's own
Ed25519 signature, used as a MAC: it is deterministic, so a check makes it again and compares in constant time, and
there is exactly one valid spelling. A ticket is bound to the access token and to the key behind it, and replaces
neither.
"""

from __future__ import annotations

import hmac
import json
import re
from datetime import datetime, timedelta
from typing import Protocol

from mdg.access.jwt import encode
from mdg.errors import Forbidden
from mdg.model.request import Requester

LIFE = timedelta(minutes=15)
METHODS = ("GET", "HEAD")
FORM = re.compile(r"([1-9][0-9]{9})\.([A-Za-z0-9_-]{86})")
QUERY = re.compile(rb"t=([0-9A-Za-z_.-]{1,128})")


class TicketKey(Protocol):
    """`Keyring.ticket`: signs the same bytes the same way each time."""

    def sign(self, message: bytes, /) -> bytes: ...


class Tickets:
    """Tickets of one gateway, for the addresses under `/api/jmix/r/`."""

    def __init__(self, key: TicketKey) -> None:
        self._key = key

    def issue(self, recipe_id: str, requester: Requester, now: datetime) -> str:
        """A ticket for GET and HEAD of one recipe, good for 15 minutes, for this token and key only."""
        expiry = int((now + LIFE).timestamp())
        return f"{expiry}.{self._code(recipe_id, requester, expiry)}"

    def check(self, ticket: str, recipe_id: str, requester: Requester, method: str, now: datetime) -> None:
        """`Forbidden` unless this gateway issued `ticket` for exactly this, and it has not expired."""
        found = FORM.fullmatch(ticket)
        if found is None or method not in METHODS:
            raise Forbidden(reason="ticket-form")
        expiry = int(found[1])
        if not hmac.compare_digest(found[2], self._code(recipe_id, requester, expiry)):
            raise Forbidden(reason="ticket-code")
        if now.timestamp() >= expiry:
            raise Forbidden(reason="ticket-expired")

    def expires(self, ticket: str) -> int:
        """Seconds since 1970 UTC when a ticket made by `issue` lapses."""
        return int(ticket.partition(".")[0])

    def _code(self, recipe_id: str, requester: Requester, expiry: int) -> str:
        granted = [
            "mdg ticket",
            recipe_id,
            requester.token_id,
            requester.jkt,
            METHODS,
            f"/api/jmix/r/{recipe_id}",
            expiry,
        ]
        return encode(self._key.sign(json.dumps(granted).encode()))


def from_query(query: bytes) -> str:
    """The ticket in the raw query of a download's address. `Forbidden` unless the query is `t=<ticket>` and nothing
    else, in the one spelling that was handed out (spec/hostile-input D3)."""
    found = QUERY.fullmatch(query)
    if found is None:
        raise Forbidden(reason="ticket-query")
    return found[1].decode("ascii")
