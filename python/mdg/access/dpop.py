"""Proof of possession: that the sender of a token holds the key it is bound to (RFC 9449 4.3; spec/access 2).

The proof covers method, address without query and the token's hash, is at most a minute old, and is used once. A
ticket in the query is not covered; the ticket itself names the key (`ticket`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from mdg.access.issuer import public_key
from mdg.access.jwt import Malformed, UnverifiedToken, encode
from mdg.errors import Unauthenticated

ALGORITHM = "ES256"
AGE = timedelta(seconds=60)  # either way of now
TYPE = "dpop+jwt"

Seen = Callable[[str, datetime], Awaitable[bool]]
"""Records a proof as used until a time; True when it had been used before."""


async def verify_proof(
    proofs: Sequence[str],
    *,
    method: str,
    url: str,
    seen: Seen,
    now: datetime,
    token: str | None = None,
    jkt: str | None = None,
) -> str:
    """The RFC 7638 thumbprint of the key that made the one proof in `proofs`, the values of all `DPoP` headers.

    With `token` and `jkt` the proof must also be made for that access token by the key it is bound to.
    `Unauthenticated` (invalid_dpop_proof) when anything does not hold; `Unavailable` when its first use cannot be
    recorded.
    """
    try:
        thumbprint, jti = _checked(proofs, method, url, now, token=token, jkt=jkt)
    except Malformed as error:
        raise Unauthenticated(reason=f"proof-{error}", error="invalid_dpop_proof") from None
    if await seen(f"{thumbprint}.{jti}", now + 2 * AGE):
        raise Unauthenticated(reason="proof-replayed", error="invalid_dpop_proof")
    return thumbprint


def _checked(
    proofs: Sequence[str], method: str, url: str, now: datetime, *, token: str | None, jkt: str | None
) -> tuple[str, str]:
    if len(proofs) != 1:
        raise Malformed("missing" if not proofs else "many")
    proof = UnverifiedToken.parse(proofs[0])
    header, claims = proof.header, proof.claims
    if header.get("typ") != TYPE:
        raise Malformed("typ")
    if header.get("alg") != ALGORITHM:
        raise Malformed("alg")
    jwk = header.get("jwk")
    key = public_key(jwk, ALGORITHM) if isinstance(jwk, dict) else None
    if key is None:
        raise Malformed("jwk")
    proof.verify(key, ALGORITHM)
    thumbprint = key.thumbprint()
    if jkt is not None and not _same(thumbprint, jkt):
        raise Malformed("key")
    if claims.get("htm") != method:
        raise Malformed("htm")
    htu = claims.get("htu")
    if not isinstance(htu, str) or htu.partition("?")[0].partition("#")[0] != url:
        raise Malformed("htu")
    iat = claims.get("iat")
    if type(iat) is not int or abs(now.timestamp() - iat) > AGE.total_seconds():
        raise Malformed("iat")
    if token is not None:
        ath = claims.get("ath")
        if not isinstance(ath, str) or not _same(ath, encode(hashlib.sha256(token.encode()).digest())):
            raise Malformed("ath")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 8 <= len(jti) <= 256 or not jti.isprintable():
        raise Malformed("jti")
    return thumbprint, jti


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
