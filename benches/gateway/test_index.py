"""Indexing in place: a first scan of files in the page cache into a new database on the disk, against FLOOR.

FLOOR is one core's SHA-256 of the same files, read and hashed in the same process, taken in each round beside the scan;
best and median of the rounds are shown. The scan parses headers, makes SHA-256 and check tables, and commits durably
every 32 files.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest
from benches.floor import files_below, floor

from mdg.model.identity import HpiO
from mdg.sources.folder import FolderSource
from mdg.sources.scan import ScanReport
from mdg.store import Store

ROUNDS = int(os.environ.get("MDG_BENCH_ROUNDS", "7"))


async def scan(folder: Path, database: Path) -> tuple[float, ScanReport]:
    """Seconds of a first scan, the opening of the database left out, and its report."""
    async with Store.open(str(database)) as store:
        zone = ZoneInfo("Australia/Sydney")
        source = FolderSource(store, HpiO("8003621566684455"), [folder], default_issuer="BENCH", time_zone=zone)
        began = time.perf_counter()
        report = await source.scan()
        return time.perf_counter() - began, report


@pytest.mark.parametrize("kind", ["petct", "mr"])
def test_index_in_place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study: Path = request.getfixturevalue(kind)
    floors: list[float] = []
    scans: list[float] = []
    files, size = 0, 0
    for number in range(ROUNDS):
        floors.append(floor(files_below(study)))
        seconds, report = anyio.run(scan, study, tmp_path / str(number) / "mdg.sqlite")
        assert report.problems == 0
        files, size = report.read, report.bytes_read
        scans.append(seconds)
    with capsys.disabled():
        print(f"\nindex in place, {kind}: {files} files, {size / 1e6:.0f} MB, {ROUNDS} rounds, ", end="")
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"FLOOR best {min(floors):.3f} s, median {statistics.median(floors):.3f} s")
        median = statistics.median(own / one for own, one in zip(floors, scans, strict=True))
        print(
            f"scan best {min(floors) / min(scans):.2f} of FLOOR, median of rounds {median:.2f} (goal 0.8 on petct); ",
            end="",
        )
        print(
            f"best {files / min(scans):,.0f}, median {files / statistics.median(scans):,.0f} files/s (goal 2,000 on mr)"
        )
