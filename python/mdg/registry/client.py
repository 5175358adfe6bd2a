"""The registry at one address: tell it, take back, ask it (spec/events 3).

A person stands in a body only, never in an address, a header or a message. Each change carries the key of that change,
so that one whose answer was lost may be sent again. Nothing is retried here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mdg.access.jwt import Malformed, strict_object
from mdg.client import Tokens
from mdg.client.answers import refusal
from mdg.errors import InputOutput, Refused, Unavailable, Upstream
from mdg.keys import ProofKey
from mdg.model.identity import Ihi
from mdg.outbound import Outbound, Response
from mdg.registry import record
from mdg.registry.record import TYPE, Record, Status

TELL = ("system/DocumentReference.cu",)
ASK = ("system/DocumentReference.rs",)
PURPOSE = "HOPERAT"
"""Telling who holds what is the running of a service; asking is under the purpose of who asks."""
OF_US_ALL = frozenset({401, 403, 408, 429})
"""Answers that say nothing about one record: the next one would get the same."""


class Registry:
    """The registry whose base is `url`, as one gateway sees it; `key` is the one that its `tokens` are bound to."""

    def __init__(self, url: str, outbound: Outbound, tokens: Tokens, key: ProofKey) -> None:
        self.url = url.rstrip("/")
        self._outbound = outbound
        self._tokens = tokens
        self._key = key

    async def put(self, ihi: Ihi, service_id: str, key: str) -> Record:
        """Registers that `service_id` holds something of the person. `key` names this change: sent again, it changes
        nothing more.

        `Unavailable` when the registry, or the authority that gives tokens for it, cannot be asked now; `Upstream` when
        it refuses this record (`answered` 409: it was removed since `key` made it) or its answer cannot be used.
        """
        body = {"ihi": ihi, "service_id": service_id, "status": Status.ACTIVE, "type": TYPE}
        answer = await self._send("PUT", "/v1/records", body, key)
        if answer.status not in (200, 201):
            raise refusal("the registry", answer)
        found = _record(answer)
        if (found.ihi, found.service_id, found.status, found.type) != (ihi, service_id, Status.ACTIVE, TYPE):
            raise _unusable("another-record")
        return found

    async def remove(self, record_id: str, key: str) -> Record | None:
        """Takes a record back, for good; None when the registry has none of that id, or has removed it before: 409, for
        `removed` is final. Raises as `put` does."""
        answer = await self._send("POST", f"/v1/records/{record_id}/status", {"status": Status.REMOVED}, key)
        if answer.status in (404, 409):
            return None
        if answer.status != 200:
            raise refusal("the registry", answer)
        found = _record(answer)
        if (found.record_id, found.status) != (record_id, Status.REMOVED):
            raise _unusable("another-record")
        return found

    async def holders(self, ihi: Ihi, *, purpose: str = "TREAT") -> Sequence[Record]:
        """Who holds something of the person now. Raises as `put` does."""
        body = {"ihi": ihi, "status": Status.ACTIVE}
        answer = await self._send("POST", "/v1/records/_search", body, None, ihi=ihi, purpose=purpose)
        if answer.status != 200:
            raise refusal("the registry", answer)
        try:
            found = record.parse_all(strict_object(answer.body))
        except (Malformed, ValueError) as error:
            raise _unusable("form") from error
        if any(one.ihi != ihi or one.status is not Status.ACTIVE for one in found):
            raise _unusable("another-record")
        return found

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, str],
        key: str | None,
        *,
        ihi: Ihi | None = None,
        purpose: str = PURPOSE,
    ) -> Response:
        url = self.url + path
        scopes = ASK if key is None else TELL
        try:
            token = await self._tokens.token(self.url, scopes, ihi=ihi, purpose=purpose)
            headers = {
                "Authorization": f"DPoP {token.value}",
                "DPoP": self._key.prove(method, url, token.value),
                "Content-Type": "application/json",
                "Accept": "application/json",
            }
            if key is not None:
                headers["Idempotency-Key"] = key
            send = self._outbound.put if method == "PUT" else self._outbound.post
            answer = await send(url, json.dumps(body).encode(), headers)
        except (InputOutput, Refused) as error:
            raise Unavailable(reason="registry") from error
        except Upstream as error:
            raise Unavailable(reason=f"registry-{error.reason}") from error
        if answer.status >= 500 or answer.status in OF_US_ALL:
            raise Unavailable(reason=f"registry-{answer.status}")
        return answer


def _record(answer: Response) -> Record:
    try:
        return record.parse(strict_object(answer.body))
    except (Malformed, ValueError) as error:
        raise _unusable("form") from error


def _unusable(why: str) -> Upstream:
    return Upstream("the registry's answer cannot be used", answered=0, reason=f"registry-{why}")
