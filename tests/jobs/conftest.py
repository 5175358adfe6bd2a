"""Jobs on each kind of database, and a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.jobs.process import Clock, Process

from mdg.store import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as store:
        yield store


@pytest.fixture
def process(store: Store, clock: Clock) -> Process:
    return Process(store, clock)
