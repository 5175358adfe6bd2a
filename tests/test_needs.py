"""`.ci/needs` says plainly what a build lacks, all of it at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NEEDS = Path(__file__).resolve().parent.parent / ".ci" / "needs"


def tool(folder: Path, name: str, says: str, fails: bool = False) -> None:
    """A program on the path that prints one line, or fails as an old Python does when it is asked for its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {int(fails)}\n")
    path.chmod(0o755)


def needs(folder: Path) -> tuple[int, list[str]]:
    for name in ("bash", "sed"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"/bin/{name}")
    environment = {"PATH": str(folder), "PYTHON": "python3"}
    done = subprocess.run(["/bin/bash", NEEDS], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line]


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    code, lines = needs(tmp_path)
    assert code == 1
    assert [line.split(" (")[0] for line in lines] == [
        "missing: Python 3.11 or later",
        "missing: a C compiler",
        "missing: stable Rust 1.88 or later",
    ]


def test_what_is_there_is_enough(tmp_path: Path) -> None:
    for name, says in (("python3", ""), ("cc", ""), ("cargo", ""), ("rustc", "rustc 1.88.0 (6b00bc388 2025-06-23)")):
        tool(tmp_path, name, says)
    assert needs(tmp_path) == (0, [])


@pytest.mark.parametrize("version", ["rustc 1.87.0 (17067e9ac 2025-05-09)", "rustc unknown"])
def test_an_old_compiler_is_named_with_its_version(tmp_path: Path, version: str) -> None:
    for name, says in (("python3", ""), ("cc", ""), ("cargo", ""), ("rustc", version)):
        tool(tmp_path, name, says)
    code, lines = needs(tmp_path)
    assert code == 1
    assert len(lines) == 1
    assert version in lines[0]


def test_an_old_python_is_named_with_its_version(tmp_path: Path) -> None:
    tool(tmp_path, "python3", "Python 3.9.2", fails=True)
    for name, says in (("cc", ""), ("cargo", ""), ("rustc", "rustc 1.90.0")):
        tool(tmp_path, name, says)
    code, lines = needs(tmp_path)
    assert code == 1
    assert "Python 3.9.2" in lines[0]
