"""The stand-in token authority: access tokens for this gateway (spec/access 1; RFC 9068, RFC 9449).

ES256, five minutes, bound to the key of the DPoP proof that asked. It stands in for the national service in form only:
it gives a token to every caller, so every caller can read all that a gateway which trusts it would show.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdg.access import Clock, utc_now
from mdg.access.dpop import verify_proof
from mdg.errors import Unauthenticated
from mdg.model.identity import HpiI, HpiO, Ihi
from mdg.sandbox.answers import form, is_loopback, problem

LIFE = timedelta(seconds=300)
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

DISCOVERY = ("system/ImagingStudy.rs", "system/Endpoint.rs", "system/Patient.rs")
RETRIEVAL = "urn:ief:scope:imaging.retrieve"
SCOPES = frozenset(
    (
        *DISCOVERY,
        "system/DocumentReference.rs",
        "system/DocumentReference.cu",
        "system/ServiceRequest.rs",
        "system/Subscription.crud",
        RETRIEVAL,
        "urn:ief:scope:imaging.deposit",
        "urn:ief:scope:imaging.prime",
    )
)
PURPOSES = frozenset(
    (
        "TREAT",
        "ETREAT",
        "BTG",
        "PATRQT",
        "FAMRQT",
        "PWATRNY",
        "HRESCH",
        "CLINTRCH",
        "PUBHLTH",
        "DISASTER",
        "HOPERAT",
        "HQUALIMP",
        "HPAYMT",
        "COVERAGE",
        "HLEGAL",
        "HSYSADMIN",
        "HTEST",
    )
)
FIELDS = frozenset(("grant_type", "resource", "scope", "purpose", "ihi", "organisation", "practitioner", "client_id"))


@dataclass(frozen=True, slots=True)
class KeySet:
    """The answer of `/jwks`, as `mdg.access.Jwks` reads it."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"cache-control": "max-age=60"})


class TokenAuthority:
    """Issues tokens in the name of `issuer`, the sandbox's base URL; its key lives as long as it does."""

    def __init__(self, issuer: str, *, clock: Clock = utc_now) -> None:
        self._issuer = issuer
        self._clock = clock
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        self._used: dict[tuple[str, str], datetime] = {}
        self.routes = [
            Route("/token", self._token, methods=["POST"]),
            Route("/jwks", self._jwks, methods=["GET"]),
        ]

    async def get(self, url: str) -> KeySet:
        """Its key set, for who runs in the same process and would fetch it from `url`."""
        return KeySet(bytes(self._keys().body))

    async def _jwks(self, request: Request) -> Response:
        return self._keys()

    def _keys(self) -> Response:
        keys = {"keys": [self._key.as_dict(private=False)], "sandbox": True}
        return JSONResponse(keys, headers={"Cache-Control": "max-age=60"})

    async def _token(self, request: Request) -> Response:
        asked = await form(request)
        try:
            jkt = await verify_proof(
                request.headers.getlist("dpop"),
                method="POST",
                url=f"{self._issuer}/token",
                seen=partial(self.seen, "dpop"),
                now=self._clock(),
            )
        except Unauthenticated as error:
            return problem(400, f"send one fresh DPoP proof ({error.reason})", "invalid_dpop_proof")
        try:
            claims = self._claims(asked, jkt)
        except ValueError as error:
            return problem(400, str(error))
        header = {"typ": "at+jwt", "alg": "ES256", "kid": self._key.kid}
        token = jwt.encode(header, claims, self._key, algorithms=["ES256"])
        answer = {"access_token": token, "token_type": "DPoP", "expires_in": int(LIFE.total_seconds())}
        return JSONResponse(answer | {"scope": claims["scope"], "sandbox": True})

    def _claims(self, asked: Mapping[str, str], jkt: str) -> dict[str, object]:
        """The claims for one request; `ValueError` names the field that is wrong."""
        unknown = sorted(set(asked) - FIELDS)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]}; known are {', '.join(sorted(FIELDS))}")
        if asked.get("grant_type", "client_credentials") != "client_credentials":
            raise ValueError("grant_type is client_credentials")
        resource = asked.get("resource", "")
        if not is_loopback(resource):
            raise ValueError("resource is the FHIR base of a gateway on this machine (RFC 8707)")
        scopes = asked.get("scope", "").split()
        if not scopes or not SCOPES.issuperset(scopes):
            raise ValueError(f"scope is one or more of {' '.join(sorted(SCOPES))}")
        purposes = asked.get("purpose", "").split()
        if not purposes or not PURPOSES.issuperset(purposes):
            raise ValueError(f"purpose is one or more of {' '.join(sorted(PURPOSES))}")
        organisation = HpiO.parse(asked.get("organisation", ""))
        identity: dict[str, object] = {
            "subject_organization_id": organisation.uri,
            "purpose_of_use": [{"system": ACT_REASON, "code": code} for code in purposes],
        }
        if "ihi" in asked:
            identity["person_id"] = Ihi.parse(asked["ihi"]).uri
        if "practitioner" in asked:
            identity["national_provider_identifier"] = HpiI.parse(asked["practitioner"]).uri
        client = asked.get("client_id") or organisation.uri
        now = self._clock()
        return {
            "iss": self._issuer,
            "sub": client,
            "client_id": client,
            "aud": resource,
            "iat": int(now.timestamp()),
            "exp": int((now + LIFE).timestamp()),
            "jti": secrets.token_urlsafe(16),
            "scope": " ".join(scopes),
            "cnf": {"jkt": jkt},
            "extensions": {"ihe_iua": identity},
        }

    async def seen(self, kind: str, key: str, until: datetime) -> bool:
        """Whether a proof was used before; the used ones are kept until they would be too old anyway."""
        now = self._clock()
        self._used = {known: end for known, end in self._used.items() if end > now}
        if (kind, key) in self._used:
            return True
        self._used[kind, key] = until
        return False
