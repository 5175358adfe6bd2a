"""A signed retrieval request, verified before anything is encrypted to the key in it (seg/1 8.4).

Checked here: signature, audience, freshness, owner and what is asked for. That its nonce is used once is `Replay.once`,
around the work that answers it, so that a 503 leaves the nonce unused.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mdg.access.issuer import KID_LIMIT
from mdg.access.jwt import Malformed, UnverifiedToken, strict_object
from mdg.errors import Refused, Unauthenticated, Unprocessable
from mdg.keys import Card, Directory
from mdg.model.request import Requester
from mdg.model.retrieval import JMIX, JWS_TYPE, LEVEL_MOST, LIFE, SUITE, RetrievalRequest, WrongMember

SKEW = timedelta(seconds=60)

UNAVAILABLE: Mapping[str, tuple[str, str]] = {
    "profile": ("profile", f"this gateway releases the profile {JMIX}"),
    "codecs": ("codec", "codecs lists none, which every consumer accepts"),
    "level": ("fs-unavailable", "the forward-secrecy level is 0, 1 or 2"),
    "select": ("select", f"the profile {JMIX} carries whole studies; leave select out"),
    "study": ("study", "study is the id of an ImagingStudy"),
    "suite": ("suite", f"the key is one of suite {SUITE}"),
    "public_key": ("key", "the key is 32 bytes of base64 and not of low order"),
}
"""Members that say what is wanted: the reason and the text of a refusal. The other members prove who asks, and when."""


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request, and the card of who signed it. `digest` is SHA-256 of the exact JWS: the `req` of the answer.

    `nonce_key` and `nonce_until` are for `Replay.once("nonce", …)`.
    """

    request: RetrievalRequest
    card: Card
    digest: bytes
    nonce_key: str
    nonce_until: datetime


async def verify_request(
    jws: bytes, *, audience: str, requester: Requester, directory: Directory, now: datetime
) -> VerifiedRequest:
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
        asked = RetrievalRequest.from_claims(strict_object(card.verify_jws(jws, JWS_TYPE)))
        _check_binding(asked, card, audience, now)
    except WrongMember as error:
        if error.member in UNAVAILABLE:
            raise _unavailable(error.member) from None
        raise Unauthenticated(reason=f"request-{error.member}") from None
    except (Malformed, UnicodeDecodeError) as error:
        raise Unauthenticated(reason=f"request-{error if isinstance(error, Malformed) else 'form'}") from None
    except Refused as error:
        raise Unauthenticated(reason=f"request-{error.code}") from None
    _check_available(asked)
    return VerifiedRequest(
        request=asked,
        card=card,
        digest=hashlib.sha256(jws).digest(),
        nonce_key=f"{kid}.{base64.b64encode(asked.nonce).decode()}",
        nonce_until=asked.expires + SKEW,
    )


def _check_binding(asked: RetrievalRequest, card: Card, audience: str, now: datetime) -> None:
    if asked.audience != audience:
        raise Malformed("aud")
    if asked.requester != card.id:
        raise Malformed("owner")
    if not timedelta() < asked.expires - asked.issued <= LIFE:
        raise Malformed("lifetime")
    if now >= asked.expires + SKEW or asked.issued > now + SKEW:
        raise Malformed("time")


def _check_available(asked: RetrievalRequest) -> None:
    offered = {
        "profile": asked.profile == JMIX,
        "codecs": "none" in asked.codecs,
        "level": 0 <= asked.level <= LEVEL_MOST,
        "select": not asked.select,
        "suite": asked.suite == SUITE,
        "public_key": _can_be_sealed_to(asked.public_key),
    }
    for member, available in offered.items():
        if not available:
            raise _unavailable(member)


def _can_be_sealed_to(key: bytes) -> bool:
    """Any exchange with a point of low order gives zeros, and the library refuses those (RFC 7748 6.1)."""
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def _unavailable(member: str) -> Unprocessable:
    reason, why = UNAVAILABLE[member]
    return Unprocessable(why, reason=reason)
