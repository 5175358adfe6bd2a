"""What many lines of identity.csv cost: the import of a new file, of one with a corrected line, a start with a file
that has not changed, and one read of a study, at 100 and at 1,000,000 lines.

A read is what a door asks before it answers: the study of the token's person by its UID. The reads of both tables are
taken in turn, so that both meet the same machine; each import and each start is a process of its own, whose peak memory
is shown.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from mdg.access import RecordedConsents, utc_now
from mdg.exchange.catalogue import Catalogue
from mdg.identity import Identities
from mdg.model.identity import HpiO, Ihi
from mdg.sandbox.identifiers import made_up
from mdg.sandbox.phantom import write_phantom
from mdg.sources.folder import FolderSource
from mdg.store import Store

CUSTODIAN = HpiO("8003621566684455")
FEW, MANY = 100, int(os.environ.get("MDG_BENCH_IDENTITIES", "1000000"))
READS = int(os.environ.get("MDG_BENCH_READS", "400"))
ZONE = ZoneInfo("Australia/Sydney")
LOAD = f"""
import sys, anyio
from pathlib import Path
from mdg.identity import Identities
from mdg.model.identity import HpiO
from mdg.store import Store

async def load(database, csv):
    async with Store.open(database) as store:
        await Identities(store, HpiO("{CUSTODIAN}")).load_csv(Path(csv))

anyio.run(load, *sys.argv[1:])
"""


def person(number: int) -> Ihi:
    """The IHI of a line: made from its number, with a right check digit."""
    digits = f"800360{number:09d}"
    doubled = (sum(divmod(int(digit) * 2, 10)) if place % 2 == 0 else int(digit) for place, digit in enumerate(digits))
    return Ihi(f"{digits}{-sum(doubled) % 10}")


def table(path: Path, lines: int) -> Path:
    """An identity.csv whose first line is the phantom's patient."""
    with path.open("w") as file:
        file.write("PatientID,issuer,IHI,source,date\n")
        file.write(f"DEMO-0001,DEMO,{made_up(Ihi, 'the phantom')},PAS,2026-05-01\n")
        file.writelines(f"P{number:07d},DEMO,{person(number)},PAS,2026-05-01\n" for number in range(1, lines))
    return path


def loaded(database: Path, csv: Path) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory (MiB) of a process that opens the database and takes over the file."""
    child = Path(__file__).parents[1] / "child.py"
    done = subprocess.run(
        [sys.executable, child, sys.executable, "-c", LOAD, database, csv], check=True, capture_output=True, text=True
    )
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


async def reads(few: Path, many: Path, images: Path) -> tuple[list[float], list[float]]:
    """Seconds of each read at few and at many identities, taken in turn."""
    ihi = made_up(Ihi, "the phantom")
    took: tuple[list[float], list[float]] = ([], [])
    async with Store.open(str(few)) as one, Store.open(str(many)) as other:
        ways = []
        for store in (one, other):
            source = FolderSource(store, CUSTODIAN, [images], default_issuer="DEMO", time_zone=ZONE)
            await source.scan()
            catalogue = Catalogue([source], Identities(store, CUSTODIAN), RecordedConsents(store, CUSTODIAN, utc_now))
            ((held, *_), _) = await catalogue.of(ihi)
            ways.append((catalogue, held.study.key.uid))
        for number in range(READS + 20):
            for (catalogue, uid), seconds in zip(ways, took, strict=True):
                began = time.perf_counter()
                assert await catalogue.study(uid, ihi) is not None
                if number >= 20:  # the first ones warm the caches
                    seconds.append(time.perf_counter() - began)
    return took


def test_a_table_of_many_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(tmp_path / "images", slices=1)
    shown = []
    for lines in (FEW, MANY):
        csv, database = table(tmp_path / f"{lines}.csv", lines), tmp_path / str(lines) / "mdg.sqlite"
        first = loaded(database, csv)
        csv.write_text(csv.read_text().replace(f"P{lines // 2:07d},", f"Q{lines // 2:07d},"))
        corrected, again = loaded(database, csv), loaded(database, csv)
        shown.append((lines, csv.stat().st_size, first, corrected, again))
    few_rows, many_rows = (tmp_path / str(lines) / "mdg.sqlite" for lines in (FEW, MANY))
    few, many = anyio.run(reads, few_rows, many_rows, tmp_path / "images")
    with capsys.disabled():
        print(f"\nidentities, {READS} reads each, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for lines, size, first, corrected, again in shown:
            for what, taken in (("first", first), ("one line corrected", corrected), ("unchanged", again)):
                print(f"{lines:,} lines, {size / 1e6:.1f} MB, {what}: {taken['seconds']:.2f} s, ", end="")
                print(f"CPU {taken['cpu']:.2f} s, peak {taken['peak']:.0f} MiB")
        for lines, seconds in ((FEW, few), (MANY, many)):
            p95 = statistics.quantiles(seconds, n=20)[-1]
            print(f"read at {lines:,}: median {statistics.median(seconds) * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms")
        ratio = statistics.quantiles(many, n=20)[-1] / statistics.quantiles(few, n=20)[-1]
        print(f"p95 at {MANY:,} over p95 at {FEW:,}: {ratio:.2f} (goal 1.5)")
