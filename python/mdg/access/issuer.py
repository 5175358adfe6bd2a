"""The issuers whose tokens count, and the keys that they sign with (spec/access 1.2).

Keys come from the issuer's JWKS and from nowhere else; a `kid` is a lookup key and nothing more. One fetch serves all
who wait for it, an unknown `kid` causes at most one fetch a minute, and when the issuer cannot be reached the last
set is used for at most an hour.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from mdg.access.jwt import SIGNATURES, Malformed, decode, strict_object
from mdg.errors import MdgError, Misuse, Unavailable
from mdg.model.identity import HpiO

FRESH_LEAST, FRESH_MOST = 60.0, 3600.0  # seconds a key set is used, whatever Cache-Control says
FRESH_DEFAULT = 300.0
STALE_MOST = 3600.0  # seconds an unreachable issuer's last set still counts, from its fetch
RETRY = 60.0  # seconds between fetches caused by an unknown kid or by a failure
KEYS_MOST = 64
KID_LIMIT = 256  # characters

CURVES = {"ES256": "P-256", "ES384": "P-384"}
PublicKey = ECKey | RSAKey


class Fetched(Protocol):
    """What a GET brought; header names are lower case."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


class Fetch(Protocol):
    """The outbound client, as far as key sets need it: 1 MiB, 10 s, no redirects."""

    async def get(self, url: str) -> Fetched: ...


class Jwks:
    """The key set at one address."""

    def __init__(self, url: str, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, Mapping[str, object]] = {}
        self._fetched = self._tried = float("-inf")
        self._fresh = FRESH_LEAST
        self._one_at_a_time = anyio.Lock()

    async def key(self, kid: str, algorithm: str) -> PublicKey | None:
        """The key named `kid` for `algorithm`; None when the issuer has no such key. `Unavailable` when that cannot be
        known: no set was ever fetched, or the last is too old."""
        now = self._clock()
        if now >= self._fetched + self._fresh or (kid not in self._keys and now >= self._tried + RETRY):
            await self._refresh(asked=now)
        if self._clock() >= self._fetched + max(self._fresh, STALE_MOST):
            raise Unavailable(reason="jwks")
        found = self._keys.get(kid)
        return None if found is None else _public_key(found, algorithm)

    async def _refresh(self, asked: float) -> None:
        async with self._one_at_a_time:
            if self._tried >= asked or self._clock() < self._tried + min(RETRY, self._fresh):
                return  # another caller fetched while this one waited, or a failure is too recent to try again
            self._tried = self._clock()
            try:
                answer = await self._fetch.get(self._url)
                keys = _read(answer)
            except (MdgError, Malformed):
                return  # the set of before counts for as long as `key` allows
            self._keys = keys
            self._fetched = self._clock()
            self._fresh = _freshness(answer.headers.get("cache-control", ""))


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted token authority: `iss` is compared as a string, `algorithms` is all that it may sign with.

    `clients` maps each registered client to its organisation; None leaves registration to the issuer.
    """

    iss: str
    jwks: Jwks = field(repr=False)
    algorithms: frozenset[str] = frozenset({"ES256"})
    clients: Mapping[str, HpiO] | None = None

    def __post_init__(self) -> None:
        if not self.algorithms or not self.algorithms <= SIGNATURES:
            raise Misuse(f"an issuer's algorithms are some of {', '.join(sorted(SIGNATURES))}")

    def registers(self, client_id: str, organisation: HpiO) -> bool:
        """Whether a client may act for an organisation, as far as that is known here."""
        return self.clients is None or self.clients.get(client_id) == organisation


def _read(answer: Fetched) -> dict[str, Mapping[str, object]]:
    if answer.status != 200:
        raise Malformed("jwks-status")
    keys = strict_object(answer.body).get("keys")
    if not isinstance(keys, list) or len(keys) > KEYS_MOST:
        raise Malformed("jwks")
    named: dict[str, Mapping[str, object]] = {}
    for key in keys:
        if isinstance(key, dict) and isinstance(kid := key.get("kid"), str) and 0 < len(kid) <= KID_LIMIT:
            if kid in named:
                raise Malformed("jwks-kid")
            named[kid] = key
    return named


def _public_key(jwk: Mapping[str, object], algorithm: str) -> PublicKey | None:
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
        return None
    return public_key(jwk, algorithm)


def public_key(jwk: Mapping[str, object], algorithm: str) -> PublicKey | None:
    """The public key in `jwk` when it is one that fits `algorithm`, with its point on the curve or its modulus and
    exponent large enough; None otherwise, and for a JWK with private members."""
    if "d" in jwk or "k" in jwk:
        return None
    members = {name: value for name, value in jwk.items() if isinstance(value, str)}
    try:
        return _elliptic(members, algorithm) if algorithm in CURVES else _rsa(members)
    except (JoseError, Malformed, ValueError, TypeError, KeyError):
        return None


def _elliptic(members: Mapping[str, str], algorithm: str) -> ECKey | None:
    if (members["kty"], members["crv"]) != ("EC", CURVES[algorithm]):
        return None
    return ECKey.import_key({name: members[name] for name in ("kty", "crv", "x", "y")})


def _rsa(members: Mapping[str, str]) -> RSAKey | None:
    modulus, exponent = (int.from_bytes(decode(members[name])) for name in ("n", "e"))
    if members["kty"] != "RSA" or modulus.bit_length() < 2048 or exponent < 3:
        return None
    return RSAKey.import_key({name: members[name] for name in ("kty", "n", "e")})


def _freshness(cache_control: str) -> float:
    found = re.search(r"(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])", cache_control)
    seconds = float(found[1]) if found else FRESH_DEFAULT
    return min(max(seconds, FRESH_LEAST), FRESH_MOST)
