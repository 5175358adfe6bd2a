"""A scan that is killed goes on where it was: the index ends the same, and nothing that was committed is read again.

A scan killed at random points (SIGKILL) is run to its end and compared row for row with one that was left alone; what
may differ are random ids and times. Bytes are counted by the kernel (proc(5), io), from the start of each scan.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

Write = Callable[..., Path]
SCANNING = Path(__file__).with_name("scanning.py")
RANDOM = {
    "patients": {"id"},
    "studies": {"id"},
    "versions": {"settled"},
    "events": {"time"},
    "jobs": {"created", "due"},
}
"""Columns that are random or times of the clock."""


class Scanner:
    """The process of one scan."""

    def __init__(self, folder: Path, database: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCANNING), str(folder), str(database)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._began = int(self._process.stdout.readline())

    def kill_after(self, seconds: float) -> int:
        """SIGKILL after `seconds`; the bytes that it had read. Fails when it had ended by itself."""
        time.sleep(seconds)
        self._process.send_signal(signal.SIGKILL)
        read = self._read_at_end()
        assert self._process.wait() == -signal.SIGKILL
        return read

    def finish(self) -> int:
        """Waits for the end; the bytes that it had read."""
        read = self._read_at_end()
        assert self._process.wait() == 0
        return read

    def _read_at_end(self) -> int:
        """The kernel's count is there until the process, ended, has been waited for."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return int(Path(f"/proc/{self._process.pid}/io").read_text().split()[1]) - self._began


def fill(folder: Path, instances: int, template: bytes, uid: str) -> None:
    """`instances` files of about 25 kB in eight folders, four studies, each study in two of them."""
    for number in range(instances):
        content = template.replace(uid.encode(), f"1.2.3.1.{100000 + number}".encode())
        place = folder / f"{number % 8}"
        place.mkdir(exist_ok=True)
        study = f"1.2.{3 + number % 4}".encode()
        (place / f"{number}.dcm").write_bytes(content.replace(b"1.2.9", study))


def index_of(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, sorted, without RANDOM."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            every = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(f'"{column}"' for column in every if column not in RANDOM.get(table, set()))
            statement = f"SELECT {kept} FROM {table}"  # noqa: S608 -- the names come from the schema itself
            found[table] = sorted(connection.execute(statement), key=repr)
    return found


@pytest.mark.parametrize(
    ("instances", "rounds", "kills"),
    [(2_400, 5, 4), pytest.param(10_000, 1, 20, marks=pytest.mark.slow)],
    ids=["2400-files-4-kills-5-times", "10000-files-20-kills"],
)
def test_a_scan_killed_at_random_points_ends_like_an_undisturbed_one(
    tmp_path: Path, write: Write, instances: int, rounds: int, kills: int
) -> None:
    uid = "1.2.3.1.999999"
    pixels = {"Rows": 100, "Columns": 120, "PixelData": random.Random(1).randbytes(24_000)}
    template = write(tmp_path / "template.dcm", study="1.2.9", SOPInstanceUID=uid, **pixels).read_bytes()
    images = tmp_path / "images"
    images.mkdir()
    fill(images, instances, template, uid)

    undisturbed = tmp_path / "undisturbed" / "mdg.sqlite"
    scanner = Scanner(images, undisturbed)
    began = time.monotonic()
    whole = scanner.finish()
    seconds = time.monotonic() - began
    expected = index_of(undisturbed)
    assert len(expected["instances"]) == instances
    assert whole >= instances * len(template)

    chance = random.Random(20)
    for number in range(rounds):
        database = tmp_path / f"killed-{number}" / "mdg.sqlite"
        read = sum(Scanner(images, database).kill_after(chance.uniform(0, seconds / (kills + 1))) for _ in range(kills))
        read += Scanner(images, database).finish()
        assert index_of(database) == expected
        assert read <= 1.1 * whole, f"{read} bytes read, {whole} by a scan that was left alone"
