"""Cursors: where the next page of a search begins, in a link that says nothing about anybody.

A cursor is sealed (AES-256-GCM under a key of this process), lasts 15 minutes and works for the client, subject, person
and kind of search that it was made for only; for anybody else it does not exist. Each page asks the sources again and
is decided again.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Sequence
from datetime import timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mdg.access import Clock, utc_now
from mdg.errors import NotFound
from mdg.model.query import Position
from mdg.model.request import Requester

LIFE = timedelta(minutes=15)
NONCE = 12
"""Bytes."""


class Cursors:
    """Seals and opens cursors of any kind of search. They do not outlive the process: a client then searches again."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._seal = AESGCM(AESGCM.generate_key(256))
        self._clock = clock

    def seal(self, requester: Requester, kind: str, parameters: Sequence[tuple[str, str]], after: Position) -> str:
        """Text that continues the search of `kind` for `parameters` after a position. `kind` names what is searched,
        such as a FHIR resource type."""
        content = {
            "parameters": list(parameters),
            "id": after.id,
            "key": after.key,
            "until": (self._clock() + LIFE).timestamp(),
        }
        nonce = secrets.token_bytes(NONCE)
        sealed = self._seal.encrypt(nonce, json.dumps(content).encode(), _holder(requester, kind))
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, text: str, requester: Requester, kind: str) -> tuple[list[tuple[str, str]], Position]:
        """The parameters and the position. `NotFound` for each cursor that is not good for this caller, this kind of
        search and now."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            content = json.loads(self._seal.decrypt(raw[:NONCE], raw[NONCE:], _holder(requester, kind)))
        except (binascii.Error, ValueError, InvalidTag):
            raise NotFound(reason="cursor") from None
        if content["until"] < self._clock().timestamp():
            raise NotFound(reason="cursor-expired")
        return [(name, value) for name, value in content["parameters"]], Position(content["id"], content["key"])


def _holder(requester: Requester, kind: str) -> bytes:
    return json.dumps([requester.issuer, requester.client_id, requester.subject, requester.patient, kind]).encode()
