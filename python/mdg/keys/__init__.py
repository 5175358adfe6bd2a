"""The gateway's own keys and whom it trusts: handles, cards, and the directory that vouches for both.

Private bytes stay in Rust handles; the one exception is the DPoP key, which joserfc holds (`proof`).
"""

from mdg._core import Ed25519Key, X25519Key
from mdg.keys.card import Card, Trust
from mdg.keys.directory import Directory, HttpDirectory, LocalDirectory
from mdg.keys.keyring import Keyring
from mdg.keys.proof import ProofKey

__all__ = [
    "Card",
    "Directory",
    "Ed25519Key",
    "HttpDirectory",
    "Keyring",
    "LocalDirectory",
    "ProofKey",
    "Trust",
    "X25519Key",
]
