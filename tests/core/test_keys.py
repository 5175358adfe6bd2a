"""Private keys as handles: files, permissions, signatures; `cryptography` is the second opinion."""

from __future__ import annotations

import hashlib
import os
import stat
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdg import _core
from mdg._core import Ed25519Key, X25519Key
from mdg.errors import InputOutput, Misuse, Refused

Key = type[X25519Key] | type[Ed25519Key]
KINDS = pytest.mark.parametrize("kind", [X25519Key, Ed25519Key])


@KINDS
def test_a_written_key_is_private_and_reads_back(kind: Key, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    key = kind.generate()
    key.write(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 32
    assert kind.read(str(path)).public == key.public
    assert kind.generate().public != key.public


@KINDS
def test_the_public_key_is_that_of_another_implementation(kind: Key, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    kind.generate().write(str(path))
    other = X25519PrivateKey if kind is X25519Key else Ed25519PrivateKey
    public = other.from_private_bytes(path.read_bytes()).public_key()
    assert kind.read(str(path)).public == public.public_bytes(Encoding.Raw, PublicFormat.Raw)


@KINDS
def test_an_existing_path_is_never_overwritten(kind: Key, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"precious")
    with pytest.raises(InputOutput, match=r"a\.key"):
        kind.generate().write(str(path))
    assert path.read_bytes() == b"precious"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputOutput):
        kind.generate().write(str(link))
    assert not (tmp_path / "elsewhere").exists()


@KINDS
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_may_use_is_refused(kind: Key, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    kind.generate().write(str(path))
    path.chmod(mode)
    with pytest.raises(InputOutput, match="chmod 600"):
        kind.read(str(path))


@KINDS
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_file_of_another_length_is_misuse(kind: Key, length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(length))
    with pytest.raises(Misuse, match=f"32 bytes, this file {length}"):
        kind.read(str(path))


@KINDS
def test_what_is_no_key_file_is_an_error_and_never_blocks(kind: Key, tmp_path: Path) -> None:
    with pytest.raises(InputOutput, match="missing"):
        kind.read(str(tmp_path / "missing"))
    with pytest.raises(InputOutput):
        kind.read(str(tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InputOutput, match="not a regular file"):
        kind.read(str(tmp_path / "pipe"))


@KINDS
def test_a_handle_shows_no_private_byte_and_cannot_be_copied(kind: Key, tmp_path: Path) -> None:
    import copy
    import pickle

    path = tmp_path / "a.key"
    key = kind.generate()
    key.write(str(path))
    secret = path.read_bytes()
    assert secret.hex() not in repr(key)
    public_names = {name for name in dir(key) if not name.startswith("_")}
    assert public_names <= {"generate", "read", "write", "public", "kid", "sign", "sign_jws"}
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)


def test_signatures_are_those_of_another_implementation() -> None:
    key = Ed25519Key.generate()
    signature = key.sign(b"message")
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, b"message")
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, b"massage")
    _core.verify_signature(key.public, b"message", signature)
    with pytest.raises(Refused) as refused:
        _core.verify_signature(key.public, b"massage", signature)
    assert (refused.value.code, refused.value.at) == ("E_SIG_INVALID", None)


def test_an_identity_point_signs_nothing() -> None:
    """OpenSSL's plain verification accepts this one for every message."""
    identity = bytes([1]) + bytes(31)
    with pytest.raises(Refused, match="E_SIG_INVALID"):
        _core.verify_signature(identity, b"anything", identity + bytes(32))


def test_the_kid_is_the_digest_of_the_public_key() -> None:
    key = Ed25519Key.generate()
    expected = urlsafe_b64encode(hashlib.sha256(key.public).digest()).rstrip(b"=").decode()
    assert key.kid == _core.kid(key.public) == expected
    with pytest.raises(Misuse, match="32 bytes, not 31"):
        _core.kid(key.public[:31])
