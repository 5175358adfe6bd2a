"""The vectors of JMIX 1.0 through Python and the command line; `cargo test` runs them on byte strings and by range."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Mdg, mdg
from tests.envelope import independent_reader
from tests.vectors import jmix
from tests.vectors.jmix import Vector

from mdg import _core
from mdg.errors import Refused

__all__ = ["mdg"]  # a fixture

VECTORS = jmix.vectors()


@pytest.fixture(params=VECTORS, ids=lambda vector: vector.name)
def vector(request: pytest.FixtureRequest) -> Vector:
    found = request.param
    assert isinstance(found, Vector)
    return found


@pytest.fixture
def envelope(vector: Vector, tmp_path: Path) -> Path:
    """Its file, with the keys beside it."""
    path = tmp_path / "envelope.zip"
    path.write_bytes(vector.envelope)
    key = tmp_path / "recipient.x25519.key"
    key.write_bytes(vector.recipient)
    key.chmod(0o600)
    (tmp_path / "signer.ed25519.pub").write_bytes(vector.signer)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bad_vectors_are_those_that_their_maker_makes() -> None:
    good = next(vector for vector in VECTORS if vector.name == "one_instance")
    made = {name: (code, comment, envelope) for name, code, comment, envelope in jmix.bad(good.envelope)}
    stored = {one.name: (one.expect, one.comment, one.envelope) for one in VECTORS if one.expect != "ok"}
    assert made == stored
    assert {vector.expect for vector in VECTORS} > {"ok", "E_PAYLOAD_TAG", "E_PAYLOAD_HASH", "E_TAR_NAME", "E_SIG_KEY"}


def test_python_opens_what_is_good_and_refuses_what_is_not(vector: Vector, envelope: Path) -> None:
    key = _core.X25519Key.read(str(envelope.with_name("recipient.x25519.key")))
    trust: list[tuple[str | None, bytes]] = [(None, vector.signer)]
    out = envelope.with_name("out")
    before = set(envelope.parent.iterdir())
    if vector.expect == "ok":
        assert json.loads(_core.verify(str(envelope), trust=trust, key=key))["ok"]
        assert json.loads(_core.open_envelope(str(envelope), trust=trust, key=key, out=str(out)))["opened"]
        assert jmix.digest(content(out)) == vector.payload
        return
    with pytest.raises(Refused) as verified:
        _core.verify(str(envelope), trust=trust, key=key)
    with pytest.raises(Refused) as opened:
        _core.open_envelope(str(envelope), trust=trust, key=key, out=str(out))
    assert (verified.value.code, opened.value.code) == (vector.expect, vector.expect)
    assert set(envelope.parent.iterdir()) == before, "nothing of it is left"


def test_the_command_line_opens_what_is_good_and_refuses_what_is_not(mdg: Mdg, vector: Vector, envelope: Path) -> None:
    key, trust = envelope.with_name("recipient.x25519.key"), envelope.with_name("signer.ed25519.pub")
    out = envelope.with_name("out")
    verified = mdg("verify", envelope, "--trust", trust, "--key", key, "--json")
    opened = mdg("open", envelope, "--trust", trust, "--key", key, "--out", out, "--json")
    if vector.expect == "ok":
        assert (verified.code, opened.code) == (0, 0)
        assert jmix.digest(content(out)) == vector.payload
        return
    assert verified.code == opened.code != 0
    assert (verified.json()["code"], opened.json()["code"]) == (vector.expect, vector.expect)
    assert not out.exists()


@pytest.mark.parametrize("good", [one for one in VECTORS if one.expect == "ok"], ids=lambda one: one.name)
def test_a_second_implementation_agrees_with_the_good_vectors(good: Vector, tmp_path: Path) -> None:
    path = tmp_path / "envelope.zip"
    path.write_bytes(good.envelope)
    _, files = independent_reader.read(path, good.recipient, good.signer)
    assert jmix.digest(files) == good.payload
