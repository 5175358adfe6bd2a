"""One folder as the file system shows it: what may be DICOM, and what stands in the way. Blocks; never opens a file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import PurePath

NOT_INDEXED = frozenset({"DICOMDIR", "LOCKFILE", "THUMBS.DB"})
"""Names, upper case, that say nothing about a study: the index of a DICOM disk (PS3.10 8.6) and leftovers of viewers.
Hidden files are half-copied ones and notes of file managers."""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; `size` in bytes, `mtime_ns` in nanoseconds of UTC. `nameable` is False for a file or folder whose
    name is no UTF-8; `name` is then only a picture of it."""

    folder: str
    name: str
    size: int
    mtime_ns: int
    nameable: bool = True

    @property
    def path(self) -> str:
        """Folder and name."""
        return str(PurePath(self.folder, self.name))


@dataclass(slots=True)
class Listing:
    """What a folder holds, sorted by name. `missing`: it is not there; `obstacle`: why it cannot be listed."""

    files: list[File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    missing: bool = False
    obstacle: str | None = None


def read(folder: str) -> Listing:
    """Lists `folder` itself. A file that vanishes meanwhile is left out; links are not followed."""
    found = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                _add(found, folder, entry)
    except (FileNotFoundError, NotADirectoryError):
        return Listing(missing=True)
    except OSError as error:
        return Listing(obstacle=error.strerror or type(error).__name__)
    return found


def _add(found: Listing, folder: str, entry: os.DirEntry[str]) -> None:
    if entry.name.startswith(".") or entry.name.upper() in NOT_INDEXED:
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
    nameable = name == entry.name
    if stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and not nameable):
        found.files.append(File(folder, name, status.st_size, status.st_mtime_ns, nameable))
    elif stat.S_ISDIR(status.st_mode):
        found.folders.append(entry.path)
