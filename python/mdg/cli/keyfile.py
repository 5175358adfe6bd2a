"""Keys and cards as files on the command line: who a party is, and which of its keys is meant."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdg.errors import InputOutput, Misuse
from mdg.keys import Card, Ed25519Key, Trust, X25519Key
from mdg.keys.card import check_name, read_public

MAKE = "mdg keygen --out DIR --name NAME --id URI makes NAME.x25519.key, NAME.ed25519.key and the card to give away"


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


def given(option: str, path: Path, otherwise: str) -> Path:
    """`path`, the file that `option` names. `InputOutput` if nothing is there, with `otherwise` as what to do."""
    if not path.exists():
        missing = InputOutput(str(path), f"{option} names a file that is not there")
        missing.add_note(otherwise)
        raise missing
    return path


def read_trust(paths: Sequence[Path]) -> Trust:
    """Whose signatures are accepted, from `--trust`. Errors as `given` and `keys.Trust.read`."""
    otherwise = "name the card of the sender, which its `mdg keygen` (or `mdg config card`) made: NAME.card.json"
    return Trust.read([given("--trust", path, otherwise) for path in paths])


def read_receiver(path: Path) -> Party:
    """Whom an envelope is for, from a card or a raw X25519 public key. Errors as `keys.Trust.read`."""
    given("--to", path, "ask the receiver for its card, which its `mdg keygen` made: NAME.card.json")
    public = read_public(path, "x25519")
    return Party(public.entity, public.x25519) if isinstance(public, Card) else _nameless(public)


def read_signer(path: Path) -> tuple[Party, Ed25519Key]:
    """Who signs, from the private key file; the card of `mdg keygen` beside it says the name. `Misuse` when that card
    belongs to another key."""
    check_name(path, "ed25519", "key")
    given("--sign", path, MAKE)
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
    given("--key", path, MAKE)
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
