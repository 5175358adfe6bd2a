"""Who may use a database file: one gateway process, on a disk of this machine.

SQLite over NFS or SMB loses data because locks there do not hold, and two writers before SQLite 3.51.3 can corrupt a
write-ahead log (spec/storage 3); both are refused before the database is opened. Readers (`mdg audit show`,
`mdg index --problems`) need no lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from mdg.errors import InputOutput

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "lustre", "gpfs", "beegfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.cephfs"}
)


@contextmanager
def only_process(database: Path) -> Iterator[None]:
    """Makes the folder and holds `<database>.lock` in it while the caller may write. `InputOutput` when another process
    holds it, or when the folder is on a network file system or cannot be written."""
    lock = _lock_of(database)
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network(database.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputOutput(str(lock), f"{error.strerror}; the data folder must be writable by the gateway") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            why = "another gateway process uses this data folder; stop it, or give this one a folder of its own"
            raise InputOutput(str(lock), why) from error
        yield
    finally:
        os.close(descriptor)


class DataFolder:
    """The data folder of a gateway, while a process of the gateway uses it; several processes may, with PostgreSQL.

    On entry a process that is alone has the folder to itself, so that it may remove what a crash left, until it shares
    the folder; a process that comes meanwhile waits for that."""

    def __init__(self, folder: Path) -> None:
        self._lock = folder / ".in-use"
        self._descriptor = -1
        self.alone = False

    def __enter__(self) -> Self:
        """Blocks. `InputOutput` when the folder cannot be written."""
        try:
            self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = f"{error.strerror}; the data folder must be writable by the gateway"
            raise InputOutput(str(self._lock), why) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.alone = True
        except OSError:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        return self

    def share(self) -> None:
        """From here on other processes may use the folder too."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def check_place(database: Path) -> None:
    """`InputOutput` if `only_process` would refuse the folder of `database`. Does not ask whether a process holds the
    lock (`in_use`), and makes nothing."""
    folder = next(one for one in database.parents if one.exists())
    refuse_network(folder)
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise InputOutput(str(folder), "the data folder must be writable by the gateway")


def in_use(database: Path) -> bool:
    """Whether a process holds the lock of `database` now."""
    try:
        descriptor = os.open(_lock_of(database), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_of(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def refuse_network(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """`InputOutput` when `folder` lies on a file system of NETWORK_FILE_SYSTEMS. Where the system does not list its
    mounts (not Linux) nothing is refused."""
    kind = _file_system(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        why = f"the database cannot live on a network file system ({kind}); choose a folder on a local disk"
        raise InputOutput(str(folder), why)


def _file_system(folder: Path, mounts: Path) -> str | None:
    """The type of the deepest mount that holds `folder` (proc(5), mountinfo fields 5 and 9)."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(left.split(" ")[4].replace("\\040", " "))
        depth = len(point.parts)
        if depth >= best and folder.is_relative_to(point):
            best, kind = depth, right.split(" ")[0]
    return kind
