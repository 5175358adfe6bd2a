"""A third kind of source, for tests: objects in a ZIP archive, each version of one under a new entry, which are no
files of this machine. It announces a study when it is told that the study is complete, as at the end of an upload.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from mdg.errors import InputOutput, Refused
from mdg.model.located import Located
from mdg.sources import instance_rows, listing
from mdg.sources.indexed import IndexedSource
from mdg.sources.kinds import Shared
from mdg.sources.scan import Progress, ScanReport
from mdg.sources.study_version import Terms
from mdg.store import index


class ObjectSource(IndexedSource):
    """Finds, Reads and Watches: what a bucket can do for a gateway."""

    scanning = False

    def __init__(self, shared: Shared, name: str, archive: Path) -> None:
        super().__init__(shared.store, shared.custodian, name, Terms(shared.default_issuer, shared.time_zone))
        self._archive = archive
        self._announced: list[str] = []
        self._more = anyio.Event()

    @classmethod
    def build(cls, shared: Shared, name: str, entry: Mapping[str, Any]) -> ObjectSource:
        """A `SourceKind`."""
        return cls(shared, name, entry["path"][0])

    async def put(self, key: str, file: Path) -> None:
        """Another writer's part: a new object under `key`, or a new version of the one there."""
        version = str(len(self._entries(key)) + 1)
        with zipfile.ZipFile(self._archive, "a") as archive:
            archive.write(file, f"{key}@{version}")

    async def complete(self, uid: str) -> None:
        """Indexes what is new, and announces the study."""
        await self._index_new()
        self._announced.append(uid)
        self._more.set()

    async def scan(self, _progress: Progress | None = None, *, rebuild: bool = False) -> ScanReport:
        """Indexes what is new and settles all of it."""
        if rebuild:
            await self._store.write(partial(index.forget, part=self._part))
        report = ScanReport(read=await self._index_new())
        async with self._store.read() as connection:
            waiting = await index.waiting(connection, self._part, datetime.now(UTC))
        report.settled = await self.settle(waiting)
        async with self._store.read() as connection:
            report.studies, report.instances, report.bytes = await index.totals(connection, self._part)
        return report

    async def watch(self) -> AsyncGenerator[Sequence[str], None]:
        """What `complete` was told."""
        while True:
            await self._more.wait()
            self._more = anyio.Event()
            while self._announced:
                yield [self._announced.pop(0)]

    async def read(self, located: Located, start: int, end: int) -> bytes:
        """A range of the newest version, if that is the one that was indexed."""
        entries = self._entries(located.key)
        if not entries:
            raise InputOutput(located.key, "it is gone")
        if str(len(entries)) != located.version:
            raise Refused("E_CHANGED", located.key, "another version of it is there")
        with zipfile.ZipFile(self._archive) as archive, archive.open(entries[-1]) as file:
            file.seek(start)
            return file.read(end - start)

    def _entries(self, key: str) -> list[str]:
        if not self._archive.exists():
            return []
        with zipfile.ZipFile(self._archive) as archive:
            return [name for name in archive.namelist() if name.rpartition("@")[0] == key]

    async def _index_new(self) -> int:
        """Reads each object that the index does not know in its newest version."""
        if not self._archive.exists():
            return 0
        with zipfile.ZipFile(self._archive) as archive, tempfile.TemporaryDirectory() as folder:
            newest = dict(name.rpartition("@")[::2] for name in archive.namelist())
            count = 0
            for key, version in newest.items():
                async with self._store.read() as connection:
                    known = await index.known(connection, self._part, index.folder_of(key))
                size = archive.getinfo(f"{key}@{version}").file_size
                if known.get(key) == (size, version):
                    continue
                file = Path(archive.extract(f"{key}@{version}", folder))
                found, bad = instance_rows.read([listing.look_at(file)])
                for row in (*found, *bad):
                    row.update(index.object_row(key, version, size))
                ours = [key] if key in known else []
                await self._store.write(partial(index.keep, part=self._part, found=found, bad=bad, known=ours))
                count += 1
        return count
