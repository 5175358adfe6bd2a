"""Folders of DICOM files, referenced in place: nothing is copied, moved or changed (spec/storage 1).

A scan lists every folder, leaves out what is known with the same size and time, reads the rest in small batches and
commits each, so that a scan that was killed goes on where it was. A study settles when the scan is through, or, in a
long scan, when none of its files has turned up for QUIET seconds, and thrice that while files still change. Links are
not followed: what a folder serves lies in it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from zoneinfo import ZoneInfo

import anyio
import structlog
from anyio import to_thread
from watchfiles import awatch

from mdg.errors import Unavailable
from mdg.model.identity import HpiO
from mdg.model.located import Located
from mdg.sources.indexed import IndexedSource
from mdg.sources.scan import Progress, Scan, ScanReport
from mdg.sources.study_version import Terms
from mdg.store import Store, index

LOG = structlog.get_logger(__name__)
SETTLING = 32
"""Studies that are announced at once and settle in one transaction: bounds how long an audit record waits for them."""
QUIET = 5.0
"""Seconds without a change after which a study is taken to be complete."""
RESCAN = 900.0
"""Seconds between full scans while watching: some file systems report no changes. A study that is never quiet settles
at the second full scan that finds it so."""


class FolderSource(IndexedSource):
    """All DICOM files under some folders. Of two processes that scan the same ones at a time, where the database admits
    two, one is told `Unavailable`; its next scan goes on from what the other kept."""

    def __init__(
        self,
        store: Store,
        custodian: HpiO,
        folders: Sequence[Path],
        *,
        default_issuer: str,
        time_zone: ZoneInfo,
        name: str = "folder",
        quiet: float = QUIET,
    ) -> None:
        super().__init__(store, custodian, name, Terms(default_issuer, time_zone))
        self._roots = [str(folder.resolve()) for folder in folders]
        self._quiet = quiet
        # While a study is being written: the first file of its next folder is looked at only `quiet` seconds after it
        # came, and that may be almost `quiet` seconds after the last one of the folder before.
        self._pause = timedelta(seconds=3 * quiet)
        self._restless: frozenset[str] = frozenset()
        self._one = anyio.Lock()

    @property
    def scanning(self) -> bool:
        """Whether a scan is under way."""
        return self._one.locked()

    async def scan(self, progress: Progress | None = None, *, rebuild: bool = False) -> ScanReport:
        """Brings the index up to date with the folders; with `rebuild` every file is read again.

        What is indexed but lies under none of the folders is forgotten. `Unavailable` when the store does not keep it:
        what was committed stays, and the next scan goes on from there.
        """
        if rebuild:
            await self._store.write(partial(index.forget, part=self._part))
        report = ScanReport()
        async with aclosing(self._pass(report, self._everything, whole=True, progress=progress)) as announced:
            async for uids in announced:
                report.settled += await self.settle(uids)
        async with self._store.read() as connection:
            report.studies, report.instances, report.bytes = await index.totals(connection, self._part)
            report.problems = await index.count_problems(connection, self._part)
            report.passed_over = await index.count_passed_over(connection, self._part)
        return report

    async def watch(self) -> AsyncGenerator[Sequence[str], None]:
        """Scans, then follows the folders until it is cancelled: the folder of a file that has not changed for `quiet`
        seconds is scanned, and a study has settled when none of its files has turned up for `_pause`, or when nothing
        changes any more. After a scan that the store did not keep, the next one waits for `quiet` seconds, and then
        looks at everything."""
        busy: dict[str, float] = {}
        scanned = paused = -RESCAN
        waiting = False
        step = max(50, int(self._quiet * 100))
        there = [root for root in self._roots if await anyio.Path(root).is_dir()]
        changed = awatch(*there, debounce=step, rust_timeout=step, yield_on_timeout=True)
        async with aclosing(changed):
            async for changes in changed:
                now = monotonic()
                busy |= {path: now for _, path in changes}
                if now < paused:
                    continue
                quiet = [path for path, last in busy.items() if now - last >= self._quiet]
                still = len(quiet) == len(busy)
                whole = now - scanned >= RESCAN
                try:
                    if whole or quiet:
                        places = self._everything if whole else await to_thread.run_sync(_places, quiet)
                        async for uids in self._pass(ScanReport(), places, whole=whole, still=still):
                            yield uids
                    elif busy or waiting:
                        for uids in await self._waiting(datetime.now(UTC) - self._pause):
                            yield uids
                    waiting = bool(await self._waiting(datetime.now(UTC)))
                except Unavailable as error:
                    LOG.warning("scan-interrupted", reason=error.reason, again_in=self._quiet)
                    scanned, paused = -RESCAN, monotonic() + self._quiet
                    continue
                if whole:
                    scanned = monotonic()
                for path in quiet:
                    del busy[path]

    async def read(self, located: Located, _start: int, _end: int) -> Path:
        """The file, whose path is the key."""
        return Path(located.key)

    @property
    def _everything(self) -> list[tuple[str, bool]]:
        return [(root, True) for root in self._roots]

    async def _pass(
        self,
        report: ScanReport,
        places: Iterable[tuple[str, bool]],
        *,
        whole: bool,
        still: bool = True,
        progress: Progress | None = None,
    ) -> AsyncGenerator[Sequence[str], None]:
        """One pass over `places`. At its end it announces every study that waits; unless the folders are `still`, only
        what was not touched for `_pause`, or was waiting at the end of the last whole pass too."""
        async with self._one:
            last = monotonic()
            scan = Scan(self._store, self._part, self._roots, report, progress=progress)
            async with aclosing(scan.run(places, whole=whole)) as steps:
                async for _ in steps:
                    if monotonic() - last >= self._quiet:
                        for uids in await self._waiting(datetime.now(UTC) - timedelta(seconds=self._quiet)):
                            yield uids
                        last = monotonic()
            for uids in await self._waiting(datetime.now(UTC) - (timedelta() if still else self._pause)):
                yield uids
            if whole:
                rest = frozenset(uid for uids in await self._waiting(datetime.now(UTC)) for uid in uids)
                for uids in _slices(sorted(rest & self._restless)):
                    yield uids
                self._restless = rest - self._restless

    async def _waiting(self, before: datetime) -> list[Sequence[str]]:
        """The studies that have not settled, nor been touched since `before`."""
        async with self._store.read() as connection:
            return _slices(await index.waiting(connection, self._part, before))


def _slices(uids: Sequence[str]) -> list[Sequence[str]]:
    return [uids[start : start + SETTLING] for start in range(0, len(uids), SETTLING)]


def _places(paths: Iterable[str]) -> list[tuple[str, bool]]:
    """What to visit for changed paths: the folder of each, and whatever is or was a folder itself with all below."""
    found = {str(Path(path).parent): False for path in paths}
    found |= {path: True for path in paths if not os.path.isfile(path)}  # noqa: PTH113 -- no error below a shut folder
    return sorted(found.items())
