"""Keys, a small study and the command line, for the tests of single commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mdg.cli import run
from mdg.sandbox.phantom import write_phantom

PROVIDER = "http://ns.electronichealth.net.au/id/hi/hpio/1.0/8003621566684455"
CONSUMER = "http://ns.electronichealth.net.au/id/hi/hpio/1.0/8003626566707032"


class Said(NamedTuple):
    """One command: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Its one JSON object."""
        (line,) = self.out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value


Mdg = Callable[..., Said]


@pytest.fixture
def mdg(capsys: pytest.CaptureFixture[str]) -> Mdg:
    """`mdg` in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def keys(mdg: Mdg, tmp_path: Path) -> Path:
    """A folder with the keys of `provider` and of `consumer`."""
    for name, id_ in (("provider", PROVIDER), ("consumer", CONSUMER)):
        assert mdg("keygen", "--out", tmp_path / "keys", "--name", name, "--id", id_).code == 0
    return tmp_path / "keys"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slices of the phantom."""
    folder = tmp_path_factory.mktemp("studies") / "phantom"
    write_phantom(folder, slices=4)
    return folder


@pytest.fixture
def sealed(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> Path:
    """The study from provider to consumer."""
    path = tmp_path / "study.zip"
    said = mdg("pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key", "-o", path)
    assert said.code == 0, said
    return path
