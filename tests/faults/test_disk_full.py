"""Database and log on one disk, and the disk is full: nothing is released, the process stays, and all is well again
when space is back."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.faults.conftest import MDG, Serve, assert_unavailable, fill, until

from mdg.sandbox.phantom import write_phantom

pytestmark = pytest.mark.anyio
QUIET = 5.0
"""Seconds after which a changed folder is scanned."""


def index(folder: Path, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MDG, "index", str(folder), "--data", str(data)], check=False, capture_output=True, text=True, timeout=120
    )


async def test_requests_are_503_reads_go_on_and_all_recovers(serve: Serve, small_disk: Path, images: Path) -> None:
    with (small_disk / "log").open("wb") as log:
        async with serve(data=small_disk / "data", log=log) as served:
            assert (await served.consumer.search()).json()["total"] == 1
            filler = fill(small_disk)
            for _ in range(10):
                assert_unavailable(await served.consumer.search())
            assert_unavailable(await served.http.get(f"{served.url}/fhir/ImagingStudy/1"))  # its refusal is a record
            assert await served.status("/livez") == 200
            assert await served.status("/fhir/metadata") == 200
            assert await served.status("/readyz") == 503

            # A scan that the store cannot keep is one more line that cannot be written.
            dropped = await served.metric("mdg_log_dropped_lines_total")
            write_phantom(images / "second", seed=2, slices=1)

            async def scanned() -> bool:
                return await served.metric("mdg_log_dropped_lines_total") > dropped

            await until(scanned)
            assert served.process.poll() is None

            filler.unlink()
            await until(served.ready)
            answer = await served.consumer.search()
            assert (answer.status_code, len(await served.records(answer.headers["X-Request-ID"]))) == (200, 1)

            async def found() -> bool:
                return bool((await served.consumer.search()).json()["total"] == 2)

            await until(found)
            served.process.terminate()
            assert served.process.wait(60) == 0
    last = [json.loads(line) for line in (small_disk / "log").read_bytes().splitlines()[-3:]]
    assert any(line["event"] == "request" and line["status"] == 200 for line in last), "lines are written again, whole"


@pytest.mark.parametrize("leave", [0, 400_000])
def test_a_command_that_cannot_write_its_database_says_which_and_why(
    small_disk: Path, tmp_path: Path, leave: int
) -> None:
    """On a disk that is full, and on one that fills on the way."""
    folder = tmp_path / "many"
    write_phantom(folder / "0", slices=40)
    for number in range(1, 30):
        shutil.copytree(folder / "0", folder / str(number))
    filler = fill(small_disk, leave)
    data = small_disk / "data"
    done = index(folder, data)
    assert done.returncode == 4, done.stderr
    assert str(data) in done.stderr
    assert "no space" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1, "one plain line, and no trace"
    served = subprocess.run(
        [*MDG, "serve", "--sandbox", "--folder", str(folder), "--data", str(data), "--port", "0"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert served.returncode == 4, served.stderr
    assert "no space" in served.stderr.lower()
    assert "Traceback" not in served.stderr
    filler.unlink()
    assert index(folder, data).returncode == 0
