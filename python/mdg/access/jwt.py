"""A compact JWS taken apart under strict rules, and its signature checked; nothing in it is believed before that.

The form: at most 8 KiB, three segments of canonical base64url, two JSON objects without duplicate members
(spec/access 1.1). The signature itself is joserfc's work. What the claims mean is `requester` and `dpop`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Self

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

SIZE_LIMIT = 8 * 1024  # characters of a token or proof
DEPTH_LIMIT = 16  # levels of a claim set; ours have five
INTEGER_MOST = (1 << 53) - 1  # beyond that not every reader has the same number (RFC 7493 2.2)
SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
SIGNATURES = frozenset({"ES256", "ES384", "PS256", "PS384", "RS256"})
"""What an issuer may be configured with: asymmetric only, so that no public key is ever taken for a shared secret."""


class Malformed(Exception):
    """Not a token of the one form that is read; the message is for the audit."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a compact JWS claims, before any signature was checked."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    compact: str = field(repr=False)

    @classmethod
    def parse(cls, compact: str) -> Self:
        """`Malformed` for anything that is not exactly in form."""
        if len(compact) > SIZE_LIMIT:
            raise Malformed("too-long")
        segments = compact.split(".")
        if len(segments) != 3:
            raise Malformed("segments")
        header, claims, _ = (decode(segment) for segment in segments)
        token = cls(strict_object(header), strict_object(claims), compact)
        if "crit" in token.header or "b64" in token.header:
            raise Malformed("crit")
        return token

    def verify(self, key: ECKey | RSAKey, algorithm: str) -> None:
        """The signature by `key`, with the algorithm that its owner uses. `Malformed` when it does not hold."""
        if self.header.get("alg") != algorithm or algorithm not in SIGNATURES:
            raise Malformed("alg")
        try:
            jws.deserialize_compact(self.compact, key, [algorithm], registry=_registry(algorithm))
        except (JoseError, ValueError, TypeError):
            raise Malformed("signature") from None


def decode(segment: str) -> bytes:
    """The bytes of one canonical base64url segment without padding; `Malformed` for every other spelling."""
    if not SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise Malformed("base64url")
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if encode(data) != segment:
        raise Malformed("base64url")
    return data


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def strict_object(data: bytes) -> dict[str, object]:
    """One JSON object in UTF-8: no duplicate member, no NaN, no fraction, no lone surrogate, 16 levels. `Malformed`
    otherwise."""
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_members, parse_constant=_refuse, parse_float=_refuse, parse_int=_integer
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise Malformed("json") from None
    if not isinstance(value, dict) or _depth(value) > DEPTH_LIMIT:
        raise Malformed("json")
    return value


def _registry(algorithm: str) -> jws.JWSRegistry:
    # Unknown header members are ignored (RFC 7515 4), `jku`, `x5u`, `jwk` and `x5c` among them: the key came from
    # elsewhere.
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = SIZE_LIMIT
    return registry


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse(text: str) -> NoReturn:
    raise ValueError("not an integer")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MOST:
        raise ValueError("an integer out of range")
    return int(text)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(v) for v in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(v) for v in value), default=0)
    return 0
