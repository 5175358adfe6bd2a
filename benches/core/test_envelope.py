"""Whole processes: `mdg pack`, `mdg verify --key` and `mdg open` of a 400 MB PET-CT on a memory disk, against FLOOR.

FLOOR is one core's SHA-256 of the same files, read and hashed, the start of its interpreter left out. It is taken in
each round beside the three commands, so that a ratio compares times of the same minute; best and median of the rounds
are shown. Peak memory is `ru_maxrss` of the child, base that of `mdg --version`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MAKER = REPOSITORY.parent / "shared" / "tools" / "make_study.py"
ROUNDS = int(os.environ.get("MDG_BENCH_ROUNDS", "7"))
MIB = 1 << 20

FLOOR = """
import hashlib, sys, time
from pathlib import Path
files = [path for path in sorted(Path(sys.argv[1]).rglob("*")) if path.is_file()]
buffer = bytearray(1 << 20)
view = memoryview(buffer)
began = time.perf_counter()
for path in files:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    digest.digest()
print(time.perf_counter() - began)
"""


@pytest.fixture(scope="module")
def memory_disk() -> Iterator[Path]:
    if not MAKER.is_file():
        pytest.skip(f"no maker of studies at {MAKER}")
    shared = Path("/dev/shm")  # noqa: S108 # a private folder of this run in it
    if not shared.is_dir():
        pytest.skip("no memory disk at /dev/shm")
    folder = shared / f"mdg-bench-{os.getpid()}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def petct(memory_disk: Path) -> Path:
    study = memory_disk / "petct"
    subprocess.run([sys.executable, MAKER, "petct", study], check=True, capture_output=True)
    return study


@pytest.fixture(scope="module")
def keys(memory_disk: Path) -> Path:
    folder = memory_disk / "keys"
    for name in ("a", "b"):
        measured("keygen", "--out", folder, "--name", name, "--id", f"urn:example:{name}", "--contact", "imaging")
    return folder


def measured(*arguments: str | Path) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak MiB) of one `mdg` command."""
    command = [sys.executable, "-m", "mdg.cli", *map(str, arguments)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said.decode()
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def floor(study: Path) -> float:
    done = subprocess.run([sys.executable, "-c", FLOOR, study], check=True, capture_output=True, text=True)
    return float(done.stdout)


def test_pack_verify_and_open_against_the_floor(
    petct: Path, keys: Path, memory_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed, out = memory_disk / "e.zip", memory_disk / "out"
    commands: dict[str, Callable[[], tuple[float, float, float]]] = {
        "pack": lambda: measured(
            "pack", petct, "--to", keys / "b.card.json", "--sign", keys / "a.ed25519.key", "-o", sealed
        ),
        "verify": lambda: measured("verify", sealed, "--trust", keys / "a.card.json", "--key", keys / "b.x25519.key"),
        "open": lambda: measured(
            "open", sealed, "--key", keys / "b.x25519.key", "--trust", keys / "a.card.json", "-o", out
        ),
    }
    goals = {"pack": (0.5, 0.8), "verify": (0.6, 1.0), "open": (0.4, 0.8)}
    base = measured("--version")
    floors: list[float] = []
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        sealed.unlink(missing_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        floors.append(floor(petct))
        for name, command in commands.items():
            found[name].append(command())

    size = sum(path.stat().st_size for path in petct.rglob("*") if path.is_file())
    with capsys.disabled():
        print(f"\n{size / 1e6:.0f} MB, {ROUNDS} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"FLOOR best {min(floors):.3f} s, median {statistics.median(floors):.3f} s")
        print(f"base (mdg --version) {base[0]:.3f} s, {base[2]:.0f} MiB")
        for name, rounds in found.items():
            seconds = [one[0] for one in rounds]
            best = min(floors) / min(seconds)
            median = statistics.median(own / one for own, one in zip(floors, seconds, strict=True))
            peak = max(one[2] for one in rounds) - base[2]
            print(
                f"{name:<7} best {best:.2f} of FLOOR, median of rounds {median:.2f} (goal {goals[name][0]}, stretch "
                f"{goals[name][1]}); best {min(seconds):.3f} s, CPU {min(one[1] for one in rounds):.3f} s, "
                f"peak base + {peak:.0f} MiB"
            )
