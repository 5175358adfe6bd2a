"""Compact JWS: what we sign, another implementation verifies, and what breaks a rule has its code."""

from __future__ import annotations

import json
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws as joserfc_jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from mdg import _core
from mdg._core import Ed25519Key
from mdg.errors import Misuse, Refused

TYP = "jmix-manifest+jws"


def b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key: Ed25519Key, header: str, payload: bytes) -> bytes:
    body = f"{b64url(header.encode())}.{b64url(payload)}"
    return f"{body}.{b64url(key.sign(body.encode()))}".encode()


def test_joserfc_verifies_what_we_sign() -> None:
    key = Ed25519Key.generate()
    token = key.sign_jws(b'{"a":1}', TYP)
    public = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public)})
    registry = joserfc_jws.JWSRegistry(algorithms=["EdDSA", "Ed25519"])
    # RFC 9864 renames EdDSA to Ed25519; readers of JMIX 1.0 know the old name only.
    with pytest.warns(SecurityWarning):
        obj = joserfc_jws.deserialize_compact(token, public, registry=registry)
    assert obj.payload == b'{"a":1}'
    assert obj.headers() == {"alg": "EdDSA", "kid": key.kid, "typ": TYP}


def test_the_payload_and_the_key_that_signed_come_back() -> None:
    keys = [Ed25519Key.generate() for _ in range(3)]
    token = keys[1].sign_jws(b"\x00\xff", TYP)
    assert _core.verify_jws(token, TYP, [key.public for key in keys]) == (b"\x00\xff", keys[1].public)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ('{"alg":"EdDSA","kid":"%s","typ":"jmix-manifest+jws"}', None),
        ('{"typ":"jmix-manifest+jws","kid":"%s","alg":"Ed25519"}', None),
        ('{"alg":"EdDSA","kid":"%s","typ":"jmix-manifest+jws","typ":"jmix-manifest+jws"}', "E_SIG_FORMAT"),
        ('{"alg":"EdDSA","kid":"%s","typ":"jmix-manifest+jws","crit":[]}', "E_SIG_HEADER"),
        ('{"alg":"EdDSA","kid":"%s","typ":"JWT"}', "E_SIG_HEADER"),
        ('{"alg":"EdDSA","kid":"%s"}', "E_SIG_HEADER"),
        ('{"alg":"EdDSA","kid":"%s=","typ":"jmix-manifest+jws"}', "E_SIG_HEADER"),
        ('{"alg":"none","kid":"%s","typ":"jmix-manifest+jws"}', "E_SIG_ALG"),
        ('{"alg":"HS256","kid":"%s","typ":"jmix-manifest+jws"}', "E_SIG_ALG"),
    ],
)
def test_each_header_has_its_answer(header: str, code: str | None) -> None:
    key = Ed25519Key.generate()
    token = signed(key, header % key.kid, b"{}")
    if code is None:
        assert _core.verify_jws(token, TYP, [key.public])[0] == b"{}"
        return
    with pytest.raises(Refused) as refused:
        _core.verify_jws(token, TYP, [key.public])
    assert refused.value.code == code


def test_an_untrusted_key_a_changed_byte_and_a_short_trusted_key_are_refused() -> None:
    key, other = Ed25519Key.generate(), Ed25519Key.generate()
    token = key.sign_jws(b"{}", TYP)
    with pytest.raises(Refused, match="E_SIG_KEY"):
        _core.verify_jws(token, TYP, [other.public])
    with pytest.raises(Misuse, match="32 bytes"):
        _core.verify_jws(token, TYP, [key.public[:31]])
    head, _, signature = token.split(b".")
    with pytest.raises(Refused, match="E_SIG_INVALID"):
        _core.verify_jws(b".".join([head, b64url(b"{ }").encode(), signature]), TYP, [key.public])


def _vectors(shared_data: Path, name: str) -> list[dict[str, Any]]:
    folder = shared_data / "seg1-vectors"
    if not folder.is_dir():
        pytest.skip(f"no seg/1 vectors at {folder}")
    vectors: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_bytes())["vectors"]
    return vectors


def _trusted(vector: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(key) for keys in vector["open"]["trust"].values() for key in keys]


def test_the_signatures_of_the_seg1_vectors_verify(shared_data: Path) -> None:
    vectors = _vectors(shared_data, "positive")
    for vector in vectors:
        with zipfile.ZipFile(shared_data / "seg1-vectors" / vector["file"]) as archive:
            manifest, token = archive.read("manifest.json"), archive.read("manifest.jws")
        payload, _ = _core.verify_jws(token, TYP, _trusted(vector))
        assert payload == manifest, vector["name"]
        _core.check_json(manifest)
    assert len(vectors) == 9


def test_the_signature_faults_of_the_seg1_vectors_have_their_codes(shared_data: Path) -> None:
    decided_here = {"E_SIG_FORMAT", "E_SIG_HEADER", "E_SIG_ALG", "E_SIG_KEY", "E_SIG_INVALID"}
    seen: dict[str, int] = {}
    for vector in _vectors(shared_data, "negative"):
        code = vector["expect"]["code"]
        # Whether a trusted key may speak for this sender is decided by who reads the manifest.
        if code not in decided_here or "another-sender" in vector["name"]:
            continue
        with zipfile.ZipFile(shared_data / "seg1-vectors" / vector["file"]) as archive:
            token = archive.read("manifest.jws")
        with pytest.raises(Refused) as refused:
            _core.verify_jws(token, TYP, _trusted(vector))
        assert refused.value.code == code, vector["name"]
        seen[code] = seen.get(code, 0) + 1
    assert set(seen) == decided_here
    assert sum(seen.values()) == 16


def test_no_damage_to_a_signature_goes_unseen() -> None:
    """Every bit of a compact JWS, flipped alone: refused with a code of this check, never another error."""
    key = Ed25519Key.generate()
    token = key.sign_jws(b'{"id":"a","n":[1,2,3]}', TYP)
    codes = set()
    for bit in range(8 * len(token)):
        damaged = bytearray(token)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Refused) as refused:
            _core.verify_jws(bytes(damaged), TYP, [key.public])
        codes.add(refused.value.code)
    assert codes == {"E_SIG_FORMAT", "E_SIG_HEADER", "E_SIG_ALG", "E_SIG_KEY", "E_SIG_INVALID"}
