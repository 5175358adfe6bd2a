"""FLOOR: what one core needs to read files and take the SHA-256 of each. Run with a folder, it prints the seconds.

Every comparison takes it in the same round, so that what slows the machine slows both.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def files_below(folder: Path) -> list[str]:
    """Paths of all files below a folder, sorted."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def floor(files: Sequence[str]) -> float:
    """Seconds for `files`, read in pieces of 1 MiB."""
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    began = time.perf_counter()
    for name in files:
        digest = hashlib.sha256()
        with open(name, "rb", buffering=0) as file:  # noqa: PTH123 -- a Path for each file would be measured too
            while count := file.readinto(buffer):
                digest.update(view[:count])
        digest.digest()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(floor(files_below(Path(sys.argv[1]))))
