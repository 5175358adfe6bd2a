"""Registration by whole gateways: the locator names who holds something, also after it, or the gateway, was away."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import anyio
import pytest
from tests.identities import write_identity_csv
from tests.registry.locators import calling
from tests.web.conftest import folder_with_phantom
from tests.web.test_serve import MDG, serving

from mdg.cli.serve import folder_source
from mdg.registry import Registry
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER
from mdg.sources import watcher

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio

ON = {"registration": True}
PATIENCE = 60  # seconds; far beyond what it takes


async def eventually(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    with anyio.fail_after(PATIENCE):
        while await ask() != wanted:  # noqa: ASYNC110 - what is waited for happens in another process
            await anyio.sleep(0.1)  # between two questions


async def named(registry: Registry) -> list[str]:
    return [one.service_id for one in await registry.holders(EXAMPLE_IHI)]


async def test_a_study_that_settles_is_registered_and_one_that_goes_is_taken_back(start: Start, tmp_path: Path) -> None:
    folder = folder_with_phantom(tmp_path / "own")
    (folder / "README").write_text("a folder that is empty counts as not mounted")
    async with (
        start(capabilities=ON, sources=folder_source([folder])) as gateway,
        calling(f"{gateway.url}/sandbox", tmp_path / "asking", EXAMPLE_PROVIDER) as registry,
    ):
        await eventually(lambda: named(registry), [str(uuid5(NAMESPACE_URL, gateway.url))])
        shutil.rmtree(folder / "phantom")
        await watcher.scan(gateway.rooms.sources)
        await eventually(lambda: named(registry), [])
        answer = await gateway.consumer.search()
        assert answer.json()["total"] == 0


async def test_while_registration_is_off_nothing_is_sent_and_nothing_is_lost(start: Start, tmp_path: Path) -> None:
    async with (
        start() as gateway,
        calling(f"{gateway.url}/sandbox", tmp_path / "asking", EXAMPLE_PROVIDER) as registry,
    ):
        assert await named(registry) == []
    async with (
        start(capabilities=ON) as gateway,
        calling(f"{gateway.url}/sandbox", tmp_path / "asking", EXAMPLE_PROVIDER) as registry,
    ):
        await eventually(lambda: named(registry), [str(uuid5(NAMESPACE_URL, gateway.url))])


@contextmanager
def national_services(port: int) -> Iterator[None]:
    """`mdg sandbox serve`, a process of its own."""
    process = subprocess.Popen(
        [*MDG, "sandbox", "serve", "--port", str(port), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


async def test_a_gateway_serves_without_the_locator_and_registers_when_it_is_there(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes: the gateway's own sandbox gives the tokens, the locator is another's and is not there at first."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    csv = write_identity_csv(tmp_path / "identity.csv")
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MDG_REGISTRY_URL", url)
    monkeypatch.setenv("MDG_TOKEN_URL", f"{url}/token")
    monkeypatch.setenv("MDG_DEFAULT_ISSUER", "DEMO")
    arguments = ("--folder", str(phantom), "--sandbox", "--identity", str(csv), "--port", "0")
    with serving(*arguments, "--data", str(tmp_path / "data")) as (process, ready):
        await anyio.sleep(1)  # by now the gateway has asked for the authority in vain
        with urllib.request.urlopen(f"{ready['public']}/readyz") as answer:  # noqa: S310, ASYNC210 - our own loopback address
            assert answer.read() == b"ok"
        with national_services(port):
            async with calling(url, tmp_path / "asking", EXAMPLE_PROVIDER) as registry:
                await eventually(lambda: named(registry), [str(uuid5(NAMESPACE_URL, str(ready["public"])))])
        assert process.poll() is None
