"""Three gateway processes on one PostgreSQL and one data folder: each job is done by one of them, and by another one
when that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import select
from tests.databases import Server
from tests.faults.conftest import until
from tests.identities import write_identity_csv
from tests.receiver import Receiver, event_of, receiving
from tests.web.conftest import RETRIEVE, Consumer, Start
from tests.web.test_subscription import subscribe

from mdg.audit.record import AUDIT
from mdg.cli.stage import free_port
from mdg.jobs import State
from mdg.jobs.events import SETTLED, happened
from mdg.jobs.table import Job, listed
from mdg.model.event import Kind
from mdg.model.imaging import StudyKey
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_PROVIDER
from mdg.sandbox.phantom import ISSUER
from mdg.store import Store
from mdg.store.index import studies

pytestmark = pytest.mark.anyio

LEASE = 6
"""Seconds of a lease in these processes, so that a test need not wait for thirty."""
MDG = f"""
from datetime import timedelta
from mdg.jobs import loop, table
table.LEASE = loop.LEASE = timedelta(seconds={LEASE})
loop.RENEW = timedelta(seconds={LEASE / 3})
from mdg.cli import main
main()
"""
SETTINGS = """
custodian = "{custodian}"
data = "{data}"
sources = [{{ kind = "folder", name = "folder", path = ["{images}"] }}]
identity = "{identity}"
default_issuer = "{issuer}"
time_zone = "Australia/Sydney"
sandbox = true
public_url = "{url}"
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin_port}"
database = "{database}"
issuers = [{{ iss = "{sandbox}", jwks_url = "{sandbox}/jwks" }}]
directory_url = "{sandbox}"
service_id = "01JV3W8ZC0D2E4F6G8H0J2K4M6"
capabilities = {{ registration = true, subscription = true }}
[subscribers]
"{consumer}" = ["{receiver}"]
"""


@dataclass
class World:
    """The processes by their ids, and what they share, seen from outside."""

    processes: Mapping[int, subprocess.Popen[str]]
    consumers: Sequence[Consumer]
    """The same consumer, as it asks each process."""
    store: Store
    receiver: Receiver
    data: Path

    async def study(self) -> StudyKey:
        """The one study."""
        async with self.store.read() as connection:
            row = (await connection.execute(select(studies.c.uid, studies.c.version))).one()
        return StudyKey(EXAMPLE_PROVIDER, row.uid, row.version)

    async def happen(self, times: int) -> None:
        """So many changes of the one study, in as many transactions."""
        study = await self.study()
        for _ in range(times):
            await self.store.write(lambda connection: happened(connection, SETTLED, [study]))

    async def jobs(self, kind: str, *states: State) -> list[Job]:
        async with self.store.read() as connection:
            return await listed(connection, EXAMPLE_PROVIDER, states=states or list(State), kind=kind, most=1000)

    async def settled(self) -> bool:
        """Whether all that has happened has been told."""
        waiting = [await self.jobs(kind, State.WAITING, State.RUNNING) for kind in ("match-subscribers", "notify")]
        return not any(waiting)

    def numbers(self) -> list[int]:
        """The number of each event that the receiver was sent, however it answered."""
        return [int(event["event-number"]) for bundle in self.receiver.got if (event := event_of(bundle))]


def process_of(job: Job) -> int:
    return int(str(job.owner).split()[1])


@asynccontextmanager
async def three_processes(start: Start, postgresql: Server, phantom: Path, folder: Path) -> AsyncIterator[World]:
    """With nothing to do, and one subscription whose handshake has been answered. The stand-ins for the national
    services are those of a gateway in the test's own process, which has a database of its own."""
    async with AsyncExitStack() as stack:
        database = postgresql.url(stack.enter_context(postgresql.database()))
        receiver = await stack.enter_async_context(receiving())
        authority = await stack.enter_async_context(start("authority"))
        shared: dict[str, Any] = {
            "custodian": EXAMPLE_PROVIDER,
            "data": folder / "shared",
            "images": phantom,
            "identity": write_identity_csv(folder / "identity.csv"),
            "issuer": ISSUER,
            "database": database,
            "sandbox": authority.rooms.directory_url,
            "consumer": EXAMPLE_CONSUMER,
            "receiver": receiver.origin,
        }
        processes, consumers = {}, []
        for number in range(3):
            port, config = free_port(), folder / f"{number}.toml"
            url = f"http://127.0.0.1:{port}"
            config.write_text(SETTINGS.format(**shared, url=url, port=port, admin_port=free_port()))
            config.chmod(0o600)
            with (folder / f"{number}.log").open("w") as log:
                process = subprocess.Popen(  # noqa: ASYNC220 -- begun, not waited for
                    [sys.executable, "-c", MDG, "serve", "--json", "--config", str(config)],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            assert process.stdout is not None
            for end in (process.stdout.close, process.wait, process.kill):
                stack.callback(end)
            ready = await to_thread.run_sync(process.stdout.readline)
            assert '"ok":true' in ready.replace(" ", ""), (folder / f"{number}.log").read_text()
            processes[process.pid] = process
            consumers.append(replace(authority.consumer, url=url))
        store = await stack.enter_async_context(Store.open(database))
        made = await subscribe(consumers[0], receiver.url)
        assert made.status_code == 201, made.text
        world = World(processes, consumers, store, receiver, folder / "shared")
        await until(world.settled)
        assert receiver.kinds == ["handshake"]
        yield world


async def test_three_processes_send_each_number_once_and_register_a_person_once(
    start: Start, postgresql: Server, phantom: Path, tmp_path: Path
) -> None:
    async with three_processes(start, postgresql, phantom, tmp_path) as world:
        await world.happen(100)
        await until(world.settled)
        assert world.numbers() == list(range(1, 101))
        assert world.receiver.repeated == []
        matched = await world.jobs("match-subscribers", State.DONE)
        assert {process_of(job) for job in matched} <= set(world.processes)
        assert len({process_of(job) for job in matched}) > 1, "they share the work"
        async with world.store.read() as connection:
            registered = select(AUDIT.c.request_id).where(AUDIT.c.kind == Kind.REGISTER)
            changes = (await connection.execute(registered)).scalars().all()
        assert (len(changes), len(set(changes))) == (2, 1), "one change, sent and acknowledged"


async def test_an_envelope_is_made_once_for_all_processes_and_each_of_them_serves_it(
    start: Start, postgresql: Server, phantom: Path, tmp_path: Path
) -> None:
    async with three_processes(start, postgresql, phantom, tmp_path) as world:
        uid, answers = (await world.study()).uid, []

        async def fetch(consumer: Consumer) -> None:
            answers.append(await consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}", scopes=RETRIEVE, timeout=60))

        async with anyio.create_task_group() as tasks:
            for consumer in world.consumers:
                tasks.start_soon(fetch, consumer)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert len({answer.content for answer in answers}) == 1
        assert [path.suffix for path in (world.data / "spool").iterdir()] == [".zip"]
        (job,) = await world.jobs("make-envelope")
        assert (job.state, job.about) == (State.DONE, f"study {uid}")


async def test_what_a_killed_process_was_doing_another_one_does_within_the_time_of_a_lease(
    start: Start, postgresql: Server, phantom: Path, tmp_path: Path
) -> None:
    async with three_processes(start, postgresql, phantom, tmp_path) as world:
        world.receiver.open = anyio.Event()
        await world.happen(2)
        await until(lambda: _true(world.numbers() == [1]))
        (running,) = await world.jobs("notify", State.RUNNING)
        killed = process_of(running)
        os.kill(killed, signal.SIGKILL)
        with anyio.fail_after(LEASE + 10):
            await until(lambda: _true(world.numbers() == [1, 1]))
        world.receiver.open.set()
        await until(world.settled)
        assert world.numbers() == [1, 1, 2]
        (job, *_) = await world.jobs("notify", State.DONE)
        assert process_of(job) in set(world.processes) - {killed}


async def _true(value: bool) -> bool:
    return value
