"""One world for all rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from tests.negative.world import World, opened


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with opened(tmp_path_factory.mktemp("world")) as made:
        token = made.forgery.token({})
        first = await made.call(token, "GET", "/api/jmix", query=f"?studyInstanceUid={made.words['uid']}")
        assert first.status == 200, "the envelope is made once, so that no refusal is blamed for its file"
        yield made
