"""From `Authorization` and `DPoP` headers to a `Requester`, or to a refusal that tells a stranger nothing.

The checks and their order are those of spec/access 1 to 3. What the requester may do is not asked here (`decide`);
which patient and study it is about is the door's and the exchange's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from mdg.access.clock import Clock, utc_now
from mdg.access.dpop import verify_proof
from mdg.access.issuer import KID_LIMIT, Issuer
from mdg.access.jwt import Malformed, UnverifiedToken
from mdg.access.revocations import NothingRevoked, Revoked
from mdg.errors import Forbidden, Invalid, Unauthenticated, about
from mdg.keys import Directory
from mdg.model.identity import HealthcareIdentifier, HpiI, HpiO, Ihi
from mdg.model.request import Requester

TYPES = ("at+jwt", "application/at+jwt")
LIFE_MOST = 600  # seconds from iat to exp
SKEW = 30  # seconds that exp may be past
AHEAD = 60  # seconds that iat and nbf may lie in the future
STILL = 1.0  # seconds after which the directory is asked again about an organisation that is being served
PURPOSE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
CREDENTIALS = re.compile(r"([A-Za-z]+) +(\S+)")
SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 3.3

Identifier = TypeVar("Identifier", bound=HealthcareIdentifier)


class Uses(Protocol):
    """What remembers the proofs that were used: `Replay`, or the memory of a sandbox."""

    async def seen(self, kind: str, key: str, until: datetime) -> bool: ...


class Gate:
    """Authenticates each call to the public listener. `audience` is the one string that `aud` must hold; `public_url`
    is where callers reach this gateway, and the only source of the address in a proof (spec/access 2)."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        directory: Directory,
        uses: Uses,
        public_url: str,
        *,
        audience: str | None = None,
        revocations: Revoked | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._issuers = {issuer.iss: issuer for issuer in issuers}
        self._directory = directory
        self._uses = uses
        self._public_url = public_url.rstrip("/")
        self._audience = audience or f"{self._public_url}/fhir"
        self._revocations = revocations or NothingRevoked()
        self._clock = clock

    async def authenticate(
        self, authorization: Sequence[str], dpop: Sequence[str], method: str, url_path: str
    ) -> Requester:
        """Who calls. `authorization` and `dpop` are the values of all headers of that name, `url_path` the path as it
        came, without the query.

        `Unauthenticated` without a usable token or proof; `Invalid` for two credentials; `Forbidden` for an
        organisation that is not active; `Unavailable` when keys, directory or the record of proofs cannot be asked.
        Once the token is verified, a refusal names the requester for its record.
        """
        compact = _credentials(authorization)
        now = self._clock()
        try:
            token = UnverifiedToken.parse(compact)
            issuer = await self._verify(token)
            requester = _requester(token.claims, issuer, self._audience, now)
        except Malformed as error:
            raise Unauthenticated(reason=f"token-{error}") from None
        with about(requester=requester):
            if await self._revocations.cover(requester):
                raise Unauthenticated(reason="token-revoked")
            await verify_proof(
                dpop,
                token=compact,
                jkt=requester.jkt,
                method=method,
                url=self._public_url + url_path,
                now=now,
                seen=self._proof_seen,
            )
            if not await self._directory.organisation_active(requester.organisation):
                raise Forbidden(reason="organisation-not-active")
        return requester

    async def still_stands(self, requester: Requester) -> bool:
        """Whether someone who was authenticated once would still be let in, but for the age of the token: the issuer is
        trusted, the client registered, nothing revoked, the organisation active. The answer of the directory is at most
        STILL seconds old while the directory answers. `Unavailable` without a directory or the store."""
        issuer = self._issuers.get(requester.issuer)
        registered = issuer is not None and issuer.registers(requester.client_id, requester.organisation)
        if not registered or await self._revocations.cover(requester):
            return False
        return await self._directory.organisation_active(requester.organisation, fresh=STILL)

    async def _proof_seen(self, key: str, until: datetime) -> bool:
        return await self._uses.seen("dpop", key, until)

    async def _verify(self, token: UnverifiedToken) -> Issuer:
        header = token.header
        iss = token.claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise Malformed("iss")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise Malformed("alg")
        if header.get("typ") not in TYPES:
            raise Malformed("typ")
        if not isinstance(kid, str) or not 0 < len(kid) <= KID_LIMIT:
            raise Malformed("kid")
        key = await issuer.jwks.key(kid, algorithm)
        if key is None:
            raise Malformed("kid")
        token.verify(key, algorithm)
        return issuer


def _credentials(authorization: Sequence[str]) -> str:
    if not authorization:
        raise Unauthenticated(reason="no-token", error="")
    if len(authorization) > 1:
        raise Invalid("there is more than one Authorization header", reason="two-credentials")
    found = CREDENTIALS.fullmatch(authorization[0])
    if found is None:
        raise Unauthenticated(reason="token-form")
    if found[1].lower() != "dpop":
        raise Unauthenticated(reason="token-scheme")
    return found[2]


def _requester(claims: Mapping[str, object], issuer: Issuer, audience: str, now: datetime) -> Requester:
    aud = claims.get("aud")
    if aud != audience and not (isinstance(aud, list) and audience in aud):
        raise Malformed("aud")
    issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
    at = now.timestamp()
    if not 0 < expires - issued <= LIFE_MOST:
        raise Malformed("lifetime")
    if at >= expires + SKEW:
        raise Malformed("exp")
    if issued > at + AHEAD or ("nbf" in claims and _seconds(claims, "nbf") > at + AHEAD):
        raise Malformed("not-yet")
    client_id = _text(claims, "client_id")
    extensions = _object(claims, "extensions")
    iua = _object(extensions, "ihe_iua")
    if "ihe_pcf" in extensions:
        raise Malformed("ihe_pcf")  # its residual rules narrow what we may show, and are not applied here yet
    organisation = _identifier(iua, "subject_organization_id", HpiO)
    if organisation is None or not issuer.registers(client_id, organisation):
        raise Malformed("client")
    scope = claims.get("scope")
    if not isinstance(scope, str) or not SCOPE.fullmatch(scope):
        raise Malformed("scope")
    return Requester(
        issuer=issuer.iss,
        subject=_text(claims, "sub"),
        client_id=client_id,
        organisation=organisation,
        practitioner=_identifier(iua, "national_provider_identifier", HpiI),
        purposes=_purposes(iua.get("purpose_of_use")),
        patient=_identifier(iua, "person_id", Ihi),
        scopes=frozenset(scope.split(" ")),
        jkt=_text(_object(claims, "cnf"), "jkt"),
        token_id=_text(claims, "jti"),
        expires=datetime.fromtimestamp(expires, UTC),
    )


def _seconds(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < 1 << 35:
        raise Malformed(name)
    return value


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise Malformed(name)
    return value


def _object(claims: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = claims.get(name)
    if not isinstance(value, dict):
        raise Malformed(name)
    return value


def _identifier(iua: Mapping[str, object], name: str, kind: type[Identifier]) -> Identifier | None:
    if name not in iua:
        return None
    value = iua[name]
    try:
        found = kind.from_uri(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.uri != value:
        raise Malformed(name)
    return found


def _purposes(codings: object) -> tuple[str, ...]:
    if not isinstance(codings, list) or not 0 < len(codings) <= 16:
        raise Malformed("purpose_of_use")
    codes = [
        coding.get("code") for coding in codings if isinstance(coding, dict) and coding.get("system") == PURPOSE_SYSTEM
    ]
    if len(codes) != len(codings) or not all(isinstance(code, str) and code.isalnum() for code in codes):
        raise Malformed("purpose_of_use")
    return tuple(dict.fromkeys(str(code) for code in codes))
