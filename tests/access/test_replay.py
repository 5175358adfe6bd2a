"""What is used once: atomically, durably, and not at all when the work failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from tests.access.conftest import Clock
from tests.authority import CUSTODIAN, ORGANISATION

from mdg.access import Replay, SteadyClock, utc_now
from mdg.errors import Conflict, Unavailable
from mdg.model.identity import HpiO
from mdg.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as opened:
        yield opened


def replay_of(store: Store, custodian: HpiO = CUSTODIAN) -> Replay:
    return Replay(store, custodian, SteadyClock(store, custodian, utc_now))


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=2)


async def test_a_second_use_is_seen(store: Store) -> None:
    replay = replay_of(store)
    assert not await replay.seen("dpop", "k.1", soon())
    assert await replay.seen("dpop", "k.1", soon())
    assert not await replay.seen("dpop", "k.2", soon())
    assert not await replay.seen("nonce", "k.1", soon())
    assert not await replay_of(store, ORGANISATION).seen("dpop", "k.1", soon())


async def test_of_many_at_once_exactly_one_is_first(store: Store) -> None:
    replay = replay_of(store)
    answers: list[bool] = []

    async def use() -> None:
        answers.append(await replay.seen("dpop", "k.1", soon()))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(use)
    assert answers.count(False) == 1


async def test_a_use_outlives_the_process(database: str) -> None:
    async with Store.open(database) as store:
        assert not await replay_of(store).seen("nonce", "k.1", soon())
    async with Store.open(database) as store:
        assert await replay_of(store).seen("nonce", "k.1", soon())


async def test_work_that_fails_leaves_the_nonce_unused(store: Store) -> None:
    replay = replay_of(store)
    with pytest.raises(Unavailable):
        async with replay.once("nonce", "k.1", soon()):
            raise Unavailable(reason="audit")
    async with replay.once("nonce", "k.1", soon()):
        pass
    with pytest.raises(Conflict):
        async with replay.once("nonce", "k.1", soon()):
            pytest.fail("a used nonce must not start work")


async def test_the_same_nonce_twice_at_once_conflicts(store: Store) -> None:
    replay = replay_of(store)
    async with replay.once("nonce", "k.1", soon()):
        with pytest.raises(Conflict):
            async with replay.once("nonce", "k.1", soon()):
                pytest.fail("a nonce under way must not start work")


async def test_a_nonce_committed_by_another_process_meanwhile_conflicts(store: Store) -> None:
    here, there = replay_of(store), replay_of(store)
    with pytest.raises(Conflict):
        async with here.once("nonce", "k.1", soon()):
            assert not await there.seen("nonce", "k.1", soon())


async def test_a_use_is_forgotten_a_day_after_it_could_not_be_repeated(store: Store) -> None:
    clock = Clock()
    until = clock.now + timedelta(minutes=2)

    async def seen() -> bool:
        return await Replay(store, CUSTODIAN, SteadyClock(store, CUSTODIAN, clock)).seen("dpop", "k.1", until)

    assert not await seen()
    clock.move(hours=24)
    assert await seen()
    clock.move(minutes=3)
    assert not await seen()


async def test_without_a_store_that_writes_there_is_no_answer(database: str) -> None:
    async with Store.open(database):
        pass
    async with Store.open(database, read_only=True) as store:
        with pytest.raises(Unavailable):
            await replay_of(store).seen("dpop", "k.1", soon())
