"""One folder as the file system shows it: what may be DICOM, and what stands in the way. Blocks; never opens a file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from mdg.errors import InputOutput
from mdg.sources.other_files import is_hidden


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; `size` in bytes, `version` its modification time in nanoseconds of UTC. `unreadable` says why a
    file, folder or link is not looked into, and what to do; when its name is no UTF-8, `name` is only a picture of
    it."""

    path: str
    name: str
    size: int
    version: str
    unreadable: str | None = None


@dataclass(slots=True)
class Listing:
    """What a folder holds, sorted by name. `missing`: it is not there; `obstacle`: why it cannot be listed."""

    files: list[File] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    missing: bool = False
    obstacle: str | None = None


def read(folder: str) -> Listing:
    """Lists `folder` itself. A file that vanishes meanwhile is left out; links are named and not followed, so that
    nothing outside the folders of the settings is ever served."""
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


def look_at(path: Path) -> File:
    """One file as the listing of its folder would show it. `InputOutput` when it is not there."""
    try:
        status = path.lstat()
    except OSError as error:
        raise InputOutput(str(path), error.strerror or "it cannot be looked at") from error
    return File(str(path), path.name, status.st_size, str(status.st_mtime_ns))


def _add(found: Listing, folder: str, entry: os.DirEntry[str]) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
    unreadable = None if name == entry.name else "its name is not UTF-8; rename it"
    if stat.S_ISLNK(status.st_mode):
        unreadable = "it is a link, and links are not followed; put what it points to here, or name that folder"
    if stat.S_ISREG(status.st_mode) or (unreadable and stat.S_IFMT(status.st_mode) in (stat.S_IFDIR, stat.S_IFLNK)):
        path = entry.path if name == entry.name else f"{folder}/{name}"
        found.files.append(File(path, name, status.st_size, str(status.st_mtime_ns), unreadable))
    elif stat.S_ISDIR(status.st_mode) and not is_hidden(entry.name):  # snapshots, waste baskets, version control
        found.folders.append(entry.path)
