"""The key that an access token is bound to, and the proofs made with it (RFC 9449 4.2).

joserfc holds this private key: it proves possession for five minutes at a time and opens no image. What the receiving
side checks is `access/dpop.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from mdg.errors import InputOutput, Misuse

# joserfc is imported where it is used: commands that only seal or open an envelope never prove anything, and reading it
# costs them as much as hashing 50 MB.
if TYPE_CHECKING:
    from joserfc.jwk import ECKey

ALGORITHM = "ES256"


class ProofKey:
    """An EC P-256 key for DPoP proofs."""

    __slots__ = ("_key", "jkt")

    jkt: str
    """The RFC 7638 thumbprint: what a token's `cnf.jkt` names."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        self.jkt = key.thumbprint()

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        from joserfc.jwk import ECKey

        return cls(ECKey.generate_key("P-256"))

    @classmethod
    def read(cls, path: str) -> Self:
        """From a JWK file. `InputOutput` when it cannot be read or others may read it, `Misuse` when it is no such
        key."""
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey

        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                    raise InputOutput(path, "others than its owner may read this private key; run chmod 600 on it")
                text = file.read(4096)
        except OSError as error:
            raise InputOutput(path, error.strerror or "it cannot be read") from error
        try:
            key = ECKey.import_key(json.loads(text))
        except (JoseError, ValueError, TypeError, KeyError):
            raise Misuse(f"{path}: not an EC P-256 private key in JWK form") from None
        if key.curve_name != "P-256" or not key.is_private:
            raise Misuse(f"{path}: not an EC P-256 private key in JWK form")
        return cls(key)

    def write(self, path: str) -> None:
        """To a new file, mode 0600, synced. `InputOutput` when the path exists."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(self._key.as_dict(private=True)).encode())
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise InputOutput(path, error.strerror or "it cannot be written") from error

    def prove(self, method: str, url: str, token: str | None = None, *, now: datetime | None = None) -> str:
        """The `DPoP` header for one request: a fresh `jti`, bound to `method`, to `url` without its query and, when
        given, to the access token."""
        from joserfc import jws

        header = {"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": self._key.as_dict(private=False)}
        claims: dict[str, str | int] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": url.partition("?")[0].partition("#")[0],
            "iat": int((now or datetime.now(UTC)).timestamp()),
        }
        if token is not None:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        return jws.serialize_compact(header, json.dumps(claims).encode(), self._key, [ALGORITHM])
