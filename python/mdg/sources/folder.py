"""Folders of DICOM files, referenced in place: nothing is copied, moved or changed (architecture "Storage").

A scan lists every folder, leaves out what is known with the same size and time, reads the rest in small batches and
commits each, so that a scan that was killed goes on where it was. A study settles when the scan is through, or, in a
long scan, when none of its files has turned up for QUIET seconds, and thrice that while files still change. Links are
not followed: what a folder serves lies in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from zoneinfo import ZoneInfo

import anyio
import structlog
from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncConnection
from watchfiles import awatch

from mdg.errors import Unavailable
from mdg.model.identity import HpiO
from mdg.sources.indexed import IndexedSource
from mdg.sources.scan import Progress, Scan, ScanReport
from mdg.sources.settle import Terms, settle
from mdg.store import Store, index

LOG = structlog.get_logger(__name__)
SETTLING = 32
"""Studies that settle in one transaction: bounds how long an audit record waits for them."""
QUIET = 5.0
"""Seconds without a change after which a study is taken to be complete."""
RESCAN = 900.0
"""Seconds between full scans while watching: some file systems report no changes. A study that is never quiet settles
at the second full scan that finds it so."""


class FolderSource(IndexedSource):
    """All DICOM files under some folders. Of two processes that scan the same ones at a time, where the database admits
    two, one is told `Unavailable`; its next scan goes on from what the other kept."""

    name = "folder"

    def __init__(
        self,
        store: Store,
        custodian: HpiO,
        folders: Sequence[Path],
        *,
        default_issuer: str,
        time_zone: ZoneInfo,
        quiet: float = QUIET,
    ) -> None:
        super().__init__(store, custodian)
        self._roots = [str(folder.resolve()) for folder in folders]
        self._terms = Terms(default_issuer, time_zone)
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
        return await self._scan([(root, True) for root in self._roots], whole=True, progress=progress)

    async def watch(self) -> None:
        """Scans, then follows the folders until it is cancelled: the folder of a file that has not changed for `quiet`
        seconds is scanned, and a study settles when none of its files has turned up for `_pause`, or when nothing
        changes any more. After a scan that the store did not keep, the next one waits for `quiet` seconds, and then
        looks at everything."""
        busy: dict[str, float] = {}
        scanned = paused = -RESCAN
        step = max(50, int(self._quiet * 100))
        there = [root for root in self._roots if await anyio.Path(root).is_dir()]
        async for changes in awatch(*there, debounce=step, rust_timeout=step, yield_on_timeout=True):
            now = monotonic()
            busy |= {path: now for _, path in changes}
            if now < paused:
                continue
            quiet = [path for path, last in busy.items() if now - last >= self._quiet]
            still = len(quiet) == len(busy)
            try:
                if now - scanned >= RESCAN:
                    await self._scan([(root, True) for root in self._roots], whole=True, still=still)
                    scanned = monotonic()
                elif quiet:
                    await self._scan(await to_thread.run_sync(_places, quiet), whole=False, still=still)
                elif busy:
                    async with self._one:
                        await self._settle(ScanReport(), datetime.now(UTC) - self._pause)
            except Unavailable as error:
                LOG.warning("scan-interrupted", reason=error.reason, again_in=self._quiet)
                scanned, paused = -RESCAN, monotonic() + self._quiet
                continue
            for path in quiet:
                del busy[path]

    async def _scan(
        self,
        places: Iterable[tuple[str, bool]],
        *,
        whole: bool,
        still: bool = True,
        progress: Progress | None = None,
    ) -> ScanReport:
        """One pass over `places`, at the end of which everything settles; unless the folders are `still`, only what was
        not touched for `_pause`, or was waiting at the end of the last whole pass too."""
        report = ScanReport()
        async with self._one:
            last = monotonic()

            async def between() -> None:
                nonlocal last
                if monotonic() - last >= self._quiet:
                    await self._settle(report, datetime.now(UTC) - timedelta(seconds=self._quiet))
                    last = monotonic()

            scan = Scan(self._store, self._part, self._roots, report, between=between, progress=progress)
            await scan.run(places, whole=whole)
            await self._settle(report, datetime.now(UTC) - (timedelta() if still else self._pause))
            if whole:
                await self._settle_restless(report)
        async with self._store.read() as connection:
            report.studies, report.instances, report.bytes = await index.totals(connection, self._part)
            report.problems = await index.count_problems(connection, self._part)
            report.passed_over = await index.count_passed_over(connection, self._part)
        return report

    async def _settle(self, report: ScanReport, before: datetime) -> None:
        """Settles the studies that have not been touched since `before`."""
        await self._settle_all(report, await self._waiting(before))

    async def _settle_restless(self, report: ScanReport) -> None:
        """Settles the studies that were waiting after the last whole pass and have been touched since."""
        waiting = frozenset(await self._waiting(datetime.now(UTC)))
        await self._settle_all(report, sorted(waiting & self._restless))
        self._restless = waiting - self._restless

    async def _waiting(self, before: datetime) -> list[str]:
        async with self._store.read() as connection:
            return await index.waiting(connection, self._part, before)

    async def _settle_all(self, report: ScanReport, uids: Sequence[str]) -> None:
        for start in range(0, len(uids), SETTLING):
            report.settled += await self._store.write(partial(self._settle_some, uids=uids[start : start + SETTLING]))

    async def _settle_some(self, connection: AsyncConnection, uids: Sequence[str]) -> int:
        keys = [await settle(connection, self._part, uid, self._terms) for uid in uids]
        return len(keys) - keys.count(None)


def _places(paths: Iterable[str]) -> list[tuple[str, bool]]:
    """What to visit for changed paths: the folder of each, and whatever is or was a folder itself with all below."""
    found = {str(Path(path).parent): False for path in paths}
    found |= {path: True for path in paths if not Path(path).is_file()}
    return sorted(found.items())
