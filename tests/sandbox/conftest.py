"""A sandbox in this process, asked without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from mdg.sandbox import create_app

URL = "http://127.0.0.1:8400"


@pytest.fixture
async def sandbox() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(create_app(URL)), base_url=URL) as client:
        yield client
