"""What stands for a record in a log that strangers may read: a salted commitment, so the log tells nothing of a person.

The leaf is one line of JSON with the time and the kind of the record and an HMAC-SHA-256 over its exact text, under the
16 random bytes of its row. A reader who is shown record and salt can compute the leaf; without the salt no name can be
tried. Its hash is that of a leaf of an RFC 6962 tree. The place in the tree is the record's number, so the leaf has
none.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

import orjson

SALT = 16
"""Bytes of a salt."""
LEAF_PREFIX = b"\x00"
"""What RFC 6962 2.1 puts before a leaf, so that no leaf can pass for a node of the tree."""


def new_salt() -> bytes:
    """SALT random bytes, for one record."""
    return secrets.token_bytes(SALT)


def leaf(time: str, kind: str, salt: bytes, record: str) -> bytes:
    """The leaf of a record: `time` as its AuditEvent has it, `kind` of `model.event.Kind`, `record` as it is stored."""
    commitment = hmac.digest(salt, record.encode(), hashlib.sha256)
    return orjson.dumps({"v": 1, "time": time, "type": kind, "c": base64.b64encode(commitment).decode()})


def leaf_hash(content: bytes) -> bytes:
    """The 32 bytes that an RFC 6962 tree has for a leaf."""
    return hashlib.sha256(LEAF_PREFIX + content).digest()
