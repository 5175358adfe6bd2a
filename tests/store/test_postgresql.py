"""PostgreSQL: several processes write one after the other, lost connections come back, what may forget is refused."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import psycopg
import pytest
from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.databases import Server
from tests.store.works import add, attempt, rows

from mdg.errors import InputOutput, Misuse, Unavailable
from mdg.store import Store
from mdg.store.postgresql import WRITERS

pytestmark = pytest.mark.anyio


@pytest.fixture
def name(postgresql: Server) -> Iterator[str]:
    with postgresql.database() as name:
        yield name


@pytest.fixture
def url(postgresql: Server, name: str) -> str:
    return postgresql.url(name)


async def test_waiting_works_share_one_commit(url: str) -> None:
    async def transaction(connection: AsyncConnection) -> None:
        await add(str(len(seen)))(connection)
        seen.append((await connection.exec_driver_sql("SELECT pg_current_xact_id()::text")).scalar_one())

    seen: list[str] = []
    async with Store.open(url) as store:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(store.write, transaction)
        assert len(seen) == len(await rows(store)) == 20
    assert len(set(seen)) == 1


async def test_what_was_written_outlives_a_crash_of_the_server(postgresql: Server, url: str) -> None:
    async with Store.open(url) as store:
        await store.write(add("1"))
        postgresql.stop(signal.SIGQUIT)
        with pytest.raises(Unavailable):
            await store.write(add("2"))
        with pytest.raises(Unavailable):
            await rows(store)
        await to_thread.run_sync(postgresql.start)
        await store.write(add("3"))
        assert await rows(store) == ["1", "3"]


async def test_connections_that_were_lost_meanwhile_are_made_again_unseen(
    postgresql: Server, name: str, url: str
) -> None:
    async with Store.open(url) as store:
        await store.write(add("1"))
        assert await rows(store) == ["1"]
        _end_connections(postgresql, name)
        await store.write(add("2"))
        assert await rows(store) == ["1", "2"]


async def test_a_server_that_vanishes_in_the_middle_of_a_statement_is_given_up(url: str) -> None:
    """Keepalives do not count while something that was sent is not acknowledged."""
    seen: list[str] = []

    async def ask(connection: AsyncConnection) -> None:
        own: Any = (await connection.get_raw_connection()).driver_connection
        seen.extend(own.info.get_parameters()[name] for name in ("tcp_user_timeout", "keepalives_idle"))

    async with Store.open(url) as store:
        await store.write(ask)
    assert seen == ["25000", "10"]


async def test_a_connection_lost_within_a_group_keeps_none_of_it(url: str) -> None:
    async def die(connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    raised: list[type[Exception]] = []
    async with Store.open(url) as store:
        async with anyio.create_task_group() as tasks:
            for work in (add("1"), add("2"), die, add("3")):
                tasks.start_soon(attempt, store, work, raised)
        assert raised == [Unavailable] * 4
        await store.write(add("4"))
        assert await rows(store) == ["4"]


async def test_processes_write_one_after_the_other(url: str) -> None:
    async def count_up(connection: AsyncConnection) -> None:
        seen = (await connection.exec_driver_sql("SELECT count(*) FROM unsettled")).scalar_one()
        await anyio.lowlevel.checkpoint()
        await add(str(seen))(connection)  # another one that had seen the same would add the same

    async with Store.open(url) as here, Store.open(url) as there:
        async with anyio.create_task_group() as tasks:
            for store in (here, there) * 20:
                tasks.start_soon(store.write, count_up)
        assert len(await rows(here)) == 40


async def test_a_process_that_stands_still_delays_the_others_for_seconds_only(url: str) -> None:
    with psycopg.connect(url) as other:
        async with Store.open(url) as store:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS,))
            with pytest.raises(Unavailable):
                await store.write(add("1"))
            assert await rows(store) == []
            other.rollback()
            await store.write(add("2"))
            assert await rows(store) == ["2"]


async def test_a_key_that_a_stranger_took_first_undoes_only_its_own_work(postgresql: Server, url: str) -> None:
    taken = "INSERT INTO unsettled VALUES ('8003621566684455', 'folder', 'taken', 0)"
    raised: list[type[Exception]] = []
    with psycopg.connect(url) as stranger:
        async with Store.open(url) as store, anyio.create_task_group() as tasks:
            stranger.execute(taken)
            for study in ("1", "taken", "2"):
                tasks.start_soon(attempt, store, add(study), raised)
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid'"
            while not postgresql.do(waits):  # noqa: ASYNC110 -- it is another program that waits
                await anyio.sleep(0.01)  # between two looks
            stranger.commit()
    assert raised == [Unavailable]
    async with Store.open(url, read_only=True) as store:
        assert await rows(store) == ["1", "2", "taken"]


async def test_an_error_shows_no_value_of_a_row(url: str) -> None:
    async with Store.open(url) as store:
        await store.write(add("PATIENT^NAME"))
        with pytest.raises(Unavailable) as caught:
            await store.write(add("PATIENT^NAME"))
    shown = caught.value.__cause__
    assert "unique constraint" in str(shown)
    while shown is not None:
        assert "PATIENT" not in f"{shown}{shown.args}"
        shown = shown.__cause__


async def test_text_sorts_by_its_bytes_whatever_the_locale(postgresql: Server, name: str, url: str) -> None:
    query = "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_name = 'replay'"
    assert postgresql.do(query, database=name) == [("C",), (None,)]
    studies = ["a", "B", "é", "_", "1.10", "1.9"]
    async with Store.open(url) as store:
        for study in studies:
            await store.write(add(study))
        assert await rows(store) == sorted(studies)


async def test_an_empty_database_that_is_only_read_stays_empty(postgresql: Server) -> None:
    with postgresql.database("TEMPLATE template0") as name:
        with pytest.raises(InputOutput, match="no tables yet"):
            async with Store.open(postgresql.url(name), read_only=True):
                pass
        assert postgresql.do("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database=name) == [(0,)]


async def test_gateways_that_start_together_migrate_once(postgresql: Server) -> None:
    async def open_(url: str) -> None:
        async with Store.open(url) as store:
            await store.write(add(str(id(store))))

    with postgresql.database("TEMPLATE template0") as name:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(open_, postgresql.url(name))
        assert postgresql.do("SELECT count(*) FROM unsettled", database=name) == [(3,)]


async def test_a_server_that_would_lose_commits_is_refused(postgresql: Server, name: str, url: str) -> None:
    postgresql.do(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(InputOutput, match="synchronous_commit = off"):
        async with Store.open(url):
            pass
    postgresql.do(f"ALTER DATABASE {name} RESET synchronous_commit")
    postgresql.do("ALTER SYSTEM SET fsync = off")
    postgresql.do("SELECT pg_reload_conf()")
    try:
        async with Store.open(url, read_only=True) as store:
            assert await rows(store) == []
        with pytest.raises(InputOutput, match="fsync = off"):
            async with Store.open(url):
                pass
    finally:
        postgresql.do("ALTER SYSTEM RESET fsync")
        postgresql.do("SELECT pg_reload_conf()")


async def test_a_server_that_became_unsafe_while_running_takes_no_more(postgresql: Server, name: str, url: str) -> None:
    async with Store.open(url) as store:
        postgresql.do(f"ALTER DATABASE {name} SET synchronous_commit = off")
        _end_connections(postgresql, name)
        with pytest.raises(Unavailable):
            await store.write(add("1"))
        postgresql.do(f"ALTER DATABASE {name} RESET synchronous_commit")
        await store.write(add("2"))
        assert await rows(store) == ["2"]


async def test_a_database_that_is_not_in_unicode_is_refused(postgresql: Server) -> None:
    other = "TEMPLATE template0 ENCODING 'SQL_ASCII'"
    with postgresql.database(other) as name, pytest.raises(InputOutput, match="server_encoding = SQL_ASCII"):
        async with Store.open(postgresql.url(name)):
            pass


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("postgresql://mdg:hunter2@127.0.0.1:1/mdg", InputOutput, "does not answer"),
        ("postgresql://mdg:hunter2@hunter2.invalid/mdg", InputOutput, "does not answer"),
        ("postgresql://localhost:hunter2/mdg", Misuse, "no URL"),
        ("postgresql://mdg:hunter2@localhost/mdg?hunter2=1", InputOutput, "does not answer"),
        ("postgresql://mdg:hunter2@localhost/mdg?port=hunter2", Misuse, "no URL"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_told_without_its_url(
    url: str, kind: type[Exception], said: str
) -> None:
    for read_only in (False, True):
        with pytest.raises(kind, match=said) as caught:
            async with Store.open(url, read_only=read_only):
                pass
        assert "hunter2" not in str(caught.value)


async def test_what_the_server_says_at_the_door_is_passed_on(postgresql: Server) -> None:
    with pytest.raises(InputOutput, match='database "nowhere" does not exist'):
        async with Store.open(postgresql.url("nowhere")):
            pass


async def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "mdg.store.postgresql", raising=False)
    with pytest.raises(InputOutput, match=r"pip install 'mdg\[postgres\]'"):
        async with Store.open("postgresql://localhost/mdg"):
            pass


def _end_connections(postgresql: Server, name: str) -> None:
    """Ends all others' connections to a database, as a server that restarts does."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    postgresql.do(f"{end} AND pid <> pg_backend_pid()", database=name)
