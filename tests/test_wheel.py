"""The wheel of `make wheel` installs into a clean environment and works there without this repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mdg.sandbox.phantom import write_phantom

REPOSITORY = Path(__file__).resolve().parent.parent
INSTALL = (REPOSITORY / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel() -> Path:
    found = sorted((REPOSITORY / "dist").glob("*.whl"))
    assert len(found) == 1, "run `make wheel` first"
    return found[0]


def environment(wheel: Path, folder: Path, part: str) -> Path:
    """The `bin` folder of a fresh environment that holds the wheel, one part of it, and the dependencies as locked."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    versions = re.findall(
        r"^[a-z0-9][\w.\[\]-]*==[^\s\\;]+", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE
    )
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(re.sub(r"\[.*?\]", "", version) for version in versions))
    install = ("-m", "pip", "install", "--quiet", "--constraint", str(constraints), f"{wheel}{part}")
    subprocess.run([str(folder / "venv/bin/python"), *install], check=True)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel without any optional part."""
    return environment(wheel, tmp_path_factory.mktemp("plain"), "")


def run(bin_folder: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [bin_folder / command[0], *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_carries_types_licence_and_its_bill_of_materials(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert re.fullmatch(r"mdg-[\d.]+-cp311-abi3-[\w.]+\.whl", wheel.name)
    assert {"mdg/_core.pyi", "mdg/py.typed", "mdg/_core.abi3.so"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any("/sboms/" in name and name.endswith(".json") for name in names)
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_an_envelope_is_packed_and_opened_by_what_the_wheel_installed(installed: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "study", slices=3)
    for command in (
        ("mdg", "keygen", "--out", "keys", "--name", "a", "--id", "urn:example:a"),
        ("mdg", "keygen", "--out", "keys", "--name", "b", "--id", "urn:example:b"),
        ("mdg", "pack", "study", "--to", "keys/b.card.json", "--sign", "keys/a.ed25519.key", "-o", "study.zip"),
    ):
        done = run(installed, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    opening = ("open", "study.zip", "--key", "keys/b.x25519.key", "--trust", "keys/a.card.json", "-o", "out", "--json")
    opened = run(installed, "mdg", *opening, cwd=tmp_path)
    assert opened.returncode == 0, opened.stderr
    report = json.loads(opened.stdout)
    assert report["ok"]
    assert report["instances"] == 3
    sent = sorted(path.read_bytes() for path in (tmp_path / "study").iterdir())
    assert sent == sorted(path.read_bytes() for path in (tmp_path / "out" / "dicom").iterdir())


def test_the_wheel_runs_with_the_glibc_that_its_name_says(wheel: Path) -> None:
    named = re.search(r"manylinux_2_(\d+)_", wheel.name)
    assert named is not None, "`make wheel NATIVE=1` makes a wheel for this machine only"
    asked = re.findall(rb"GLIBC_2\.(\d+)", zipfile.ZipFile(wheel).read("mdg/_core.abi3.so"))
    assert 2 < max(map(int, asked)) <= int(named[1]) <= 17


def test_the_plain_installation_brings_no_gateway(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, "python", "-m", "pip", "list", "--format", "json", cwd=tmp_path).stdout
    names = {package["name"] for package in json.loads(listed)} - {"pip", "setuptools"}
    assert {"mdg", "typer", "orjson"} <= names
    assert not names & {"SQLAlchemy", "starlette", "hypercorn", "pillow", "pydicom"}
    beside = re.findall(r"^\| none: leave .*\| (\d+) \|$", INSTALL, re.MULTILINE)
    assert beside == [str(len(names) - 1)]
    serve = run(installed, "mdg", "serve", "--folder", ".", "--sandbox", cwd=tmp_path)
    assert serve.returncode == 2
    assert "-m pip install 'mdg[gateway]'" in serve.stderr


def test_the_demo_runs_from_what_its_part_brings(wheel: Path, tmp_path: Path) -> None:
    done = run(environment(wheel, tmp_path, "[demo]"), "mdg", "demo", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "demo: ok", done.stdout + done.stderr


def test_nothing_of_the_repository_is_used(installed: Path, tmp_path: Path) -> None:
    where = run(installed, "python", "-c", "import mdg._core; print(mdg._core.__file__)", cwd=tmp_path)
    assert str(REPOSITORY) not in where.stdout
    assert str(installed.parent) in where.stdout
