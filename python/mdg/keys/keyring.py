"""The keys of one gateway: what it decrypts, signs, proves possession and issues tickets with.

Four files under `<data>/keys`, mode 0600, made on first use: `x25519.key` and `ed25519.key` (named by the card),
`ticket.key` (Ed25519, known to nobody else) and `dpop.jwk` (EC P-256, RFC 9449). The first three live in Rust and
their bytes never become Python objects.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from mdg import _core
from mdg.errors import InputOutput
from mdg.keys.card import Card
from mdg.keys.proof import ProofKey

FOLDER = "keys"
"""In the data folder."""

Key = TypeVar("Key", _core.X25519Key, _core.Ed25519Key, ProofKey)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Handles of the four keys, and the card that publishes the first two."""

    x25519: _core.X25519Key = field(repr=False)
    ed25519: _core.Ed25519Key = field(repr=False)
    ticket: _core.Ed25519Key = field(repr=False)
    dpop: ProofKey = field(repr=False)
    card: Card

    @classmethod
    def open(cls, data_dir: Path, *, id: str, name: str, contact: str) -> Self:  # noqa: A002 - the card's own word
        """The keyring of a data folder, made when it is not there yet. Blocks on files: call it at start.

        `InputOutput` when a key cannot be read or written, when others than its owner may read it, or when others
        may write to the data folder; `Misuse` for a file that is no key. A data folder that others may read becomes
        private.
        """
        folder = data_dir / FOLDER
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # names in it say which studies there are
            _private(data_dir)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InputOutput(str(folder), error.strerror or "the key folder cannot be made") from error
        x25519 = _kept(folder / "x25519.key", _core.X25519Key.read, _core.X25519Key.generate)
        ed25519 = _kept(folder / "ed25519.key", _core.Ed25519Key.read, _core.Ed25519Key.generate)
        ticket = _kept(folder / "ticket.key", _core.Ed25519Key.read, _core.Ed25519Key.generate)
        dpop = _kept(folder / "dpop.jwk", ProofKey.read, ProofKey.generate)
        card = Card.issue(id=id, name=name, contact=contact, x25519=x25519.public, signer=ed25519)
        return cls(x25519, ed25519, ticket, dpop, card)

    @staticmethod
    def check(data_dir: Path) -> None:
        """Reads the keys that are there already and makes none; the errors are those of `open`."""
        if data_dir.exists():
            _not_shared(data_dir)
        for name, read in (
            ("x25519.key", _core.X25519Key.read),
            ("ed25519.key", _core.Ed25519Key.read),
            ("ticket.key", _core.Ed25519Key.read),
            ("dpop.jwk", ProofKey.read),
        ):
            if (path := data_dir / FOLDER / name).exists():
                read(str(path))


def _private(data_dir: Path) -> None:
    """Names in the data folder say which studies there are."""
    _not_shared(data_dir)
    if data_dir.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        data_dir.chmod(0o700)


def _not_shared(data_dir: Path) -> None:
    """Write access to the data folder is enough to exchange the keys in it."""
    if data_dir.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputOutput(str(data_dir), f"others may write to the data folder: chmod 700 {data_dir}")


def _kept(path: Path, read: Callable[[str], Key], generate: Callable[[], Key]) -> Key:
    if not path.exists():
        generate().write(str(path))
    return read(str(path))
