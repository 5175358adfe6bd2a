"""Who is told of what, and under which number, on both kinds of database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from tests.subscriptions.test_retry import ACTIVE, IHI, OWNER

from mdg.jobs import State
from mdg.jobs.events import SETTLED, StudyEvent, happened
from mdg.jobs.table import jobs, listed
from mdg.model.identity import HpiO, Ihi
from mdg.model.imaging import StudyKey
from mdg.model.subscription import Status, Subscription, Topic
from mdg.sandbox.identifiers import made_up
from mdg.store import Store
from mdg.subscriptions import retry, table

pytestmark = pytest.mark.anyio

OURS = HpiO("8003621566684455")
BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
LATER = BEGAN + timedelta(hours=1)
NEW = replace(ACTIVE, created=BEGAN, events=0, delivered=0)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as store:
        yield store


async def keep(store: Store, *new: Subscription) -> None:
    for one in new:
        await store.write(lambda connection, one=one: table.add(connection, OURS, one))  # type: ignore[misc] # mypy sees no type for a default


async def happen(store: Store, event: int, uid: str = "1.2", patient: Ihi | None = IHI, time: datetime = LATER) -> None:
    one = StudyEvent(event, SETTLED, StudyKey(OURS, uid, event), time)
    await store.write(lambda connection: table.number(connection, one, patient, LATER))


async def there(store: Store, id_: str) -> Subscription:
    async with store.read() as connection:
        found = await table.find(connection, OURS, id_)
    assert found is not None
    return found


async def counts(store: Store, *ids: str) -> list[int]:
    return [(await there(store, id_)).events for id_ in ids]


async def test_a_subscription_is_kept_as_it_was_made(store: Store) -> None:
    wanted = replace(NEW.wanted, authorization="Bearer secret", end=LATER)
    await keep(store, replace(NEW, wanted=wanted))
    assert await there(store, "s") == replace(NEW, wanted=wanted)
    assert "secret" not in repr(await there(store, "s"))


async def test_an_event_is_given_to_those_who_asked_for_its_patient_or_its_study(store: Store) -> None:
    other = made_up(Ihi, "other")
    study = replace(NEW.wanted, topic=Topic.STUDY, patient=None, study="1.2")
    of_other = replace(NEW, id="other", patient=other, owner=replace(OWNER, patient=other))
    await keep(
        store,
        NEW,
        replace(NEW, id="study", wanted=study),
        replace(NEW, id="another-study", wanted=replace(study, study="1.3")),
        replace(of_other, wanted=replace(NEW.wanted, patient=other)),
        replace(of_other, id="study-of-other", wanted=study),
    )
    await happen(store, 1)
    assert await counts(store, "s", "study", "another-study", "other", "study-of-other") == [1, 1, 0, 0, 0]


async def test_numbers_have_no_gap_and_an_event_has_one(store: Store) -> None:
    await keep(store, NEW)
    for event in (4, 9, 9, 11):
        await happen(store, event)
    assert await counts(store, "s") == [3]
    async with store.read() as connection:
        assert [(await table.event(connection, OURS, "s", number)).number for number in (1, 2, 3)] == [1, 2, 3]


async def test_what_is_off_or_was_not_there_yet_gets_no_number_and_an_error_does(store: Store) -> None:
    await keep(store, replace(NEW, id="off", status=Status.OFF), replace(NEW, id="error", status=Status.ERROR))
    key = StudyKey(OURS, "1.2", 1)
    await store.write(lambda connection: happened(connection, SETTLED, [key]))
    await keep(store, replace(NEW, id="late"))
    await happen(store, 1)
    assert await counts(store, "off", "late", "error") == [0, 0, 1]


async def test_a_study_that_is_no_longer_shown_is_told_to_those_who_knew_it(store: Store) -> None:
    await keep(store, NEW)
    await happen(store, 1)
    await keep(store, replace(NEW, id="new"))
    await happen(store, 2, patient=None, time=LATER + timedelta(seconds=1))
    await happen(store, 3, "1.9", patient=None)
    assert await counts(store, "s", "new") == [2, 0]


async def test_a_clock_that_was_set_back_loses_no_event(store: Store) -> None:
    await keep(store, NEW)
    await happen(store, 1, time=BEGAN - timedelta(hours=1))
    assert await counts(store, "s") == [1]


async def test_a_study_that_is_another_patients_now_is_told_to_both(store: Store) -> None:
    other = made_up(Ihi, "other")
    of_other = replace(NEW, id="other", patient=other, owner=replace(OWNER, patient=other))
    await keep(store, NEW, replace(of_other, wanted=replace(NEW.wanted, patient=other)))
    await happen(store, 1)
    await happen(store, 2, patient=other)
    assert await counts(store, "s", "other") == [2, 1]


async def owed(store: Store) -> list[tuple[str, str]]:
    """Kind and key of each job that waits."""
    async with store.read() as connection:
        found = await listed(connection, OURS, states=[State.WAITING], most=100)
    return sorted((job.kind, job.key) for job in found)


async def test_a_handshake_an_end_and_a_numbered_event_are_jobs(store: Store) -> None:
    await keep(
        store, replace(NEW, wanted=replace(NEW.wanted, end=LATER)), replace(NEW, id="error", status=Status.ERROR)
    )
    assert await owed(store) == [("end-subscription", "s"), ("notify", "error"), ("notify", "s")]
    await store.write(lambda connection: connection.execute(delete(jobs)))
    await happen(store, 1)
    await happen(store, 2)
    assert await owed(store) == [("notify", "s")], "one for both, and none for who gets nothing more"


async def keep_try(store: Store, before: Subscription, after: Subscription) -> None:
    await store.write(lambda connection: table.keep(connection, OURS, before, after, LATER))


async def test_a_try_does_not_undo_what_happened_to_the_subscription_meanwhile(store: Store) -> None:
    await keep(store, NEW)
    await happen(store, 1)
    before = await there(store, "s")
    await store.write(lambda connection: table.switch_off(connection, OURS, "s", LATER))
    await keep_try(store, before, retry.arrived(before))
    assert (await there(store, "s")).status is Status.OFF
    await store.write(lambda connection: table.remove(connection, OURS, "s"))
    await keep_try(store, before, retry.arrived(before))
    async with store.read() as connection:
        assert await table.find(connection, OURS, "s") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "another"},
        {"issuer": "https://other.example"},
        {"organisation": OURS},
        {"patient": made_up(Ihi, "other")},
    ],
)
async def test_a_subscription_is_found_by_its_owner_only(store: Store, changed: dict[str, Any]) -> None:
    await keep(store, NEW)
    async with store.read() as connection:
        assert await table.find(connection, OURS, "s", replace(OWNER, token_id="another")) is not None
        assert await table.find(connection, OURS, "s", replace(OWNER, **changed)) is None
        assert await table.count(connection, OURS, OWNER) == 1


async def test_what_ended_long_ago_is_forgotten_and_what_is_counted_on_is_not(store: Store) -> None:
    lapsed = replace(NEW, id="lapsed", status=Status.OFF, wanted=replace(NEW.wanted, end=LATER))
    error = replace(NEW, id="error", status=Status.ERROR)
    await keep(store, NEW, error, lapsed)
    await happen(store, 1)
    kept = []
    for before in (LATER - timedelta(minutes=1), LATER + timedelta(minutes=1)):
        await store.write(lambda connection, before=before: table.forget(connection, OURS, before))  # type: ignore[misc] # mypy sees no type for a default
        async with store.read() as connection:
            kept.append([id_ for id_ in ("s", "error", "lapsed") if await table.find(connection, OURS, id_)])
    assert kept == [["s", "lapsed"], ["s"]]


async def test_old_events_are_forgotten_but_not_those_that_are_owed(store: Store) -> None:
    await keep(store, NEW)
    await happen(store, 1)
    await happen(store, 2)
    before = await there(store, "s")
    await keep_try(store, before, retry.arrived(before))
    await store.write(lambda connection: table.forget(connection, OURS, LATER + timedelta(days=30)))
    async with store.read() as connection:
        assert (await table.event(connection, OURS, "s", 2)).study == "1.2"
    await happen(store, 3, patient=None)
    assert await counts(store, "s") == [3], "the second is still known to be of that study"
