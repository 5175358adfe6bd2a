"""The promises of `Store`, whatever the kind of database: durable before it returns, nothing half-kept, refusals with a
reason."""

from __future__ import annotations

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.databases import make_read_only
from tests.store.works import add, attempt, rows

from mdg.errors import InputOutput, Unavailable, Unsupported
from mdg.store import Store

pytestmark = pytest.mark.anyio


async def test_what_was_written_is_there_after_reopening(database: str) -> None:
    async with Store.open(database) as store:
        await store.write(add("1"))
    async with Store.open(database) as store:
        assert await rows(store) == ["1"]


async def test_the_value_of_a_work_comes_back(database: str) -> None:
    async def work(connection: AsyncConnection) -> int:
        return int((await connection.exec_driver_sql("SELECT 41 + 1")).scalar_one())

    async with Store.open(database) as store:
        assert await store.write(work) == 42


async def test_a_work_that_fails_undoes_only_itself(database: str) -> None:
    gate = anyio.Event()
    raised: list[type[Exception]] = []

    async def slow(connection: AsyncConnection) -> None:
        await gate.wait()

    async def wrong(connection: AsyncConnection) -> None:
        await add("wrong")(connection)
        raise LookupError("on purpose")

    async def twice(connection: AsyncConnection) -> None:
        await add("twice")(connection)
        await add("twice")(connection)

    async with Store.open(database) as store:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.write, slow)
            await anyio.wait_all_tasks_blocked()
            for work in (add("1"), wrong, twice, add("2")):
                tasks.start_soon(attempt, store, work, raised)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        assert await rows(store) == ["1", "2"]
    assert raised == [LookupError, Unavailable]


async def test_a_read_only_database_answers_unavailable_and_is_still_read(database: str) -> None:
    async with Store.open(database) as store:
        await store.write(add("1"))
        await store.write(make_read_only)
        with pytest.raises(Unavailable) as caught:
            await store.write(add("2"))
        assert caught.value.reason == "store"
        assert await rows(store) == ["1"]


async def test_a_reader_sees_one_state_and_cannot_change_it(database: str) -> None:
    count = "SELECT count(*) FROM unsettled"
    async with Store.open(database) as store:
        async with store.read() as connection:
            before = (await connection.exec_driver_sql(count)).scalar_one()
            await store.write(add("1"))
            assert (await connection.exec_driver_sql(count)).scalar_one() == before == 0
        with pytest.raises(Unavailable):
            async with store.read() as connection:
                await add("2")(connection)
        assert await rows(store) == ["1"]


async def test_opened_read_only_it_reads_beside_the_writer_and_writes_nothing(database: str) -> None:
    async with Store.open(database) as writer, Store.open(database, read_only=True) as reader:
        await writer.write(add("1"))
        assert await rows(reader) == ["1"]
        with pytest.raises(Unavailable):
            await reader.write(add("2"))


async def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    async def later(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    async with Store.open(database) as store:
        await store.write(later)
    with pytest.raises(InputOutput, match="newer mdg"):
        async with Store.open(database):
            pass


async def test_other_kinds_of_database_are_unsupported() -> None:
    with pytest.raises(Unsupported):
        async with Store.open("mysql://localhost/mdg"):
            pass


async def test_nothing_is_written_after_the_store_was_closed(database: str) -> None:
    async with Store.open(database) as store:
        pass
    with pytest.raises(Unavailable):
        await store.write(add("1"))
