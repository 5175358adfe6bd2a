"""A gateway that may open 128 files, and strangers who hold them all: it sheds, stays, and recovers."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx2
import pytest
from tests.faults.conftest import Serve, until

pytestmark = pytest.mark.anyio
FEW = 128


def few() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


async def test_it_answers_again_when_the_strangers_have_gone(serve: Serve) -> None:
    async with serve(limit=few) as served:
        assert (await served.consumer.search()).status_code == 200
        address = urlsplit(served.url)
        with ExitStack() as stack:
            for _ in range(2 * FEW):
                stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=60))
            async with httpx2.AsyncClient(timeout=2) as stranger:
                with pytest.raises(httpx2.HTTPError):
                    await stranger.get(f"{served.url}/livez")
            assert served.process.poll() is None

        async def answers() -> bool:
            try:
                answer = await served.consumer.search()
            except httpx2.HTTPError:
                return False
            return bool(answer.status_code == 200 and answer.json()["total"] == 1)

        await until(answers)
        assert await served.ready()
