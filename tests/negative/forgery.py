"""Tokens and proofs that are right but for one thing, which a row names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from tests.authority import Authority, Json, b64url, es256

from mdg.keys import Ed25519Key


class Forgery:
    """Makes what a row asks for. `words` are the values that a row may name in braces."""

    def __init__(self, services: str, public_url: str) -> None:
        self.services = services
        self.public_url = public_url
        self.authority = Authority(f"{services}/main", f"{public_url}/fhir")
        self.stranger = ECKey.generate_key("P-256")
        self.rsa = RSAKey.generate_key(2048, {"kid": "key-1", "use": "sig"})
        self.words: dict[str, str] = {}

    def token(self, row: Mapping[str, Any]) -> str:
        """The token of a row: a good one, changed as the row says."""
        claims, header = self.authority.claims(), self.authority.header()
        if "issuer" in row:
            claims["iss"] = f"{self.services}/{row['issuer']}"
        change(claims, self.resolve(row.get("claims", {})))
        change(header, self.resolve(row.get("header", {})))
        raw_header = append(json.dumps(header), row.get("header_append", ""))
        raw_claims = append(json.dumps(claims), self.resolve(row.get("claims_append", "")))
        signing_input = f"{b64url(raw_header.encode('utf-8', 'surrogatepass'))}.{b64url(raw_claims.encode())}"
        signature = self.signature(row.get("signed", "es256"), signing_input)
        if forged := row.get("forged_claims"):
            signing_input = f"{signing_input.partition('.')[0]}.{b64url(json.dumps(claims | forged).encode())}"
        return spelt(f"{signing_input}.{signature}", row.get("spelling"))

    def claims_of(self, token: str) -> Json:
        """The claims of a token that this world made."""
        claims = token.split(".")[1]
        found: Json = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return found

    def signature(self, how: str, signing_input: str) -> str:
        """A signature part by name; `es256` is the genuine one."""
        message = signing_input.encode()
        makers: dict[str, Callable[[], bytes]] = {
            "es256": lambda: es256(self.authority.key, message),
            "stranger": lambda: es256(self.stranger, message),
            "hmac of the public key": lambda: hmac.digest(self.authority.key.as_pem(private=False), message, "sha256"),
            "ps256": lambda: JWSRegistry.algorithms["PS256"].sign(message, self.rsa),
            "ed25519 with S+L": lambda: plus_order(Ed25519Key.generate().sign(message)),
            "ed25519 by a key of small order": lambda: b"\x01" + bytes(63),
            "": lambda: b"",
        }
        if how == "of another token":
            return self.authority.token().rpartition(".")[2]
        return b64url(makers[how]())

    def proof(self, token: str, method: str, path: str, row: Mapping[str, Any]) -> str:
        """The proof that goes with `token`, changed as the row says."""
        key = ECKey.generate_key("P-256") if row.get("key") == "another" else self.authority.proof._key
        claims: Json = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": f"{self.public_url}{path}",
            "iat": int(datetime.now(UTC).timestamp()),
            "ath": b64url(hashlib.sha256(token.encode()).digest()),
        }
        header: Json = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
        change(claims, self.resolve(row.get("claims", {})))
        change(header, self.resolve(row.get("header", {})))
        signing_input = f"{b64url(json.dumps(header).encode())}.{b64url(json.dumps(claims).encode())}"
        signature = "" if row.get("signed") == "" else b64url(es256(key, signing_input.encode()))
        return f"{signing_input}.{signature}"

    def resolve(self, value: Any) -> Any:
        """`@now+61` is a time; `{word}` is what the world calls so."""
        match value:
            case "{stranger_jwk}":
                return self.stranger.as_dict(private=False)
            case str() if value.startswith("@now"):
                return int(datetime.now(UTC).timestamp()) + int(value.removeprefix("@now") or 0)
            case str():
                for word, meaning in self.words.items():
                    value = value.replace(f"{{{word}}}", meaning)
                return value
            case dict():
                return {self.resolve(name): self.resolve(inner) for name, inner in value.items()}
            case list():
                return [self.resolve(inner) for inner in value]
        return value


def change(target: Json, changes: Mapping[str, Any]) -> None:
    """Merges `changes` into `target`; null takes a member out."""
    for name, value in changes.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            change(target[name], value)
        else:
            target[name] = value


def append(text: str, members: str) -> str:
    """Raw members put in at the end of a JSON object's text: duplicates, and numbers that no JSON library writes."""
    return f"{text[:-1]},{members}}}" if members else text


def spelt(token: str, spelling: str | None) -> str:
    """The same token in another spelling."""
    header, claims, signature = token.split(".")
    spellings = {
        None: token,
        "padded": f"{header}=.{claims}.{signature}",
        "spaced": f"{header}. {claims}.{signature}",
        "standard alphabet": f"{header}.{claims}.{signature[:-4]}+/+/",
        "two parts": f"{header}.{claims}",
        "four parts": f"{token}.{signature}",
        "five parts": f"{token}.{signature}.{signature}",
        "jwe": ".".join([b64url(b'{"alg":"dir","enc":"A256GCM"}'), "", b64url(bytes(12)), claims, b64url(bytes(16))]),
    }
    return spellings[spelling]


def plus_order(signature: bytes) -> bytes:
    """The same Ed25519 signature with S + L in place of S, which a lax verifier takes."""
    order = 2**252 + 27742317777372353535851937790883648493
    return signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
