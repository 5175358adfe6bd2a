"""What works without the optional parts of mdg, and what a command says whose part is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def package(requirement: str) -> str:
    """The bare name of a PEP 508 requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]).lower()


def everything(requirements: list[str]) -> set[str]:
    """The packages that `requirements` bring, those that they need in turn among them."""
    found: set[str] = set()
    waiting = [package(one) for one in requirements]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):
                waiting += [package(one) for one in requires(name) or () if "extra ==" not in one]
    return found


def modules(packages: set[str]) -> set[str]:
    """Their top-level modules."""
    there = packages_distributions().items()
    return {module for module, names in there if packages & {package(name) for name in names}}


BASE = everything(PROJECT["dependencies"])
PARTS = {
    part: modules({package(line) for line in lines} - BASE - {"mdg"})
    for part, lines in PROJECT["optional-dependencies"].items()
}
"""The modules that each part adds to the plain installation."""
RUN = "import sys; [sys.modules.__setitem__(name, None) for name in {absent!r}]; from mdg.cli import main; main()"
"""A module that is None in `sys.modules` cannot be imported, as one that is not installed."""


def mdg(absent: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN.format(absent=sorted(absent)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_part_names_packages_that_are_installed_here() -> None:
    assert {"sqlalchemy", "starlette", "pydantic_settings", "httpx2"} <= PARTS["gateway"]
    assert {"PIL", "pydicom"} == PARTS["demo"]
    assert {"typer", "rich", "orjson", "anyio"} <= BASE


def test_keys_and_envelopes_need_no_optional_part(tmp_path: Path, study: Path) -> None:
    absent = set().union(*PARTS.values())
    keys, sealed, arrived = tmp_path / "keys", tmp_path / "study.zip", tmp_path / "arrived"
    to, sign = keys / "b.card.json", keys / "a.ed25519.key"
    trust, key = keys / "a.card.json", keys / "b.x25519.key"
    for command in (
        ("--help",),
        ("--version",),
        ("keygen", "--out", keys, "--name", "a", "--id", "urn:example:a"),
        ("keygen", "--out", keys, "--name", "b", "--id", "urn:example:b"),
        ("pack", study, "--to", to, "--sign", sign, "-o", sealed),
        ("inspect", sealed),
        ("verify", sealed, "--trust", trust, "--key", key),
        ("open", sealed, "--trust", trust, "--key", key, "-o", arrived),
    ):
        done = mdg(absent, *command)
        assert done.returncode == 0, done.stderr
    assert len(list((arrived / "dicom").iterdir())) == len(list(study.iterdir()))


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("serve", "--folder", ".", "--sandbox"), "gateway"),
        (("index", "."), "gateway"),
        (("sandbox", "serve"), "gateway"),
        (("config", "show"), "gateway"),
        (("audit", "show", "00000000-0000-0000-0000-000000000000"), "gateway"),
        (("demo",), "demo"),
    ],
)
def test_a_command_whose_part_is_missing_says_what_to_install(command: tuple[str, ...], part: str) -> None:
    done = mdg(PARTS[part], *command)
    assert done.returncode == 2
    assert f"this command needs mdg[{part}], which is not installed here" in done.stderr
    assert f"try: {sys.executable} -m pip install 'mdg[{part}]'" in done.stderr


@pytest.mark.parametrize("command", [("demo",), ("sandbox", "study", "new")], ids=" ".join)
def test_a_plain_installation_is_told_of_all_that_the_demo_needs(command: tuple[str, ...]) -> None:
    done = mdg(set().union(*PARTS.values()), *command)
    assert (done.returncode, "this command needs mdg[demo]" in done.stderr) == (2, True), done.stderr
