"""Access tokens from the token authority, each for one gateway, one purpose and one patient (spec/access 1.3).

The request is a client_credentials grant (RFC 6749 4.4) with a DPoP proof (RFC 9449 5), so that a token works only
together with the key of this keyring. Tokens live in memory, are used again until shortly before they end, and are
never logged: `person_id` makes a token health information.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from mdg.client.answers import refusal
from mdg.errors import Upstream
from mdg.keys import Keyring
from mdg.model.identity import HpiO, Ihi
from mdg.outbound import Outbound

DISCOVERY = ("system/ImagingStudy.rs", "system/Endpoint.rs", "system/Patient.rs")
RETRIEVAL = ("urn:ief:scope:imaging.retrieve",)
MARGIN = 30.0  # seconds before its end in which a token is not used any more
KEPT = 1000  # tokens; the oldest go first


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token and the scopes that the authority granted. `expires` is on the clock of `Tokens`."""

    value: str = field(repr=False)
    scopes: frozenset[str]
    expires: float


class Tokens:
    """The token authority whose token endpoint is `url`, as seen by one organisation."""

    def __init__(
        self,
        url: str,
        outbound: Outbound,
        keyring: Keyring,
        organisation: HpiO,
        *,
        client_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._outbound = outbound
        self._key = keyring.dpop
        self._organisation = organisation
        self._client_id = client_id or organisation.uri
        self._clock = clock
        self._known: dict[tuple[str, str, str, str], AccessToken] = {}

    async def token(
        self, resource: str, scopes: Sequence[str], *, ihi: Ihi | None, purpose: str = "TREAT"
    ) -> AccessToken:
        """A token for the FHIR base `resource` with all of `scopes`. `Upstream` when the authority refuses or grants
        less, `InputOutput` when it cannot be reached."""
        wanted = (resource, " ".join(sorted(scopes)), purpose, ihi or "")
        known = self._known.get(wanted)
        if known is not None and self._clock() < known.expires - MARGIN:
            return known
        token = await self._ask(resource, scopes, ihi, purpose)
        self._known.pop(wanted, None)
        while len(self._known) >= KEPT:
            del self._known[next(iter(self._known))]
        self._known[wanted] = token
        return token

    async def _ask(self, resource: str, scopes: Sequence[str], ihi: Ihi | None, purpose: str) -> AccessToken:
        form = {
            "grant_type": "client_credentials",
            "resource": resource,
            "scope": " ".join(scopes),
            "purpose": purpose,
            "organisation": self._organisation,
            "client_id": self._client_id,
        }
        if ihi is not None:
            form["ihi"] = ihi
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "DPoP": self._key.prove("POST", self._url),
        }
        asked = self._clock()
        answer = await self._outbound.post(self._url, urlencode(form).encode(), headers)
        if answer.status != 200:
            raise refusal("the token authority", answer)
        match answer.json():
            case {"access_token": str(value), "token_type": str(kind), "expires_in": int(life), **rest}:
                granted = frozenset(str(rest.get("scope", " ".join(scopes))).split())
            case _:
                raise Upstream("the token authority answered without a token", answered=200, reason="token-form")
        if kind.lower() != "dpop":
            raise Upstream(
                "the token authority gave a token that is bound to no key", answered=200, reason="token-unbound"
            )
        if not granted.issuperset(scopes):
            raise Upstream("the token authority granted fewer scopes than asked", answered=200, reason="token-scope")
        return AccessToken(value, granted, asked + life)
