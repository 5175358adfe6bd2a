"""Objects of any source as files of this machine, for work that reads files: the file itself where a source has one,
and a private copy for as long as it is needed where it has none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from anyio import CancelScope, to_thread

from mdg.errors import InputOutput, Refused, Unavailable
from mdg.model.located import Located
from mdg.sources.source import Reads
from mdg.store import has_room

RANGE = 4 << 20
"""Bytes that are asked of a source at once, and held in memory."""


@asynccontextmanager
async def local_files(source: Reads, objects: Sequence[Located], copies: Path) -> AsyncIterator[list[Path]]:
    """A file for each of `objects`. The names of copies begin with `copies`; they are removed at the end.

    An error inside or here that names one of the files (`part`) makes the source look at that object again. `Refused`
    E_CHANGED for an object that is not what was indexed, `InputOutput`, `Unavailable` while the disk has no room.
    """
    files: list[Path] = []
    try:
        for number, located in enumerate(objects):
            copy = copies.with_name(f"{copies.name}.{number}")
            given = await source.read(located, 0, min(RANGE, located.size))
            files.append(given if isinstance(given, Path) else copy)
            if isinstance(given, bytes):
                await _copy(source, located, given, copy)
        yield files
    except (Refused, InputOutput) as error:
        by_part = {located.key: located for located in objects}
        by_part |= {str(file): located for file, located in zip(files, objects, strict=False)}
        if error.part in by_part:
            await source.suspect(by_part[error.part])
        raise
    finally:
        with CancelScope(shield=True):
            for file in files:
                if file.parent == copies.parent and file.name.startswith(copies.name):
                    await to_thread.run_sync(lambda path: path.unlink(missing_ok=True), file)


async def _copy(source: Reads, located: Located, first: bytes, copy: Path) -> None:
    if not await to_thread.run_sync(has_room, copy.parent, located.size):
        raise Unavailable("there is no room to make it now; try again later", reason="disk-full", retry_after=60)
    file = await to_thread.run_sync(_create, copy)
    try:
        piece, done = first, 0
        while True:
            await to_thread.run_sync(_append, file, piece)
            done += len(piece)
            if done >= located.size or not piece:
                break
            more = await source.read(located, done, min(done + RANGE, located.size))
            piece = more if isinstance(more, bytes) else b""
        if done != located.size:
            raise Refused("E_CHANGED", located.key, "it has another length than when it was indexed")
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(file.close)


def _create(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)
    except OSError as error:
        raise InputOutput(str(path), error.strerror or "it cannot be made") from error


def _append(file: BinaryIO, piece: bytes) -> None:
    try:
        while piece:
            piece = piece[file.write(piece) :]
    except OSError as error:
        raise InputOutput(str(file.name), error.strerror or "it cannot be written") from error
