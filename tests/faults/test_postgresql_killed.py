"""PostgreSQL is killed under a gateway: 503 while it is away, and the gateway finds it again by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.databases import Server, server
from tests.faults.conftest import Serve, assert_unavailable, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that no other test uses."""
    with server() as running:
        yield running


async def test_requests_are_503_while_it_is_away_and_what_was_recorded_is_there_after(
    serve: Serve, own: Server
) -> None:
    with own.database() as name:
        async with serve(settings={"MDG_DATABASE": own.url(name)}) as served:
            before = await served.consumer.search()
            assert before.status_code == 200
            own.stop(signal.SIGQUIT)
            for _ in range(3):
                assert_unavailable(await served.consumer.search())
            assert await served.status("/readyz") == 503
            assert await served.status("/fhir/metadata") == 200
            own.start()
            await until(served.ready)
            assert (await served.consumer.search()).json()["total"] == 1
            assert len(await served.records(before.headers["X-Request-ID"])) == 1
            served.process.terminate()
            assert served.process.wait(60) == 0
