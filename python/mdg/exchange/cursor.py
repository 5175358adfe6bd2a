"""Cursors: where the next page of a search begins, in a link that says nothing about anybody (fhir-au 1.3 "Paging").

A cursor is sealed (AES-256-GCM under a key of this process), lasts 15 minutes and works for the client, subject and
person it was made for only; for anybody else it does not exist. Each page asks the sources again and is decided again.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mdg.access import Clock, utc_now
from mdg.errors import NotFound
from mdg.fhir.search import ImagingStudySearch
from mdg.model.imaging import Study
from mdg.model.request import Requester

LIFE = timedelta(minutes=15)
NONCE = 12


@dataclass(frozen=True, slots=True)
class Position:
    """The last study of the page before, by its logical id and its sort key."""

    id: str
    sort_key: str

    def rest(self, ordered: Sequence[Study], search: ImagingStudySearch) -> list[Study]:
        """What comes after, also when that study itself has gone in the meantime."""
        backwards = search.sort.startswith("-")

        def later(study: Study) -> bool:
            key = search.sort_key(study)
            if key == self.sort_key:
                return study.id > self.id
            return (key < self.sort_key) if backwards else (key > self.sort_key)

        return [study for study in ordered if later(study)]


class Cursors:
    """Seals and opens cursors. They do not outlive the process: a client then searches again."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._seal = AESGCM(AESGCM.generate_key(256))
        self._clock = clock

    def seal(
        self, requester: Requester, search: ImagingStudySearch, last: Study, parameters: Sequence[tuple[str, str]]
    ) -> str:
        """The `_page` value that continues after `last`; `parameters` are the search without its IHI."""
        content = {
            "parameters": list(parameters),
            "id": last.id,
            "key": search.sort_key(last),
            "until": (self._clock() + LIFE).timestamp(),
        }
        nonce = secrets.token_bytes(NONCE)
        sealed = self._seal.encrypt(nonce, json.dumps(content).encode(), _holder(requester))
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, text: str, requester: Requester) -> tuple[list[tuple[str, str]], Position]:
        """The parameters and the position; `NotFound` for every cursor that is not good for this caller now (C7)."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            content = json.loads(self._seal.decrypt(raw[:NONCE], raw[NONCE:], _holder(requester)))
        except (binascii.Error, ValueError, InvalidTag):
            raise NotFound(reason="cursor") from None
        if content["until"] < self._clock().timestamp():
            raise NotFound(reason="cursor-expired")
        return [(name, value) for name, value in content["parameters"]], Position(content["id"], content["key"])


def _holder(requester: Requester) -> bytes:
    return json.dumps([requester.issuer, requester.client_id, requester.subject, requester.patient]).encode()
