"""The jobs of one process on a database, driven step by step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from mdg.jobs import Done, Job, Jobs, Kind, New, State
from mdg.jobs.loop import Handler, Result
from mdg.jobs.table import listed
from mdg.model.identity import HpiO
from mdg.store import Store

OURS = HpiO.parse("8003621566684455")


class Clock:
    """The time by which jobs are due and leases end."""

    def __init__(self, now: datetime = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


class Works:
    """A handler that notes the keys of the jobs that it has done, and does to some what a test says."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.instead: dict[str, Handler] = {}

    async def __call__(self, job: Job) -> Result | None:
        self.done.append(job.key)
        return await self.instead[job.key](job) if job.key in self.instead else Done()


class Process:
    """Does jobs of the kind `work`; `fields` are those of its `Kind`."""

    def __init__(self, store: Store, clock: Clock, **fields: Any) -> None:
        self.store = store
        self.clock = clock
        self.works = Works()
        self.jobs = Jobs(store, OURS, clock)
        self.jobs.do(Kind("work", self.works, **fields))

    async def owe(self, *keys: str, **fields: Any) -> None:
        new = [New("work", key, **fields) for key in keys]
        await self.store.write(lambda connection: self.jobs.add(connection, *new))

    async def round(self) -> None:
        await self.jobs.round("work")

    async def seen(self, *states: State) -> list[Job]:
        """All jobs, or those in some states, the oldest first."""
        async with self.store.read() as connection:
            return (await listed(connection, OURS, states=states or list(State), kind="work", most=1000))[::-1]

    async def states(self) -> dict[str, str]:
        return {job.key: str(job.state) for job in await self.seen()}


async def until(true: Callable[[], bool]) -> None:
    """Waits for what another task does."""
    with anyio.fail_after(10):
        while not true():  # noqa: ASYNC110 - what is waited for rings no bell
            await anyio.sleep(0.01)
