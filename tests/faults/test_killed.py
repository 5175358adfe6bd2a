"""kill -9 of either side in the middle of a retrieval: nothing that was recorded is lost, nothing half there stays."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import httpx2
import pytest
from anyio import to_thread
from tests.faults.conftest import MDG, PATIENCE, Serve, study_uid, until
from tests.web.conftest import RETRIEVE

from mdg.sandbox.identifiers import EXAMPLE_IHI

pytestmark = pytest.mark.anyio


async def test_a_provider_that_is_killed_goes_on_with_the_same_envelope(
    serve: Serve, large: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with serve(data=data, folder=large) as served:
        path = f"/api/jmix?studyInstanceUid={await study_uid(served)}"
        headers = await served.consumer.credentials("GET", path, RETRIEVE)
        begun = b""
        with pytest.raises(httpx2.HTTPError):  # noqa: PT012 -- the kill is one of the things that it holds
            async with served.http.stream("GET", f"{served.url}{path}", headers=headers) as answer:
                assert answer.status_code == 200
                etag, length = answer.headers["ETag"], int(answer.headers["Content-Length"])
                request_id = answer.headers["X-Request-ID"]
                async for piece in answer.aiter_raw():
                    begun += piece
                    served.process.kill()
        assert 0 < len(begun) < length
        port = served.url.rpartition(":")[2]
    async with serve(data=data, folder=large, arguments=("--port", port)) as served:
        assert [event["outcome"] for event in await served.records(request_id)] == ["0", "0"], "grant and release"
        asked = {"Range": f"bytes={len(begun)}-", "If-Range": etag}
        rest = await served.consumer.ask("GET", path, scopes=RETRIEVE, headers=asked)
        assert (rest.status_code, rest.headers["ETag"]) == (206, etag)
        whole = await served.consumer.ask("GET", path, scopes=RETRIEVE)
        assert begun + rest.content == whole.content


async def test_a_consumer_that_is_killed_leaves_what_its_next_fetch_removes(
    serve: Serve, large: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    async with serve(folder=large) as served:
        uid = await study_uid(served)
        command = [*MDG, "fetch", "--gateway", served.url, "--study", uid, "-o", str(place / "out"), "--ihi", "-"]
        command += ["--data", str(tmp_path / "consumer")]

        def kill_in_the_middle() -> None:
            fetching = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert fetching.stdin is not None
            fetching.stdin.write(f"{EXAMPLE_IHI}\n")
            fetching.stdin.close()
            end = time.monotonic() + PATIENCE
            while not any(path.stat().st_size for path in place.glob(".out.*.part")):
                assert fetching.poll() is None
                assert time.monotonic() < end
                time.sleep(0.001)  # nothing tells that a download has begun
            fetching.kill()
            fetching.wait()

        await to_thread.run_sync(kill_in_the_middle)
        assert not (place / "out").exists()
        assert len(list(place.iterdir())) == 1
        done = await to_thread.run_sync(
            lambda: subprocess.run(command, check=False, input=f"{EXAMPLE_IHI}\n", capture_output=True, text=True)
        )
        assert done.returncode == 0, done.stderr
        assert [path.name for path in place.iterdir()] == ["out"]
        await until(served.ready)
