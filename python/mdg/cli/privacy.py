"""Which files never leave this machine, or are not proposed for it: private keys, and what only its owner may read."""

from __future__ import annotations

import json
import stat
from pathlib import Path

KEY_NAMES = (".key", ".jwk", ".jwks", ".p8", ".p12", ".pfx")
PRIVATE_NAMES = (*KEY_NAMES, ".pem")
HEAD = 16 * 1024
"""Bytes in which a key shows itself."""


def is_private_key(path: Path) -> bool:
    """Whether a file is a private key: by its name, as PEM or JWK, or as the 32 raw bytes that `mdg keygen` writes."""
    if path.name.lower().endswith(KEY_NAMES):
        return True
    with path.open("rb") as file:
        head = file.read(HEAD)
    if b"-----BEGIN " in head and b"PRIVATE KEY-----" in head:
        return True
    if len(head) == 32 and _owner_only(path):
        return True
    return head.lstrip().startswith(b"{") and len(head) < HEAD and _is_private_jwk(head)


def is_private(path: Path) -> bool:
    """Whether a file is not proposed for sending: a key or certificate, or a file that only its owner may read."""
    return path.name.lower().endswith(PRIVATE_NAMES) or _owner_only(path) or is_private_key(path)


def _owner_only(path: Path) -> bool:
    return not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _is_private_jwk(data: bytes) -> bool:
    """A JWK or a set of JWKs (RFC 7517) with a private or symmetric member (RFC 7518 6)."""
    try:
        value = json.loads(data)
    except ValueError:
        return False
    keys = value.get("keys", [value]) if isinstance(value, dict) else []
    return any(isinstance(key, dict) and "kty" in key and ("d" in key or "k" in key) for key in keys)
