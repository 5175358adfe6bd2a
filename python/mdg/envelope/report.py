"""What the core says about an envelope, as frozen values."""

from __future__ import annotations

import builtins
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

from mdg._core import Recipe
from mdg.errors import Misuse

Verdict = Literal["full", "partial", "meaningless", "none"]
"""How far a signature reaches: over the whole manifest, over a manifest without its security block, over a constant, or
there is none. Only `full` opens an envelope."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An envelope that was written. Sizes in bytes."""

    id: str
    instances: int
    files: int
    bytes: int
    """Of the packed files together."""
    length: int
    """Of the envelope."""
    payload_hash: str
    """`sha256:` and hex of the ciphertext."""
    manifest_sha256: str
    """Hex."""
    manifest: builtins.bytes = field(repr=False)
    """manifest.json as it stands in the envelope."""
    recipe: Recipe | None = field(repr=False)
    """How to serve it, if that was asked for."""

    @classmethod
    def of(cls, report: str, manifest: builtins.bytes, recipe: Recipe | None) -> Packed:
        """From `_core.pack`."""
        return cls(**orjson.loads(report), manifest=manifest, recipe=recipe)

    @property
    def state(self) -> builtins.bytes:
        """The stored form of the recipe. `Misuse` if none was asked for."""
        if self.recipe is None:
            raise Misuse("an envelope has a recipe if it was packed with one")
        return self.recipe.state

    def to_json(self) -> dict[str, Any]:
        """For `--json`, log and audit: all but the manifest and the recipe."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("manifest", "recipe")}


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or receiver as the manifest names it."""

    id: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Bytes `start` to `end` (exclusive) that neither a signature nor a strict check covers."""

    part: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Report:
    """One verdict on an envelope. Sizes in bytes; what was not looked at is None."""

    ok: bool
    """Everything that was asked for holds; false for a mere inspection."""
    code: str | None
    """Of a refusal; a report that is returned has none."""
    profile: str
    dialect: str | None
    id: str
    timestamp: str
    manifest_sha256: str
    signature: Verdict
    verified: bool
    """The signature was checked against trusted keys."""
    opened: bool
    """The content was decrypted and checked."""
    sender: Party
    receiver: tuple[Party, ...]
    classification: str | None
    request: str | None
    """base64 SHA-256 of the signed request that it answers."""
    payload_bytes: int | None
    study_uid: str | None
    instances: int | None
    files: int | None
    bytes: int | None
    warnings: tuple[str, ...]
    """What is special about this envelope."""
    notes: tuple[str, ...]
    """What holds for every envelope of this format."""
    unsigned: tuple[Unsigned, ...]

    @classmethod
    def from_json(cls, text: str) -> Report:
        """From `_core.inspect`, `_core.verify` or `_core.open_envelope`."""
        members = orjson.loads(text)
        members["sender"] = Party(**members["sender"])
        members["receiver"] = tuple(Party(**party) for party in members["receiver"])
        members["warnings"] = tuple(members["warnings"])
        members["notes"] = tuple(members["notes"])
        members["unsigned"] = tuple(Unsigned(**part) for part in members["unsigned"])
        return cls(**members)

    def to_json(self) -> dict[str, Any]:
        """For `--json`, log and audit."""
        return asdict(self)
