"""A card: one gateway's name and public keys, signed by itself; and the set of cards that a caller trusts.

The self-signature is Ed25519 over RFC 8785 of the card without `signature`. It shows that the parts of a card belong
together and that its maker holds the signing key; that the card is the right one for its `id` is said by the
directory, or by the person who put the file into `--trust`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeAlias

from mdg import _core
from mdg.errors import InputOutput, Misuse, Refused

Kind: TypeAlias = Literal["x25519", "ed25519"]
MEMBERS = ("id", "name", "contact", "x25519", "ed25519", "signature")
CARD_LIMIT = 16 * 1024  # bytes; a card is about 500
TEXT_LIMIT = 1024  # characters of id, name and contact


@dataclass(frozen=True, slots=True)
class Card:
    """A verified card. `id` is the JMIX entity id (an HPI-O URI for a gateway); the keys are raw 32-byte values.

    Made by `parse`, `from_json` or `issue` only: each of them has checked or made the signature.
    """

    id: str
    name: str
    contact: str
    x25519: bytes
    ed25519: bytes
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The card in `data` (JSON). `Refused` E_JSON, E_SCHEMA or E_SIG_INVALID."""
        if len(data) > CARD_LIMIT:
            raise Refused("E_SCHEMA", "card", f"it is longer than {CARD_LIMIT} bytes")
        _core.check_json(data)
        return cls.from_json(json.loads(data))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The card in a JSON value that was parsed strictly before. `Refused` E_SCHEMA or E_SIG_INVALID."""
        if not isinstance(value, Mapping) or set(value) != set(MEMBERS):
            raise Refused("E_SCHEMA", "card", f"its members are {', '.join(MEMBERS)}, each exactly once")
        card = cls(
            id=_text(value, "id", 1),
            name=_text(value, "name", 0),
            contact=_text(value, "contact", 0),
            x25519=_raw(value, "x25519", 32),
            ed25519=_raw(value, "ed25519", 32),
            signature=_raw(value, "signature", 64),
        )
        _core.verify_signature(card.ed25519, _signed_bytes(card), card.signature)
        return card

    @classmethod
    def issue(cls, *, id: str, name: str, contact: str, x25519: bytes, signer: _core.Ed25519Key) -> Self:  # noqa: A002 - the card's own word
        """A new card for the public key `x25519`, signed by `signer`. `Refused` E_SCHEMA for text that a card cannot
        hold."""
        unsigned = cls(id=id, name=name, contact=contact, x25519=x25519, ed25519=signer.public, signature=bytes(64))
        signed = unsigned.to_json() | {"signature": _b64(signer.sign(_signed_bytes(unsigned)))}
        return cls.from_json(signed)

    @property
    def kid(self) -> str:
        """The key id of its signing key (seg/1 4.1)."""
        return _core.kid(self.ed25519)

    @property
    def entity(self) -> dict[str, str]:
        """The JMIX entity {id, name, contact}."""
        return {"id": self.id, "name": self.name, "contact": self.contact}

    def to_json(self) -> dict[str, str]:
        """The card as the JSON object that `from_json` reads."""
        return self.entity | {
            "x25519": _b64(self.x25519),
            "ed25519": _b64(self.ed25519),
            "signature": _b64(self.signature),
        }

    def verify_jws(self, jws: bytes, typ: str) -> bytes:
        """The payload of a compact JWS by this card's key, in the order of checks of seg/1 4.2. `Refused` E_SIG_…."""
        payload, _ = _core.verify_jws(jws, typ, [self.ed25519])
        return payload


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures a caller accepts: (entity id or None for any, raw Ed25519 key), as `_core.verify` takes it."""

    pairs: tuple[tuple[str | None, bytes], ...]

    @classmethod
    def of(cls, cards: Iterable[Card]) -> Self:
        """Trust in each card's key, for that card's id only."""
        return cls(tuple((card.id, card.ed25519) for card in cards))

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """From files: a card (`*.json`) trusts its key for its id; 32 raw bytes (`*.pub`) trust a key for any id.

        `InputOutput` when a file cannot be read, `Misuse` when it is neither, `Refused` for a card that does not hold.
        """
        pairs: list[tuple[str | None, bytes]] = []
        for path in paths:
            public = read_public(path, "ed25519")
            pairs.append((public.id, public.ed25519) if isinstance(public, Card) else (None, public))
        return cls(tuple(pairs))


def read_public(path: Path, kind: Kind) -> Card | bytes:
    """The card, or the raw 32-byte public key of `kind` (x25519 or ed25519), in a file. Errors as `Trust.read`."""
    check_name(path, kind, "pub")
    try:
        with path.open("rb") as file:
            data = file.read(CARD_LIMIT + 1)
    except OSError as error:
        raise InputOutput(str(path), error.strerror or "it cannot be read") from error
    if len(data) == 32:
        return data
    if not data.lstrip().startswith(b"{"):
        raise Misuse(f"{path}: neither a card (JSON) nor a public key of 32 raw bytes")
    try:
        return Card.parse(data)
    except Refused as error:
        raise Refused(error.code, f"{path}, {error.part}", error.why, error.at) from None


def check_name(path: Path, kind: Kind, half: Literal["key", "pub"]) -> None:
    """`Misuse` when the name, as `mdg keygen` gives it, says that a file holds another key than this `half` of `kind`.
    Raw keys of all kinds look alike, and an envelope that is sealed to a private or a signing key cannot be opened."""
    end = path.name.rpartition(".")[2]
    other = "ed25519" if kind == "x25519" else "x25519"
    own = path.name.removesuffix(".card.json")
    if half == "key" and own != path.name:
        raise Misuse(f"{path} is a card, not a key; name {path.with_name(f'{own}.{kind}.key')}")
    if (half, end) == ("pub", "key"):
        error = Misuse(f"{path} is a private key, which never leaves its owner; name a card: NAME.card.json")
        error.add_note(f"if that key came to you from somebody else, tell its owner to make another one: {path.name}")
        raise error
    if (half, end) == ("key", "pub") or path.name.endswith((f"{other}.key", f"{other}.pub")):
        raise Misuse(f"{path} is another key than the one that is asked for; mdg keygen calls it NAME.{kind}.{half}")


def _signed_bytes(card: Card) -> bytes:
    unsigned = {name: value for name, value in card.to_json().items() if name != "signature"}
    return _core.canonical_json(json.dumps(unsigned, ensure_ascii=False).encode())


def _text(value: Mapping[object, object], name: str, least: int) -> str:
    text = value[name]
    if not isinstance(text, str) or not least <= len(text) <= TEXT_LIMIT or not text.isprintable():
        raise Refused("E_SCHEMA", f"card.{name}", f"it is printable text of {least} to {TEXT_LIMIT} characters")
    return text


def _raw(value: Mapping[object, object], name: str, length: int) -> bytes:
    text = value[name]
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length or _b64(raw) != text:
        raise Refused("E_SCHEMA", f"card.{name}", f"it is base64 of {length} bytes")
    return raw


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
