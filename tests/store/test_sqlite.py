"""SQLite: one process writes, on one connection, synced fully; what is damaged or lies on a network is refused."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.store.works import add, rows

from mdg.errors import InputOutput, Unavailable
from mdg.store import Store, sqlite
from mdg.store.lock import only_process, refuse_network

pytestmark = pytest.mark.anyio


async def test_a_new_file_is_private_and_has_a_url_too(tmp_path: Path) -> None:
    async with Store.open(str(tmp_path / "new" / "mdg.db")) as store:
        await store.write(add("1"))
    async with Store.open(f"sqlite:///{tmp_path}/new/mdg.db") as store:
        assert await rows(store) == ["1"]
    assert (tmp_path / "new" / "mdg.db").stat().st_mode & 0o077 == 0


async def test_waiting_works_share_one_commit(tmp_path: Path) -> None:
    gate = anyio.Event()
    commits: list[int] = []

    async def slow(connection: AsyncConnection) -> None:
        await gate.wait()

    async def total(connection: AsyncConnection) -> None:
        commits.append((await connection.exec_driver_sql("SELECT count(*) FROM unsettled")).scalar_one())

    async with Store.open(str(tmp_path / "mdg.db")) as store:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.write, slow)
            await anyio.wait_all_tasks_blocked()
            for number in range(20):
                tasks.start_soon(store.write, add(str(number)))
            await anyio.wait_all_tasks_blocked()
            before = (tmp_path / "mdg.db-wal").stat().st_size
            gate.set()
        pages = ((tmp_path / "mdg.db-wal").stat().st_size - before) // 4096
        await store.write(total)
    assert commits == [20]
    assert pages <= 4  # twenty commits would have written the changed page twenty times


@pytest.mark.parametrize("others", [0, 2], ids=["alone", "in a group"])
async def test_a_database_that_somebody_else_holds_is_unavailable_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(sqlite, "EVERY", ("busy_timeout=1", *sqlite.EVERY[1:]))
    refusals: list[Unavailable] = []

    async def attempt(store: Store, study: str) -> None:
        with pytest.raises(Unavailable) as refusal:
            await store.write(add(study))
        refusals.append(refusal.value)

    async with Store.open(str(tmp_path / "mdg.db")) as store:
        with closing(sqlite3.connect(tmp_path / "mdg.db", isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for number in range(1 + others):
                    tasks.start_soon(attempt, store, str(number))
        assert [type(refusal.__cause__) for refusal in refusals] == [OperationalError] * (1 + others)
        await store.write(add("9"))
        assert await rows(store) == ["9"]


async def test_a_full_disk_refuses_all_of_the_group_and_recovers(tmp_path: Path) -> None:
    refused = 0

    async def pages(connection: AsyncConnection) -> int:
        return int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())

    async def limit(connection: AsyncConnection, to: int) -> None:
        await connection.exec_driver_sql(f"PRAGMA max_page_count={to}")

    async def attempt(store: Store, study: str) -> None:
        nonlocal refused
        try:
            await store.write(add(study))
        except Unavailable:
            refused += 1

    async with Store.open(str(tmp_path / "mdg.db")) as store:
        here = await store.write(pages)
        await store.write(lambda connection: limit(connection, here))
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(attempt, store, f"{number}" + "9" * 3000)
        assert refused == 10 - len(await rows(store)) > 0
        with pytest.raises(Unavailable) as caught:
            await store.write(add("9" * 3000))
        assert caught.value.failure is not None
        assert "no space is left" in str(caught.value.failure)
        assert str(store.failure) == str(caught.value.failure)
        await store.write(lambda connection: limit(connection, 1 << 20))
        await store.write(add("after"))
        assert "after" in await rows(store)
        assert store.failure is None


async def test_readers_that_are_cancelled_hold_nothing_up(tmp_path: Path) -> None:
    """Each is cancelled while its query runs, and leaves neither a task that waits for ever nor a thread."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300000) SELECT max(x) FROM n"
    reading = 0

    async def read(store: Store) -> None:
        nonlocal reading
        async with store.read() as connection:
            reading += 1
            await connection.exec_driver_sql(endless)

    def threads() -> int:
        return sum("_connection_worker" in thread.name for thread in threading.enumerate())

    before = asyncio.all_tasks(), threads()
    async with Store.open(str(tmp_path / "mdg.db")) as store:
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                reading = 0
                for _ in range(3):
                    tasks.start_soon(read, store)
                while reading < 3:
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        await store.write(add("1"))
        assert await rows(store) == ["1"]
    assert asyncio.all_tasks() == before[0]
    with anyio.fail_after(30):
        while threads() > before[1]:  # noqa: ASYNC110 -- a thread tells nobody that it has ended
            await anyio.sleep(0.01)


async def test_exactly_one_connection_can_write(tmp_path: Path) -> None:
    path = tmp_path / "mdg.db"
    async with Store.open(str(path)) as store:
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                async with store.read() as connection:
                    await add("1")(connection)
            assert isinstance(caught.value.__cause__, OperationalError)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(rows, store)
        writers = [flags for flags in _open_flags(path) if flags & os.O_ACCMODE != os.O_RDONLY]
        assert len(writers) == 1


def _open_flags(path: Path) -> list[int]:
    """The flags of every descriptor that this process has on `path`."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if entry.readlink() == path:
                info = Path("/proc/self/fdinfo", entry.name).read_text()
                found.append(int(info.split("flags:")[1].split()[0], 8))
        except FileNotFoundError:
            continue
    return found


async def test_every_connection_syncs_fully_and_maps_nothing(tmp_path: Path) -> None:
    async def settings(connection: AsyncConnection) -> list[object]:
        names = ("synchronous", "mmap_size", "foreign_keys", "journal_mode")
        return [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names]

    async with Store.open(str(tmp_path / "mdg.db")) as store:
        assert await store.write(settings) == [2, 0, 1, "wal"]
        async with store.read() as connection:
            assert await settings(connection) == [2, 0, 1, "wal"]


def _hold(path: str, held: object, release: object) -> None:
    with only_process(Path(path)):
        held.set()  # type: ignore[attr-defined] # multiprocessing gives its events no public type
        release.wait(30)  # type: ignore[attr-defined] # likewise


async def test_a_second_process_is_refused_but_may_read(tmp_path: Path) -> None:
    path = tmp_path / "mdg.db"
    async with Store.open(str(path)) as store:
        await store.write(add("1"))
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(path), held, release))
    process.start()
    try:
        assert await anyio.to_thread.run_sync(held.wait, 30)
        with pytest.raises(InputOutput, match="another gateway process"):
            async with Store.open(str(path)):
                pass
        async with Store.open(str(path), read_only=True) as store:
            assert await rows(store) == ["1"]
            with pytest.raises(Unavailable):
                await store.write(add("2"))
    finally:
        release.set()
        await anyio.to_thread.run_sync(process.join)


async def test_a_damaged_database_is_found_after_an_unclean_stop(tmp_path: Path) -> None:
    path = tmp_path / "mdg.db"
    async with Store.open(str(path)) as store:
        for number in range(400):
            await store.write(add(f"{number:0500}"))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    path.with_name("mdg.db-wal").write_bytes(b"left behind")
    with pytest.raises(InputOutput, match=r"damaged|cannot be used"):
        async with Store.open(str(path)):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mdg.db").write_text("not a database, but long enough to have a header" * 100)
    with pytest.raises(InputOutput, match="cannot be used"):
        async with Store.open(str(tmp_path / "mdg.db")):
            pass


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "40 22 0:35 / /mnt/pacs rw,relatime shared:2 - nfs4 server:/export rw\n"
    )
    refuse_network(Path("/var/lib"), mounts)
    with pytest.raises(InputOutput, match="nfs4"):
        refuse_network(Path("/mnt/pacs/gateway"), mounts)
