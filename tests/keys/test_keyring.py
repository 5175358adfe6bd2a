"""The keyring: made once, private to its owner, the same after a restart."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from mdg.errors import InputOutput, Misuse
from mdg.keys import Keyring, ProofKey

FILES = {"x25519.key", "ed25519.key", "ticket.key", "dpop.jwk"}


def opened(folder: Path) -> Keyring:
    return Keyring.open(folder, id="urn:x:1", name="Demo", contact="it@example.org")


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert first.card == second.card
    assert first.dpop.jkt == second.dpop.jkt
    assert first.ticket.public == second.ticket.public != first.ed25519.public
    assert {path.name for path in (tmp_path / "keys").iterdir()} == FILES
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path, name: str) -> None:
    opened(tmp_path)
    (tmp_path / "keys" / name).chmod(0o640)
    with pytest.raises(InputOutput, match=name):
        opened(tmp_path)


def test_a_new_data_folder_is_private(tmp_path: Path) -> None:
    Keyring.open(tmp_path / "data", id="urn:x:1", name="N", contact="")
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_data_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(InputOutput, match=f"chmod 700 {folder}"):
        opened(folder)
    with pytest.raises(InputOutput, match="chmod 700"):
        Keyring.check(folder)
    assert not list(folder.iterdir())


def test_a_data_folder_that_others_may_read_becomes_private(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    opened(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_of_a_private_key_is_shown(tmp_path: Path) -> None:
    keyring = opened(tmp_path)
    secret = json.loads((tmp_path / "keys" / "dpop.jwk").read_bytes())["d"]
    assert secret not in repr(keyring) + repr(keyring.dpop)
    assert "Key" not in repr(keyring).replace("Keyring", "")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"")
    with pytest.raises(InputOutput, match="keys"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        json.dumps(ECKey.generate_key("P-384").as_dict(private=True)).encode(),
        json.dumps(ECKey.generate_key("P-256").as_dict(private=False)).encode(),
    ],
)
def test_a_proof_key_is_a_private_p256_jwk(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "dpop.jwk"
    path.touch(mode=0o600)
    path.write_bytes(text)
    with pytest.raises(Misuse, match="P-256"):
        ProofKey.read(str(path))


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = str(tmp_path / "dpop.jwk")
    ProofKey.generate().write(path)
    with pytest.raises(InputOutput):
        ProofKey.generate().write(path)


def test_a_proof_carries_what_rfc_9449_asks_for() -> None:
    key = ProofKey.generate()
    proof = key.prove("GET", "https://mdg.example.org/api/jmix/r/1?t=2", "token")
    made = jws.extract_compact(proof.encode())
    header, claims = made.headers(), json.loads(made.payload)
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
    assert "d" not in header["jwk"]
    assert ECKey.import_key(header["jwk"]).thumbprint() == key.jkt
    assert set(claims) == {"jti", "htm", "htu", "iat", "ath"}
    assert claims["htu"] == "https://mdg.example.org/api/jmix/r/1"
    assert claims["jti"] != json.loads(jws.extract_compact(key.prove("GET", "https://x").encode()).payload)["jti"]
