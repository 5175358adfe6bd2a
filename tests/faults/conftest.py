"""A gateway as a process of its own that a test may starve, stop and kill, and a consumer that asks it.

Each file shows one fault by what an operator and a client see of it: status, body, audit, and that all is well again
when the fault is over. docs/reference/faults.md lists them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import anyio
import httpx2
import pytest
from anyio import to_thread
from tests.identities import write_identity_csv
from tests.web.conftest import Consumer, known_consumer, phantom, start

from mdg.keys import Keyring
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER
from mdg.sandbox.phantom import ISSUER, write_phantom

__all__ = ["phantom", "start"]  # fixtures of the same gateway inside this process, for a clock that tests move
MDG = [sys.executable, "-m", "mdg.cli"]
PATIENCE = 60.0
"""Seconds for a state that must come, on a machine that does other things too."""
SLICES = 3


@dataclass
class Served:
    """A gateway process: its two addresses, and a consumer known to its sandbox."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    consumer: Consumer
    http: httpx2.AsyncClient = field(repr=False)

    async def status(self, path: str) -> int:
        """The status of an address that needs no token."""
        return (await self.http.get(f"{self.url}{path}")).status_code

    async def ready(self) -> bool:
        """What a load balancer is told."""
        return await self.status("/readyz") == 200

    async def records(self, request_id: str) -> list[dict[str, Any]]:
        """The AuditEvents of one request."""
        answer = await self.http.get(f"{self.admin}/audit/{request_id}")
        answer.raise_for_status()
        return list(answer.json()["events"])

    async def metric(self, name: str) -> float:
        """One number of `/metrics`."""
        text = (await self.http.get(f"{self.admin}/metrics")).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


Serve = Callable[..., AbstractAsyncContextManager[Served]]


async def until(holds: Callable[[], Any]) -> None:
    """Waits until the awaited `holds()` is true."""
    with anyio.fail_after(PATIENCE):
        while not await holds():  # noqa: ASYNC110 -- another process tells nobody that it has changed
            await anyio.sleep(0.05)


async def study_uid(served: Served) -> str:
    """The one study that the consumer finds."""
    resource = (await served.consumer.search()).json()["entry"][0]["resource"]
    return str(resource["identifier"][0]["value"]).removeprefix("urn:oid:")


def assert_unavailable(answer: httpx2.Response) -> None:
    """What a client sees of a gateway that cannot do its work now: it may come again."""
    assert answer.status_code == 503, answer.text
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["code"] == "transient"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["X-Request-ID"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_phantom(folder / "phantom", slices=SLICES)
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A study whose envelope is larger than what the kernel's buffers of a connection hold."""
    write_phantom(tmp_path / "large" / "phantom", slices=60)
    return tmp_path / "large"


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return write_identity_csv(tmp_path / "identity.csv")


@pytest.fixture
def serve(tmp_path: Path, images: Path, identity: Path) -> Serve:
    """Starts a gateway: `async with serve() as served`. It is killed at the end if the test has not stopped it."""

    @asynccontextmanager
    async def run(
        *,
        data: Path | None = None,
        folder: Path = images,
        log: IO[Any] | int = subprocess.DEVNULL,
        settings: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> AsyncIterator[Served]:
        where = ("--folder", str(folder), "--data", str(data or tmp_path / "data"), "--identity", str(identity))
        process = subprocess.Popen(  # noqa: ASYNC220 -- begun, not waited for
            [*MDG, "serve", "--json", "--sandbox", "--port", "0", *where, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"MDG_DEFAULT_ISSUER": ISSUER, **(settings or {})},
            preexec_fn=limit,  # noqa: PLW1509 -- no thread of this process holds a lock that the child needs
        )
        assert process.stdout is not None
        async with AsyncExitStack() as stack:
            try:
                ready = json.loads(await to_thread.run_sync(process.stdout.readline))
                url, admin = str(ready["public"]), str(ready["admin"])
                outbound = await stack.enter_async_context(Outbound([url], True))
                http = await stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE))
                keyring = Keyring.open(tmp_path / "keys", id=EXAMPLE_CONSUMER.uri, name="consumer", contact="")
                consumer = await known_consumer(url, f"{url}/sandbox", keyring, outbound=outbound, http=http)
                yield Served(process, url, admin, consumer, http)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    return run


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A small disk of its own at `place`. Making one needs root: the test is skipped for anybody else."""
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("a small disk needs the right to mount one (root)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", "24m") as place:
        yield place


def fill(place: Path, leave: int = 0) -> Path:
    """Fills a disk but for `leave` bytes; the file that does it."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):  # the one that says that the disk is full
        while True:
            file.write(bytes(1 << 16))
    os.truncate(filler, filler.stat().st_size - leave)
    return filler
