"""The courier: in order, at least once, kept with the acknowledgement; one refusal holds up nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from mdg.errors import Invalid, Unavailable
from mdg.exchange import courier
from mdg.exchange.courier import Courier, Keep
from mdg.model.identity import HpiO
from mdg.model.imaging import StudyKey
from mdg.store import Store
from mdg.store.index import versions
from mdg.store.outbox import REGISTRY, SUBSCRIBERS, Owed, append, pending

pytestmark = pytest.mark.anyio

OURS = HpiO.parse("8003621566684455")


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as store:
        yield store


async def owe(store: Store, *studies: str) -> None:
    async def add(connection: AsyncConnection) -> None:
        keys = [StudyKey(OURS, study, 1) for study in studies]
        await append(connection, "study-settled", keys, [REGISTRY, SUBSCRIBERS])

    await store.write(add)


async def owed(store: Store, destination: str = REGISTRY) -> list[str]:
    async with store.read() as connection:
        return [one.study.uid for one in await pending(connection, OURS, destination, 100)]


class Receiver:
    """A destination that refuses some studies, and cannot be reached while `down`."""

    def __init__(self, *refused: str, down: bool = False) -> None:
        self.refused = set(refused)
        self.down = down
        self.told: list[str] = []

    async def __call__(self, owed: Owed) -> Keep | None:
        if self.down:
            raise Unavailable(reason="down")
        self.told.append(owed.study.uid)
        if owed.study.uid in self.refused:
            raise Invalid("not this one", reason="refused")
        return None


async def test_what_is_owed_is_told_in_order_and_then_owed_no_more(store: Store) -> None:
    await owe(store, "1", "2", "3")
    receiver = Receiver()
    await Courier(store, OURS, REGISTRY, receiver).round()
    assert receiver.told == ["1", "2", "3"]
    assert await owed(store) == []
    assert await owed(store, SUBSCRIBERS) == ["1", "2", "3"], "another destination is told by its own courier"


async def test_more_than_one_reading_of_events_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "AT_ONCE", 2)
    await owe(store, "1", "2", "3", "4", "5")
    receiver = Receiver("1", "2")
    await Courier(store, OURS, REGISTRY, receiver).round()
    assert receiver.told == ["1", "2", "3", "4", "5"]


async def test_a_destination_that_is_down_is_owed_everything(store: Store) -> None:
    await owe(store, "1", "2")
    receiver = Receiver(down=True)
    deliver = Courier(store, OURS, REGISTRY, receiver)
    with pytest.raises(Unavailable):
        await deliver.round()
    assert await owed(store) == ["1", "2"]
    receiver.down = False
    await deliver.round()
    assert (receiver.told, await owed(store)) == (["1", "2"], [])


async def test_a_refused_event_waits_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await owe(store, "1", "2")
    receiver = Receiver("1")
    deliver = Courier(store, OURS, REGISTRY, receiver)
    await deliver.round()
    assert await owed(store) == ["1"]
    await deliver.round()
    assert receiver.told == ["1", "2"], "it is not due yet"
    monkeypatch.setattr("anyio.current_time", lambda: float("inf"))
    receiver.refused.clear()
    await deliver.round()
    assert (receiver.told, await owed(store)) == (["1", "2", "1"], [])


async def test_what_a_delivery_keeps_is_committed_with_its_acknowledgement_or_not_at_all(store: Store) -> None:
    await owe(store, "1")

    async def keep(connection: AsyncConnection) -> None:
        row = {"custodian": OURS, "uid": "1", "version": 1, "source": "folder", "content": b"", "settled": 0}
        await connection.execute(insert(versions).values(row))

    async def keep_twice(connection: AsyncConnection) -> None:
        await keep(connection)
        await keep(connection)

    async def broken(_: Owed) -> Keep:
        return keep_twice

    async def sound(_: Owed) -> Keep:
        return keep

    with pytest.raises(Unavailable):
        await Courier(store, OURS, REGISTRY, broken).round()
    assert await owed(store) == ["1"]
    await Courier(store, OURS, REGISTRY, sound).round()
    assert await owed(store) == []
    async with store.read() as connection:
        assert (await connection.execute(select(versions.c.uid))).scalars().all() == ["1"]


async def test_a_fault_of_ours_ends_neither_the_courier_nor_the_events_behind_it(store: Store) -> None:
    await owe(store, "1", "2", "3")
    told: list[str] = []

    async def spoil(_: AsyncConnection) -> None:
        raise KeyError("in what is kept")

    async def faulty(owed: Owed) -> Keep | None:
        told.append(owed.study.uid)
        if owed.study.uid == "1":
            raise ZeroDivisionError
        return spoil if owed.study.uid == "2" else None

    with capture_logs() as said:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Courier(store, OURS, REGISTRY, faulty).run)
            with anyio.fail_after(10):
                while await owed(store) != ["1", "2"]:  # noqa: ASYNC110 - the database rings no bell
                    await anyio.sleep(0.01)  # between two looks
            tasks.cancel_scope.cancel()
    assert told == ["1", "2", "3"]
    assert [(one["event"], one["reason"]) for one in said] == [
        ("refused", "ZeroDivisionError"),
        ("refused", "KeyError"),
    ]
    assert all("test_courier.py:" in one["where"] for one in said), "an operator can say where"


async def test_what_was_refused_is_not_read_again_at_every_look(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await owe(store, "1", "2")
    courier_ = Courier(store, OURS, REGISTRY, Receiver("1", "2"))
    await courier_.round()
    read: list[int] = []

    async def counted(*asked: Any) -> list[Owed]:
        found = await pending(*asked)
        read.append(len(found))
        return found

    monkeypatch.setattr(courier, "pending", counted)
    await courier_.round()
    await owe(store, "3")
    await courier_.round()
    assert read == [0, 1, 0]


async def test_an_outage_is_looked_at_again_within_two_minutes_and_progress_ends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owe(store, *map(str, range(20)))
    receiver, waits = Receiver(down=True), list[float]()

    async def flaky(owed: Owed) -> Keep | None:
        """Takes one event a round in the end."""
        receiver.down = len(waits) < 6 or not receiver.down
        return await receiver(owed)

    async def no_time(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr("anyio.sleep", no_time)
    with pytest.raises(KeyboardInterrupt):
        await Courier(store, OURS, REGISTRY, flaky).run()
    assert waits == [5, 30, 120, 120, 120, 120, 5, 5, 5]
