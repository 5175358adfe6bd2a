"""Header facts against pydicom, and indexing against FLOOR: one core's SHA-256 of the same files, read and hashed.

The parts of a comparison run one after the other in each round, so that what slows the machine slows both; printed are
the best and the median of the rounds' ratios. Files are in the page cache or on a memory disk.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
import pytest
from benches.conftest import SHARED
from benches.floor import files_below, floor

from mdg import _core

ROUNDS = int(os.environ.get("MDG_BENCH_ROUNDS", "7"))

Files = Sequence[str]


@pytest.fixture(scope="module")
def small_mr() -> Files:
    """600 real MR instances of 25 kB."""
    folder = SHARED / "data" / "mr-ge-epi-600"
    found = sorted(str(path) for path in folder.glob("mr_*/*") if "README" not in path.name)
    if not found:
        pytest.skip(f"no {folder}")
    return found


def by_pydicom(files: Files) -> None:
    for name in files:
        pydicom.dcmread(name, stop_before_pixels=True)


def one_call_a_file(files: Files) -> None:
    for name in files:
        _core.read_header(name)


def index(files: Files) -> None:
    found = _core.index_files(files)
    assert all(one.problem is None for one in found)


def index_on_one_thread(files: Files) -> None:
    _core.index_files(files, 1)


def seconds(work: Callable[[Files], object], files: Files) -> float:
    start = time.perf_counter()
    work(files)
    return time.perf_counter() - start


def report(name: str, slow: Callable[[Files], object], fast: Callable[[Files], object], files: Files) -> None:
    """Prints how many times faster `fast` is than `slow`, and what it does in a second."""
    rounds = [(seconds(slow, files), seconds(fast, files)) for _ in range(ROUNDS)]
    ratios = [a / b for a, b in rounds]
    best = min(b for _, b in rounds)
    median = statistics.median(ratios)
    print(f"\n{name}: best {max(ratios):.2f}, median {median:.2f} times; {len(files) / best:,.0f} instances/s")


def test_headers_against_pydicom(petct: Path) -> None:
    report("header facts, PET-CT, against pydicom", by_pydicom, one_call_a_file, files_below(petct))


def test_headers_of_small_mr_against_pydicom(small_mr: Files) -> None:
    report("header facts, 25 kB MR, against pydicom", by_pydicom, one_call_a_file, small_mr)


def test_index_against_floor(petct: Path) -> None:
    report("index, PET-CT, against FLOOR", floor, index, files_below(petct))


def test_index_on_one_thread_against_floor(petct: Path) -> None:
    report("index on one thread, PET-CT, against FLOOR", floor, index_on_one_thread, files_below(petct))


def test_index_of_small_mr_against_floor(small_mr: Files) -> None:
    report("index, 25 kB MR, against FLOOR", floor, index, small_mr)
