"""Keys and cards as files on the command line: who a party is, and which of its keys is meant."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from mdg.errors import Misuse
from mdg.keys import Card, Ed25519Key, X25519Key
from mdg.keys.card import check_name, read_public


@dataclass(frozen=True, slots=True)
class Party:
    """One side of an envelope: the JMIX entity {id, name, contact} and the public key that counts for it, 32 raw
    bytes."""

    entity: dict[str, str]
    public: bytes

    @property
    def title(self) -> str:
        """What to call it in front of a person."""
        return self.entity["name"] or self.entity["id"]


def read_receiver(path: Path) -> Party:
    """Whom an envelope is for, from a card or a raw X25519 public key. Errors as `keys.Trust.read`."""
    public = read_public(path, "x25519")
    return Party(public.entity, public.x25519) if isinstance(public, Card) else _nameless(public)


def read_signer(path: Path) -> tuple[Party, Ed25519Key]:
    """Who signs, from the private key file; the card of `mdg keygen` beside it says the name. `Misuse` when that card
    belongs to another key."""
    check_name(path, "ed25519", "key")
    key = Ed25519Key.read(str(path))
    beside = path.with_name(path.name.removesuffix(".ed25519.key") + ".card.json")
    if not path.name.endswith(".ed25519.key") or not beside.exists():
        return _nameless(key.public), key
    card = read_public(beside, "ed25519")
    if not isinstance(card, Card) or card.ed25519 != key.public:
        raise Misuse(f"{beside} is the card of another key than {path.name}")
    return Party(card.entity, card.ed25519), key


def read_opener(path: Path) -> tuple[X25519Key, str | None]:
    """The private key that opens what is sent to its owner, and the entity id of the owner where the card of
    `mdg keygen` beside it says so. A card of another key says nothing."""
    check_name(path, "x25519", "key")
    key = X25519Key.read(str(path))
    beside = path.with_name(path.name.removesuffix(".x25519.key") + ".card.json")
    if not path.name.endswith(".x25519.key") or not beside.exists():
        return key, None
    card = read_public(beside, "x25519")
    return key, card.id if isinstance(card, Card) and card.x25519 == key.public else None


def _nameless(public: bytes) -> Party:
    """A party known by its key alone: the id is the key's name by RFC 6920."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(public).digest()).rstrip(b"=").decode()
    return Party({"id": f"ni:///sha-256;{digest}", "name": "", "contact": ""}, public)
