"""Jobs: owed with their cause, done under a lease, tried again, in lanes, and stopped by an operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs
from tests.jobs.process import OURS, Clock, Process, until

from mdg.errors import Conflict, Invalid, NotFound, Unavailable
from mdg.jobs import Again, Done, Failed, Job, Jobs, New, State, loop, table
from mdg.jobs.loop import Handler, Result
from mdg.jobs.table import LEASE
from mdg.store import Store
from mdg.store.index import unsettled

pytestmark = pytest.mark.anyio


def raising(error: Exception) -> Handler:
    async def handler(_: Job) -> None:
        raise error

    return handler


def giving(*outcomes: Result) -> Handler:
    """A handler whose tries end so in turn, the last one for ever."""
    left = list(outcomes)

    async def handler(_: Job) -> Result:
        return left.pop(0) if len(left) > 1 else left[0]

    return handler


def adding(study: str) -> Callable[[AsyncConnection], Awaitable[object]]:
    """A work that writes one row, which may be there only once."""
    row = {"custodian": OURS, "source": "folder", "study": study, "touched": 0}
    return lambda connection: connection.execute(insert(unsettled).values(row))


async def added(store: Store) -> list[str]:
    async with store.read() as connection:
        return list((await connection.execute(select(unsettled.c.study))).scalars())


# --- writing ---


async def test_a_job_is_owed_with_its_cause_or_not_at_all(process: Process) -> None:
    async def undone(connection: AsyncConnection) -> None:
        await process.jobs.add(connection, New("work", "1"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await process.store.write(undone)
    assert await process.states() == {}


async def test_what_waits_is_done_oldest_first_and_once(process: Process) -> None:
    await process.owe("1", "2", "3")
    await process.round()
    await process.round()
    assert process.works.done == ["1", "2", "3"]
    assert await process.states() == {"1": "done", "2": "done", "3": "done"}


async def test_the_same_work_is_owed_once_while_it_waits_and_anew_when_it_is_done(process: Process) -> None:
    await process.owe("1")
    await process.owe("1", "2")
    assert [job.key for job in await process.seen(State.WAITING)] == ["1", "2"]
    await process.round()
    await process.owe("1")
    await process.round()
    assert process.works.done == ["1", "2", "1"]


async def test_work_that_is_asked_for_while_it_runs_is_done_once_more(process: Process) -> None:
    await process.owe("1")

    async def asked_again(_: Job) -> None:
        del process.works.instead["1"]
        await process.owe("1")
        await process.owe("1")

    process.works.instead["1"] = asked_again
    await process.round()
    assert process.works.done == ["1", "1"]
    assert await process.states() == {"1": "done"}


async def test_a_job_of_a_later_time_waits_for_it_and_can_be_hastened(process: Process, clock: Clock) -> None:
    await process.owe("1", "2", due=clock() + timedelta(days=7))
    await process.owe("1", hasten=False)
    await process.owe("2")
    await process.round()
    assert process.works.done == ["2"]
    clock.later(days=7)
    await process.round()
    assert process.works.done == ["2", "1"]


async def test_thousands_of_jobs_are_owed_in_one_transaction(process: Process) -> None:
    await process.owe(*map(str, range(3000)))
    assert await process.jobs.counts() == {"work": {"waiting": 3000}}


# --- the end of a try ---


async def test_what_a_job_keeps_is_committed_with_its_end_or_not_at_all(process: Process, clock: Clock) -> None:
    await process.owe("1")

    async def twice(connection: AsyncConnection) -> None:
        await adding("1")(connection)
        await adding("1")(connection)

    process.works.instead["1"] = giving(Done(twice))
    with capture_logs() as said:
        await process.round()
    assert (await added(process.store), said[0]["event"], said[0]["reason"]) == ([], "job not kept", "store")
    process.works.instead["1"] = giving(Done(adding("1")))
    clock.later(seconds=LEASE.total_seconds())
    await process.round()
    assert (await added(process.store), await process.states()) == (["1"], {"1": "done"})


async def test_a_fault_of_ours_ends_no_other_job_and_is_shown_with_its_place(process: Process) -> None:
    await process.owe("1", "2", "3")

    async def spoil(_: AsyncConnection) -> None:
        raise KeyError("in what is kept")

    process.works.instead |= {"1": raising(ZeroDivisionError()), "2": giving(Done(spoil))}
    with capture_logs() as said:
        await process.round()
    first, second, third = await process.seen()
    assert [job.state for job in (first, second, third)] == [State.WAITING, State.WAITING, State.DONE]
    assert (first.error, second.error, third.error) == ("ZeroDivisionError", "KeyError", None)
    assert "test_loop.py:" in str(first.why), "an operator can say where"
    assert [(one["event"], one["job"], one["reason"]) for one in said] == [
        ("job failed", first.id, "ZeroDivisionError"),
        ("job failed", second.id, "KeyError"),
    ]


async def test_a_try_that_failed_is_repeated_in_steps_and_the_row_says_why(process: Process, clock: Clock) -> None:
    await process.owe("1")
    process.works.instead["1"] = raising(Invalid("the receiver does not take this", reason="refused"))
    waits = []
    for _ in range(6):
        await process.round()
        (job,) = await process.seen()
        waits.append((job.due - clock()).total_seconds())
        clock.now = job.due
    for waited, step in zip(waits, (5, 30, 120, 600, 3600, 3600), strict=True):
        assert step <= waited <= step * 1.1
    assert (job.error, job.why, job.tries) == ("refused", "the receiver does not take this", 6)
    del process.works.instead["1"]
    await process.round()
    (job,) = await process.seen()
    assert (job.state, job.error, job.why) == (State.DONE, None, None)


async def test_a_kind_may_have_a_last_try(store: Store, clock: Clock) -> None:
    process = Process(store, clock, tries=2)
    await process.owe("1", "2")
    process.works.instead |= {"1": raising(Invalid("no")), "2": giving(Failed("never", "no try helps", final=True))}
    await process.round()
    assert await process.states() == {"1": "waiting", "2": "failed"}
    clock.later(seconds=6)
    await process.round()
    assert await process.states() == {"1": "failed", "2": "failed"}
    clock.later(days=1)
    await process.round()
    assert process.works.done == ["1", "2", "1"]


async def test_a_success_in_between_begins_the_steps_anew(process: Process, clock: Clock) -> None:
    await process.owe("1")
    process.works.instead["1"] = giving(
        Failed("no"), Failed("no"), Again(timedelta(seconds=7), adding("1")), Failed("no", asked=timedelta(seconds=60))
    )
    for seconds in (6, 33, 7):
        await process.round()
        clock.later(seconds=seconds)
    assert await added(process.store) == ["1"]
    await process.round()
    (job,) = await process.seen()
    assert (job.tries, 60 <= (job.due - clock()).total_seconds() <= 66) == (1, True)


async def test_while_a_destination_is_away_one_job_asks_for_all(store: Store, clock: Clock) -> None:
    process = Process(store, clock, at_once=2)
    await process.owe(*"1234")
    process.works.instead |= dict.fromkeys("1234", raising(Unavailable(reason="registry")))
    with capture_logs() as said:
        for seconds in (5, 30, 120, 120):
            await process.round()
            clock.later(seconds=seconds)
    assert len(process.works.done) == 4, "one at a time, though two have a place"
    assert [one["again_in_s"] for one in said if one["event"] == "jobs wait"] == [5, 30, 120, 120]
    process.works.instead.clear()
    await process.round()
    assert await process.states() == dict.fromkeys("1234", "done")


async def test_jobs_that_were_claimed_ahead_are_done_in_order_and_wait_for_an_outage_untried(
    store: Store, clock: Clock
) -> None:
    process, going = Process(store, clock, at_once=1, ahead=9), list[str]()

    async def in_turn(job: Job) -> None:
        going.append(f"{job.key} begins")
        await anyio.sleep(0.01)
        going.append(f"{job.key} ends")

    process.works.instead |= dict.fromkeys("1234", in_turn)
    await process.owe(*"1234")
    await process.round()
    assert going == [f"{key} {what}" for key in "1234" for what in ("begins", "ends")]
    process.works.done.clear()
    process.works.instead |= dict.fromkeys("5678", raising(Unavailable(reason="registry")))
    await process.owe(*"5678")
    await process.round()
    assert process.works.done == ["5"]
    assert {(job.error, job.tries) for job in await process.seen(State.WAITING)} == {("registry", 0)}


async def test_a_stored_time_of_a_clock_that_was_wrong_holds_up_nothing(process: Process, clock: Clock) -> None:
    await process.owe("1")
    process.works.instead["1"] = raising(Invalid("no"))
    clock.later(days=3650)
    await process.round()
    clock.later(days=-3650)
    del process.works.instead["1"]
    await process.round()
    assert await process.states() == {"1": "done"}


# --- lanes ---


async def test_a_lane_has_its_places_and_no_more(store: Store, clock: Clock) -> None:
    process, going, gate = Process(store, clock, at_once=5, each=2), list[str](), anyio.Event()

    async def wait(job: Job) -> None:
        going.append(job.key)
        await gate.wait()

    for lane in "ab":
        keys = [f"{lane}{number}" for number in range(4)]
        process.works.instead |= dict.fromkeys(keys, wait)
        await process.owe(*keys, lane=lane)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: len(going) == 4)
        await anyio.sleep(0.1)
        assert sorted(going) == ["a0", "a1", "b0", "b1"]
        gate.set()
        await until(lambda: len(going) == 8)
        tasks.cancel_scope.cancel()


# --- the loop ---


async def test_a_loop_does_at_once_what_its_process_writes(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK", 60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await anyio.sleep(0.2)
        for keys in ("1", "12", "123"):
            await process.owe(keys)
            await until(lambda: process.works.done[-1:] == [keys])  # noqa: B023 - called before the next one
        tasks.cancel_scope.cancel()


async def test_a_periodic_job_is_there_from_the_start_and_comes_back(store: Store, clock: Clock) -> None:
    process = Process(store, clock, every=timedelta(minutes=1))
    process.works.instead[""] = giving(Again(timedelta(minutes=1)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: process.works.done == [""])
        while (await process.seen())[0].state is not State.WAITING:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    clock.later(seconds=59)
    await process.round()
    assert process.works.done == [""]
    clock.later(seconds=1)
    await process.round()
    assert process.works.done == ["", ""]

    async def nothing_more(_connection: AsyncConnection, _job: Job) -> None:
        return

    (job,) = await process.seen()
    with pytest.raises(Conflict, match="again and again"):
        await process.jobs.cancel(job.id, nothing_more)
    assert [one.state for one in await process.seen()] == [State.WAITING], "nobody would write it anew"


async def test_a_fault_while_jobs_are_read_does_not_end_the_loop(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.owe("1")
    due_kinds, faults = table.due_kinds, [ZeroDivisionError()]

    async def faulty(*asked: object) -> object:
        if faults:
            raise faults.pop()
        return await due_kinds(*asked)  # type: ignore[arg-type] # what it was asked

    monkeypatch.setattr(table, "due_kinds", faulty)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: process.works.done == ["1"])
        tasks.cancel_scope.cancel()


async def test_a_process_that_stops_gives_back_what_it_was_doing(process: Process, clock: Clock) -> None:
    await process.owe("1")
    process.works.instead["1"] = lambda _: anyio.sleep_forever()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: process.works.done == ["1"])
        tasks.cancel_scope.cancel()
    assert await process.states() == {"1": "waiting"}
    other = Process(process.store, clock)
    await other.round()
    assert other.works.done == ["1"]


# --- leases ---


async def test_who_has_lost_a_lease_keeps_nothing(process: Process, clock: Clock) -> None:
    other = Process(process.store, clock)
    await process.owe("1")

    async def slow(_: Job) -> Done:
        clock.later(seconds=LEASE.total_seconds() - 1)
        await other.round()
        assert other.works.done == [], "it is under a lease"
        clock.later(seconds=1)
        await other.round()
        return Done(adding("by the slow one"))

    process.works.instead["1"] = slow
    other.works.instead["1"] = giving(Done(adding("by the other")))
    with capture_logs() as said:
        await process.round()
    assert (other.works.done, await added(process.store)) == (["1"], ["by the other"])
    assert [one["event"] for one in said] == ["job lost"]


async def test_leases_are_renewed_while_the_work_goes_on(
    process: Process, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOOK", 0.02)
    monkeypatch.setattr(loop, "RENEW", timedelta(seconds=0.02))
    await process.owe("1")
    other, gate, ended = Process(process.store, clock), anyio.Event(), anyio.Event()

    async def long(_: Job) -> None:
        await gate.wait()
        ended.set()

    process.works.instead["1"] = long
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: process.works.done == ["1"])
        for _ in range(5):
            clock.later(seconds=20)
            await anyio.sleep(0.2)
            await other.round()
        gate.set()
        await ended.wait()
        (job,) = await process.seen()
        assert await process.jobs.ended(job.id, 5) is not None
        tasks.cancel_scope.cancel()
    assert (other.works.done, await process.states()) == ([], {"1": "done"})


async def test_what_a_killed_process_was_doing_is_done_at_the_next_start(tmp_path: Path, clock: Clock) -> None:
    """SQLite admits one process, so a lease that the next one finds is nobody's."""
    path = str(tmp_path / "data" / "mdg.sqlite")
    async with Store.open(path) as store:
        await Process(store, clock).owe("1")
        await store.write(lambda c: table.claim(c, OURS, "work", "the killed one", clock(), most=1))
    async with Store.open(path) as store:
        process = Process(store, clock)
        await process.round()
        assert process.works.done == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.jobs.run)
            await until(lambda: process.works.done == ["1"])
            tasks.cancel_scope.cancel()


# --- the operator ---


async def test_a_cancelled_job_is_not_done_and_a_running_one_stops(process: Process, clock: Clock) -> None:
    await process.owe("1", "2")
    first, second = await process.seen()
    stopped = anyio.Event()

    async def long(_: Job) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    process.works.instead["2"] = long
    await process.store.write(lambda connection: table.cancel(connection, OURS, first.id, clock()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(process.jobs.run)
        await until(lambda: process.works.done == ["2"])
        await process.store.write(lambda connection: table.cancel(connection, OURS, second.id, clock()))
        with anyio.fail_after(5):
            await stopped.wait()
        tasks.cancel_scope.cancel()
    assert await process.states() == {"1": "cancelled", "2": "cancelled"}
    with pytest.raises(Conflict, match="cancelled"):
        await process.store.write(lambda connection: table.cancel(connection, OURS, second.id, clock()))


async def test_what_failed_or_waits_can_be_tried_now(process: Process, clock: Clock) -> None:
    await process.owe("1", "2")
    process.works.instead |= {"1": raising(Invalid("no")), "2": giving(Failed("no", final=True))}
    await process.round()
    process.works.instead.clear()
    first, second = await process.seen()
    for id_ in (first.id, second.id):
        tried = await process.store.write(partial(table.retry, of=OURS, id_=id_, now=clock()))
        assert (tried.state, tried.tries) == (State.WAITING, 0)
    await process.round()
    assert await process.states() == {"1": "done", "2": "done"}
    with pytest.raises(Conflict, match="done"):
        await process.store.write(partial(table.retry, of=OURS, id_=first.id, now=clock()))
    with pytest.raises(NotFound):
        await process.store.write(partial(table.retry, of=OURS, id_=4711, now=clock()))


async def test_work_that_is_owed_under_another_number_is_not_owed_twice(process: Process, clock: Clock) -> None:
    await process.owe("1")
    (old,) = await process.seen()
    await process.store.write(lambda connection: table.cancel(connection, OURS, old.id, clock()))
    await process.owe("1")
    with pytest.raises(Conflict, match="the same work"):
        await process.store.write(lambda connection: table.retry(connection, OURS, old.id, clock()))


async def test_one_who_waits_hears_of_the_end_in_this_process_and_in_another(process: Process, clock: Clock) -> None:
    await process.owe("1")
    (job,) = await process.seen()
    assert await process.jobs.ended(job.id, 0.05) is None
    ends: list[Job | None] = []

    async def wait(jobs: Jobs) -> None:
        ends.append(await jobs.ended(job.id, 10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, Jobs(process.store, OURS, clock))
        tasks.start_soon(wait, process.jobs)
        await anyio.sleep(0.05)
        await process.round()
    assert [end.state for end in ends if end is not None] == [State.DONE] * 2


async def test_rows_that_ended_long_ago_are_removed(process: Process, clock: Clock) -> None:
    await process.owe("1", "2", "3")
    process.works.instead |= {"2": giving(Failed("no", final=True)), "3": raising(Invalid("no"))}
    await process.round()
    for days, left in ((0.9, "123"), (0.2, "23"), (28.8, "23"), (0.2, "3"), (1000, "3")):
        clock.later(days=days)
        await process.store.write(lambda connection: table.forget(connection, OURS, clock()))
        assert sorted(await process.states()) == list(left)


async def test_one_custodian_sees_nothing_of_anothers_jobs(process: Process) -> None:
    await process.owe("1")
    theirs = update(table.jobs).values(custodian="8003626566707032")
    await process.store.write(lambda connection: connection.execute(theirs))
    await process.round()
    assert (process.works.done, await process.seen()) == ([], [])
