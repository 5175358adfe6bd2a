"""Studies to measure with, made once for all benches on a memory disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def memory_disk() -> Iterator[Path]:
    """A private folder on the memory disk, removed at the end."""
    disk = Path("/dev/shm")  # noqa: S108 -- a private folder of this run in it
    if not disk.is_dir():
        pytest.skip("no memory disk at /dev/shm")
    folder = disk / f"mdg-bench-{os.getpid()}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def _made(folder: Path, kind: str, *options: str) -> Path:
    maker = SHARED / "tools" / "make_study.py"
    if not maker.is_file():
        pytest.skip(f"no maker of studies at {maker}")
    subprocess.run([sys.executable, maker, kind, folder, *options], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def petct(memory_disk: Path) -> Path:
    """600 CT and 600 PET instances, 395 MB."""
    return _made(memory_disk / "petct", "petct")


@pytest.fixture(scope="session")
def mr(memory_disk: Path) -> Path:
    """4,000 MR instances of 25 kB."""
    return _made(memory_disk / "mr", "mr", "--mr", "4000", "--size", "110")
