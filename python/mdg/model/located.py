"""Where bytes lie, and which bytes they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Located:
    """One stored object, as it was when it was indexed.

    `source` is the name of the source that reads it, `key` names the object there: a path, an object key. `version` is
    what the source compares to see that the object has changed: the modification time of a file, an ETag. Only the
    source understands `key` and `version`. `size` in bytes, `sha256` of all of them.
    """

    source: str
    key: str
    version: str
    size: int
    sha256: bytes
