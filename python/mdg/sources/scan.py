"""One pass over folders: list, compare with the index, read what is new or changed, forget what is gone.

Listing goes ahead by one batch; a batch is read by all cores, then committed. A folder that cannot be listed is
a problem, and what is known of it is kept: a disk that is not mounted must not look like a hospital that deleted its
archive.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from functools import partial
from time import monotonic

import anyio
from anyio import to_thread

from mdg.errors import MdgError
from mdg.sources import instance_rows, listing
from mdg.sources.listing import File
from mdg.store import Store, index

BATCH_BYTES = 64 * 1024 * 1024
"""Bytes after which a batch is full."""
STEP = 1.0
"""Seconds after which a pass over unchanged folders gives its caller a turn."""
UNAVAILABLE = "E_FS_UNAVAILABLE"

Progress = Callable[[int, int], None]
"""Called with (files read, bytes read) so far."""


@dataclass(slots=True)
class ScanReport:
    """What a scan did, in files: `seen`, `read` now, `unchanged`, `removed` since the last one, `problems` that are not
    served, and those `passed_over` because they say nothing about a study; `bytes_read`; versions that `settled`; and
    what the source can serve after it."""

    seen: int = 0
    read: int = 0
    bytes_read: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: int = 0
    passed_over: int = 0
    settled: int = 0
    studies: int = 0
    instances: int = 0
    bytes: int = 0

    def add(self, other: ScanReport) -> None:
        """Counts what another scan did, too."""
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))


class Scan:
    """One pass. `roots` are the folders of the source."""

    def __init__(
        self,
        store: Store,
        part: index.Part,
        roots: Sequence[str],
        report: ScanReport,
        *,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._part = part
        self._roots = frozenset(roots)
        self._report = report
        self._progress = progress
        self._seen: set[str] = set()
        self._kept: list[str] = []
        self._known: set[str] = set()

    async def run(self, places: Iterable[tuple[str, bool]], *, whole: bool) -> AsyncGenerator[None, None]:
        """Visits each (folder, whether also all below it); with `whole` forgets every folder that was not seen. Yields
        after each batch, when none is under way. `Unavailable` when the store does not keep what was
        found."""
        async with aclosing(self._batches(places)) as batches:
            batch = await anext(batches, None)
            while batch is not None:
                try:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._read, batch)
                        batch = await anext(batches, None)
                except ExceptionGroup as group:
                    raise (group.subgroup(MdgError) or group).exceptions[0] from group
                yield
        if whole:
            await self._forget_unseen()

    async def _batches(self, places: Iterable[tuple[str, bool]]) -> AsyncGenerator[list[File], None]:
        """What must be read, in batches; an empty one when none was filled for STEP seconds."""
        batch: list[File] = []
        last = monotonic()
        for place, deep in places:
            stack = [place]
            while stack:
                here = stack.pop()
                if here in self._seen:
                    continue  # one folder of the source lies in another
                found = await to_thread.run_sync(listing.read, here)
                async with self._store.read() as connection:
                    known = await index.known(connection, self._part, here)
                why = await self._obstacle(here, found)
                if why is not None:
                    await self._keep_below(here, why)
                elif found.missing:
                    await self._forget(folder for folder in await self._indexed() if _lies_in(folder, here))
                else:
                    self._seen.add(here)
                    for file in await self._changed(here, found.files, known):
                        batch.append(file)
                        if len(batch) == instance_rows.BATCH or sum(one.size for one in batch) >= BATCH_BYTES:
                            yield batch
                            batch, last = [], monotonic()
                    if deep:
                        stack.extend(reversed(found.folders))
                if monotonic() - last >= STEP:
                    yield []
                    last = monotonic()
        yield batch

    async def _obstacle(self, here: str, found: listing.Listing) -> str | None:
        """Why nothing can be concluded from the listing of a folder."""
        if found.obstacle is not None:
            return f"the folder cannot be listed ({found.obstacle}): give the gateway the right to read it"
        if here not in self._roots:
            return None
        if found.missing:
            return "the folder is not there: mount it, or take it out of the settings"
        empty = not found.files and not found.folders
        if empty and any(_lies_in(folder, here) for folder in await self._indexed()):
            return "the folder is empty, but files of it are indexed: mount it, or index it with --rebuild"
        return None

    async def _keep_below(self, here: str, why: str) -> None:
        self._kept.append(here)
        problem = index.object_row(_itself(here), "", 0) | {"code": UNAVAILABLE, "message": why}
        await self._store.write(partial(index.keep, part=self._part, found=[], bad=[problem], known=[problem["key"]]))

    async def _changed(self, here: str, files: Sequence[File], known: dict[str, tuple[int, str] | None]) -> list[File]:
        """The files of a folder that must be read; forgets those that are gone."""
        gone = sorted(known.keys() - {file.path for file in files})
        if gone:
            await self._store.write(partial(index.forget, part=self._part, keys=gone))
            self._report.removed += len(gone) - (_itself(here) in gone)
        changed = []
        for file in files:
            path = file.path
            if path not in known:
                changed.append(file)
            elif known[path] != (file.size, file.version):
                self._known.add(path)
                changed.append(file)
        self._report.seen += len(files)
        self._report.unchanged += len(files) - len(changed)
        return changed

    async def _read(self, batch: Sequence[File]) -> None:
        if not batch:
            return
        found, bad = await to_thread.run_sync(instance_rows.read, batch)
        known = self._known.intersection(file.path for file in batch)
        await self._store.write(partial(index.keep, part=self._part, found=found, bad=bad, known=known))
        self._known -= known
        self._report.read += len(batch)
        self._report.bytes_read += sum(row["size"] for row in (*found, *bad))
        if self._progress is not None:
            self._progress(self._report.read, self._report.bytes_read)

    async def _forget_unseen(self) -> None:
        await self._forget(
            folder
            for folder in await self._indexed()
            if folder not in self._seen and not any(_lies_in(folder, kept) for kept in self._kept)
        )

    async def _indexed(self) -> list[str]:
        async with self._store.read() as connection:
            return await index.folders(connection, self._part)

    async def _forget(self, folders: Iterable[str]) -> None:
        for folder in folders:
            async with self._store.read() as connection:
                self._report.removed += len(
                    (await index.known(connection, self._part, folder)).keys() - {_itself(folder)}
                )
            await self._store.write(partial(index.forget, part=self._part, folder=folder))


def _itself(folder: str) -> str:
    """The key of the problem of a folder."""
    return folder.rstrip("/") + "/"


def _lies_in(folder: str, above: str) -> bool:
    return folder == above or folder.startswith(above.rstrip("/") + "/")
