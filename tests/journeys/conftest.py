"""A stranger's machine: own folders, and a command `mdg` for the lines that are printed to be typed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

MDG = [sys.executable, "-m", "mdg.cli"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process of theirs."""
    command = tmp_path / "bin" / "mdg"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {" ".join(MDG)} "$@"\n')
    command.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    return os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "scratch"),
        "XDG_DATA_HOME": str(tmp_path / "share"),
    }
