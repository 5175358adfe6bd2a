"""A signed retrieval request, verified before anything is encrypted to the key in it (seg/1 8.4).

Checked here: signature, audience, freshness, owner and what is asked for. That its nonce is used once is `Replay.once`,
around the work that answers it, so that a 503 leaves the nonce unused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mdg.access.issuer import KID_LIMIT
from mdg.access.jwt import Malformed, UnverifiedToken, strict_object
from mdg.errors import Refused, Unauthenticated, Unprocessable
from mdg.keys import Card, Directory
from mdg.model.request import Requester

JWS_TYPE = "ief-retrieval+jws"
TYPE = "ief-retrieval/1"
SUITE = "HPKE-X25519-SHA256-AES256GCM"  # names a raw X25519 key, also where the profile is jmix-1.0
PROFILE = "jmix-1.0"  # the one that is released today; seg/1 is the default of a request that names none
LIFE_MOST = timedelta(seconds=300)
SKEW = timedelta(seconds=60)
FORWARD_SECRECY = 2  # of a key made for this retrieval (seg/1 section 16)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """What was asked for, by whom, sealed to which key. `digest` is SHA-256 of the exact JWS: the `req` of the answer.

    `nonce_key` and `nonce_until` are for `Replay.once("nonce", …)`. `study` is the logical id of an ImagingStudy.
    """

    card: Card
    study: str
    profile: str
    public_key: bytes = field(repr=False)
    digest: bytes
    nonce_key: str
    nonce_until: datetime

    @property
    def entity(self) -> dict[str, str]:
        """The requester as the JMIX entity of the answer's `receiver`."""
        return self.card.entity


async def verify_request(
    jws: bytes, *, audience: str, requester: Requester, directory: Directory, now: datetime
) -> RetrievalRequest:
    """The request in the compact JWS `jws`. `audience` is this gateway's entity id.

    `Unauthenticated` when it does not verify, is for another gateway, too old, or not by the token's own organisation;
    `Unprocessable` when it asks for a profile, suite, codec, level or selection that is not available, or for a key
    that no envelope can be sealed to; `Unavailable` without a directory.
    """
    try:
        token = UnverifiedToken.parse(jws.decode("ascii"))
        kid = token.header.get("kid")
        card = await directory.card_by_kid(kid) if isinstance(kid, str) and len(kid) <= KID_LIMIT else None
        if card is None or card.id != requester.organisation.uri:
            raise Malformed("owner")
        claims = strict_object(card.verify_jws(jws, JWS_TYPE))
        _check_binding(claims, card, audience)
        nonce, until = _freshness(claims, now)
    except (Malformed, UnicodeDecodeError) as error:
        raise Unauthenticated(reason=f"request-{error if isinstance(error, Malformed) else 'form'}") from None
    except Refused as error:
        raise Unauthenticated(reason=f"request-{error.code}") from None
    _check_available(claims)
    return RetrievalRequest(
        card=card,
        study=_study(claims),
        profile=PROFILE,
        public_key=_public_key(claims.get("key")),
        digest=hashlib.sha256(jws).digest(),
        nonce_key=f"{kid}.{nonce}",
        nonce_until=until + SKEW,
    )


def _check_binding(claims: Mapping[str, object], card: Card, audience: str) -> None:
    if claims.get("typ") != TYPE:
        raise Malformed("typ")
    if claims.get("aud") != audience:
        raise Malformed("aud")
    entity = claims.get("requester")
    if not isinstance(entity, dict) or entity.get("id") != card.id:
        raise Malformed("owner")


def _freshness(claims: Mapping[str, object], now: datetime) -> tuple[str, datetime]:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if not timedelta() < expires - issued <= LIFE_MOST:
        raise Malformed("lifetime")
    if now >= expires + SKEW or issued > now + SKEW:
        raise Malformed("time")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or len(_base64(nonce)) != 32:
        raise Malformed("nonce")
    return nonce, expires


def _check_available(claims: Mapping[str, object]) -> None:
    if claims.get("profile", "seg/1") != PROFILE:
        raise Unprocessable(f"this gateway releases the profile {PROFILE}", reason="profile")
    codecs = claims.get("codecs", ["none"])
    if not isinstance(codecs, list) or "none" not in codecs:
        raise Unprocessable("codecs lists none, which every consumer accepts", reason="codec")
    level = claims.get("level", FORWARD_SECRECY)
    if type(level) is not int or not 0 <= level <= FORWARD_SECRECY:
        raise Unprocessable("the forward-secrecy level is 0, 1 or 2", reason="fs-unavailable")
    if "select" in claims:
        raise Unprocessable(f"the profile {PROFILE} carries whole studies; leave select out", reason="select")


def _study(claims: Mapping[str, object]) -> str:
    study = claims.get("study")
    if not isinstance(study, str) or not re.fullmatch(r"[A-Za-z0-9.-]{1,64}", study):
        raise Unprocessable("study is the id of an ImagingStudy", reason="study")
    return study


def _public_key(key: object) -> bytes:
    if not isinstance(key, dict) or key.get("suite") != SUITE:
        raise Unprocessable(f"the key is one of suite {SUITE}", reason="suite")
    value = key.get("public_key")
    try:
        raw = _base64(value) if isinstance(value, str) else b""
        # Any exchange with a point of low order gives zeros, and the library refuses those (RFC 7748 6.1).
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    except (Malformed, ValueError):
        raise Unprocessable("the key is 32 bytes of base64 and not of low order", reason="key") from None
    return raw


def _time(claims: Mapping[str, object], name: str) -> datetime:
    value = claims.get(name)
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise Malformed(name)
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Malformed(name) from None


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Malformed("base64")
    return raw
