"""Whole processes: `mdg pack`, `mdg verify --key` and `mdg open` of a 400 MB PET-CT on a memory disk, against FLOOR.

FLOOR is one core's SHA-256 of the same files, read and hashed, the start of its interpreter left out. It is taken in
each round beside the three commands, so that a ratio compares times of the same minute; best and median of the rounds
are shown. Peak memory is that of the child
(`child.py`), base that of `mdg --version`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("MDG_BENCH_ROUNDS", "7"))
BENCHES = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def keys(memory_disk: Path) -> Path:
    folder = memory_disk / "keys"
    for name in ("a", "b"):
        measured("keygen", "--out", folder, "--name", name, "--id", f"urn:example:{name}", "--contact", "imaging")
    return folder


def measured(*arguments: str | Path) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak MiB) of one `mdg` command."""
    command = [sys.executable, str(BENCHES / "child.py"), sys.executable, "-m", "mdg.cli", *map(str, arguments)]
    took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return took["seconds"], took["cpu"], took["peak"]


def floor(study: Path) -> float:
    """FLOOR in a process of its own, as the commands are."""
    command = [sys.executable, str(BENCHES / "floor.py"), str(study)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


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
