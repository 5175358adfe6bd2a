"""Room on the disk, asked for before something large is written: the audit shares the disk with what is kept, and a
disk that is full stops every answer (spec/storage 3)."""

from __future__ import annotations

import shutil
from pathlib import Path

HEADROOM = 256 << 20
"""Bytes that large files leave free for the database."""


def has_room(folder: Path, size: int) -> bool:
    """Whether `size` bytes fit beside what must stay free. Blocks; an error of the system counts as no."""
    try:
        return shutil.disk_usage(folder).free >= size + HEADROOM
    except OSError:
        return False
