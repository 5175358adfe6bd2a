"""Subscriptions over a real receiver: handshake, numbers, failures, restarts, and what may no longer be told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.exchange.test_discovery import CUSTODIAN, IHI, LOCAL, NOW, Shelf, requester, study
from tests.fhir.test_subscription import BASE, asked
from tests.receiver import Receiver, event_of, receiving, until

from mdg.access import RecordedConsents, decide
from mdg.audit import Agent, Audit, recorded
from mdg.errors import Forbidden, InsufficientScope, NotFound, Throttled, Unavailable, Unprocessable
from mdg.exchange import subscription as subscription_module
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.decision import Decisions
from mdg.exchange.notification import Notifications
from mdg.exchange.subscription import Subscriptions
from mdg.fhir.subscription import message, parse
from mdg.identity import Identities
from mdg.identity.enrichment import Claim, replace_csv
from mdg.jobs import Jobs, Kind
from mdg.jobs.events import MATCH_SUBSCRIBERS, SETTLED, happened
from mdg.model.identity import HpiO, Ihi
from mdg.model.imaging import StudyKey
from mdg.model.request import Requester, Verdict
from mdg.model.subscription import Status
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import made_up
from mdg.store import Store
from mdg.subscriptions import table
from mdg.subscriptions.table import END, NOTIFY

pytestmark = pytest.mark.anyio

FHIR = "https://mdg.example.org/fhir"
SUBSCRIBER = requester(scopes=frozenset({"system/Subscription.crud"}))


class Clock:
    """The time by which tries are due. What happens is stamped by the machine, so it starts there."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        return self.now


@dataclass
class Standing:
    """Whether subscribers still count; `Unavailable` when nobody can say."""

    stands: bool = True
    known: bool = True

    async def still_stands(self, who: Requester) -> bool:
        if not self.known:
            raise Unavailable(reason="directory")
        return self.stands


@dataclass
class Board:
    """One gateway's notification, driven step by step."""

    store: Store
    shelf: Shelf
    subscriptions: Subscriptions
    notifications: Notifications
    jobs: Jobs
    clock: Clock
    standing: Standing
    receiver: Receiver
    ways: dict[HpiO, Outbound]
    stack: AsyncExitStack
    permitted: bool = True

    async def subscribe(self, who: Requester = SUBSCRIBER, **changed: Any) -> str:
        resource = asked(**{name: changed.pop(name) for name in ("topic", "criterion") if name in changed})
        resource["channel"]["endpoint"] = self.receiver.url
        return (await self.subscriptions.create(who, parse(resource | changed, BASE), "request")).id

    async def happen(self, *numbers: int) -> None:
        """These studies change, and their subscribers are found."""
        keys = [StudyKey(CUSTODIAN, f"1.2.{number}", 1) for number in numbers]
        await self.store.write(lambda connection: happened(connection, SETTLED, keys))
        self.clock.now = max(self.clock.now, datetime.now(UTC))
        await self.jobs.round(MATCH_SUBSCRIBERS)

    async def send(self) -> None:
        """What is due is sent, and what has ended is switched off."""
        await self.jobs.round(NOTIFY, END)

    async def after(self, **time: float) -> None:
        """So much later, with the longest jitter, what is due is sent."""
        self.clock.now += timedelta(**time) * 1.1
        await self.send()

    async def status(self, id_: str) -> str:
        return (await self.subscriptions.read(SUBSCRIBER, id_, "request")).status.value


def kinds(notifications: Notifications, each: int = 32) -> list[Kind]:
    return [
        Kind(MATCH_SUBSCRIBERS, notifications.match),
        Kind(NOTIFY, notifications.send, at_once=64, each=each),
        Kind(END, notifications.end),
    ]


@asynccontextmanager
async def opened(folder: Path, receiver: Receiver, shelf: Shelf) -> AsyncIterator[Board]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.open(str(folder / "mdg.sqlite")))
        await store.write(lambda connection: replace_csv(connection, CUSTODIAN, [Claim(LOCAL, IHI, "test")]))
        out = await stack.enter_async_context(Outbound([receiver.origin], sandbox=True))
        clock, standing = Clock(), Standing()

        def decided(*args: Any, **rules: Any) -> Verdict:
            verdict = decide(*args, **rules)
            return verdict if made.permitted or args[2].study is None else replace(verdict, allowed=False)

        identities, consents = Identities(store, CUSTODIAN), RecordedConsents(store, CUSTODIAN, clock)
        audit = Audit(store, CUSTODIAN, Agent("mdg", "0", "https://mdg.example.org"))
        ways = {SUBSCRIBER.organisation: out}
        catalogue, decisions = Catalogue([shelf], identities, consents), Decisions(decide=decided, clock=clock)
        notifications = Notifications(
            store,
            catalogue,
            decisions,
            audit,
            standing=standing,
            ways=ways,
            custodian=CUSTODIAN,
            message=partial(message, FHIR, BASE),
        )
        made = Board(
            store=store,
            shelf=shelf,
            subscriptions=Subscriptions(store, decisions, audit, consents=consents, ways=ways, custodian=CUSTODIAN),
            notifications=notifications,
            jobs=Jobs(store, CUSTODIAN, clock),
            clock=clock,
            standing=standing,
            receiver=receiver,
            ways=ways,
            stack=stack,
        )
        made.jobs.do(*kinds(notifications))
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
async def board(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Board]:
    shelf = Shelf("shelf", [study(number) for number in range(1, 10)])
    async with opened(tmp_path, receiver, shelf) as one:
        yield one


def focus(number: int) -> str:
    return f"{FHIR}/ImagingStudy/st-{number:03d}"


async def test_a_handshake_makes_a_subscription_active(board: Board) -> None:
    id_ = await board.subscribe()
    assert (await board.status(id_), board.receiver.got) == ("requested", [])
    await board.send()
    assert (await board.status(id_), board.receiver.kinds) == ("active", ["handshake"])
    (headers,) = board.receiver.headers
    assert (headers["content-type"], headers["authorization"]) == ("application/fhir+json", "Bearer secret")


async def test_each_change_of_the_patients_studies_is_told_under_the_next_number(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(3, 5)
    await board.send()
    assert board.receiver.taken == {"1": focus(3), "2": focus(5)}
    assert board.receiver.kinds == ["handshake", "event-notification", "event-notification"]


async def test_one_study_is_told_of_when_only_it_was_asked_for(board: Board) -> None:
    await board.subscribe(topic="study", criterion="identifier=1.2.3")
    await board.send()
    await board.happen(3, 5)
    await board.send()
    assert board.receiver.taken == {"1": focus(3)}


async def test_nobody_is_told_of_another_patients_study_even_by_its_uid(board: Board) -> None:
    stranger = replace(SUBSCRIBER, patient=made_up(Ihi, "stranger"))
    await board.subscribe(stranger, topic="study", criterion="identifier=1.2.3")
    await board.send()
    await board.happen(3)
    await board.send()
    assert board.receiver.kinds == ["handshake"]


async def test_a_failing_receiver_gets_every_number_in_order_and_none_twice(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1, 2, 3, 4)
    board.receiver.answers.extend([(500, {}), (404, {}), (302, {"Location": "http://127.0.0.1:1029/"})])
    await board.send()
    assert board.receiver.taken == {}
    for seconds in (5, 30, 120):
        await board.send()
        await board.after(seconds=seconds)
    assert list(board.receiver.taken) == ["1", "2", "3", "4"]
    assert board.receiver.repeated == []
    assert [event["event-number"] for bundle in board.receiver.got if (event := event_of(bundle))] == [
        *["1"] * 4,
        *["2", "3", "4"],
    ]


async def test_a_receiver_that_asks_for_time_gets_it(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1)
    board.receiver.answers.append((503, {"Retry-After": "600"}))
    await board.send()
    await board.after(seconds=300)
    assert board.receiver.taken == {}
    await board.after(seconds=300)
    assert board.receiver.taken == {"1": focus(1)}


async def test_a_receiver_that_is_gone_is_told_nothing_more(board: Board) -> None:
    id_ = await board.subscribe()
    await board.send()
    await board.happen(1, 2)
    board.receiver.answers.append((410, {}))
    await board.send()
    await board.happen(3)
    await board.after(hours=100)
    assert (await board.status(id_), len(board.receiver.got)) == ("off", 2)
    assert (await board.subscriptions.read(SUBSCRIBER, id_, "r")).events == 2


async def test_a_handshake_that_nobody_answers_ends_in_error_and_no_event_is_sent(board: Board) -> None:
    id_ = await board.subscribe()
    board.receiver.usual = 500
    await board.send()
    await board.happen(1)
    states = []
    for seconds in (5, 30, 120):
        states.append(await board.status(id_))
        await board.after(seconds=seconds)
    assert (states, await board.status(id_)) == (["requested"] * 3, "error")
    board.receiver.usual = 200
    await board.after(hours=100)
    assert board.receiver.kinds == ["handshake"] * 4


async def test_three_days_of_failures_are_an_error_and_events_still_count(board: Board) -> None:
    id_ = await board.subscribe()
    await board.send()
    await board.happen(1)
    board.receiver.usual = 500
    for _ in range(76):
        await board.after(hours=1)
    assert await board.status(id_) == "error"
    await board.happen(2)
    found = await board.subscriptions.read(SUBSCRIBER, id_, "request")
    assert (found.status, found.events) == (Status.ERROR, 2)


async def test_what_was_numbered_before_a_restart_is_sent_after_it(tmp_path: Path, receiver: Receiver) -> None:
    shelf = Shelf("shelf", [study(1), study(2)])
    async with opened(tmp_path, receiver, shelf) as board:
        await board.subscribe()
        await board.send()
        await board.happen(1, 2)
        receiver.usual = 500
        await board.send()
    receiver.usual = 200
    async with opened(tmp_path, receiver, shelf) as board:
        await board.happen(1)
        await board.after(seconds=5)
    assert receiver.taken == {"1": focus(1), "2": focus(2), "3": focus(1)}
    assert receiver.repeated == []


async def deny(board: Board) -> None:
    board.permitted = False


async def suspend(board: Board) -> None:
    board.standing.stands = False


async def quarantine(board: Board) -> None:
    other = Claim(LOCAL, made_up(Ihi, "other"), "test")
    await board.store.write(lambda connection: replace_csv(connection, CUSTODIAN, [Claim(LOCAL, IHI, "test"), other]))


async def take_away(board: Board) -> None:
    board.shelf.studies.clear()


@pytest.mark.parametrize("change", [deny, suspend, quarantine, take_away])
async def test_what_may_no_longer_be_told_goes_out_under_its_number_without_a_focus(board: Board, change: Any) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1, 2)
    await change(board)
    await board.send()
    assert board.receiver.taken == {"1": None, "2": None}
    assert [len(bundle["entry"]) for bundle in board.receiver.got] == [1, 1, 1]
    assert "st-00" not in str(board.receiver.got)


async def test_two_processes_on_one_database_send_each_number_once(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1, 2)
    board.receiver.open = anyio.Event()
    other = Jobs(board.store, CUSTODIAN, board.clock)
    other.do(*kinds(board.notifications))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(board.send)
        await until(lambda: len(board.receiver.got) == 2)
        await other.round(NOTIFY)
        board.receiver.open.set()
    assert (board.receiver.taken, board.receiver.repeated) == ({"1": focus(1), "2": focus(2)}, [])


async def test_what_is_not_kept_is_not_on_record(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = await board.subscribe()
    before = await recorded(board.store, "request")

    async def full(*_: Any) -> None:
        raise Unavailable(reason="store")

    monkeypatch.setattr(table, "add", full)
    monkeypatch.setattr(table, "remove", full)
    with pytest.raises(Unavailable):
        await board.subscribe()
    with pytest.raises(Unavailable):
        await board.subscriptions.delete(SUBSCRIBER, id_, "request")
    assert await recorded(board.store, "request") == before


async def test_a_study_of_a_sensitive_kind_is_no_event_for_who_did_not_know_it(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1)
    board.shelf.studies = [study(number, labels=("R",)) for number in (1, 2)]
    await board.happen(1, 2)
    await board.send()
    assert board.receiver.taken == {"1": None, "2": None}, "the first study only"


async def test_nothing_is_sent_while_nobody_knows_whether_it_may_be(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1)
    board.standing.known = False
    await board.send()
    assert board.receiver.taken == {}
    board.standing.known = True
    await board.after(seconds=5)
    assert board.receiver.taken == {"1": focus(1)}


async def test_a_subscription_whose_end_has_come_is_off(board: Board) -> None:
    id_ = await board.subscribe(end=(NOW + timedelta(hours=1)).isoformat())
    await board.send()
    await board.after(hours=1)
    await board.happen(1)
    await board.send()
    assert (await board.status(id_), board.receiver.kinds) == ("off", ["handshake"])
    with pytest.raises(Unprocessable, match="past"):
        await board.subscribe(end=NOW.isoformat())


async def test_each_sending_has_a_record_before_it_and_each_failure_another(board: Board) -> None:
    await board.subscribe()
    await board.send()
    await board.happen(1)
    board.receiver.answers.append((500, {}))
    await board.send()
    id_ = board.receiver.headers[-1]["x-request-id"]
    (sent, failed), _ = await recorded(board.store, id_)
    assert (sent["outcome"], failed["outcome"], failed["outcomeDesc"]) == ("0", "8", "status-500")
    details = {one["type"]: one["valueString"] for one in sent["entity"][-1]["detail"]}
    assert (details["number"], details["focus"]) == ("1", "st-001")


async def test_an_organisation_whose_receivers_are_silent_holds_up_no_other(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.jobs.do(*kinds(board.notifications, each=2))
    other = replace(SUBSCRIBER, organisation=CUSTODIAN, client_id="other", subject="other")
    board.receiver.open = anyio.Event()
    for _ in range(5):
        await board.subscribe()
    async with receiving() as quick, anyio.create_task_group() as tasks:
        tasks.start_soon(board.jobs.run)
        await until(lambda: board.receiver.kinds == ["handshake"] * 2)
        slow, board.receiver = board.receiver, quick
        board.ways[CUSTODIAN] = await board.stack.enter_async_context(Outbound([quick.origin], sandbox=True))
        await board.subscribe(other)
        await until(lambda: quick.kinds == ["handshake"])
        assert slow.kinds == ["handshake"] * 2, "and no more of its own are asked at once"
        board.receiver = slow
        assert slow.open is not None
        slow.open.set()
        await until(lambda: slow.kinds == ["handshake"] * 5)
        tasks.cancel_scope.cancel()


async def test_a_fault_of_ours_ends_no_delivery(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    await board.subscribe()
    find, faults = table.find, [ZeroDivisionError()]

    async def faulty(*asked: Any) -> Any:
        if faults:
            raise faults.pop()
        return await find(*asked)

    monkeypatch.setattr(table, "find", faulty)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(board.jobs.run)
        await until(lambda: not faults)
        await anyio.sleep(0.5)
        board.clock.now += timedelta(seconds=6)
        await until(lambda: board.receiver.kinds == ["handshake"])
        tasks.cancel_scope.cancel()


async def test_a_subscriber_that_does_not_answer_holds_up_nobody_else(board: Board) -> None:
    await board.subscribe()
    board.receiver.open = anyio.Event()
    async with receiving() as quick, anyio.create_task_group() as tasks:
        tasks.start_soon(board.jobs.run)
        await until(lambda: board.receiver.kinds == ["handshake"])
        slow, board.receiver = board.receiver, quick
        board.ways[SUBSCRIBER.organisation] = await board.stack.enter_async_context(
            Outbound([quick.origin, slow.origin], sandbox=True)
        )
        await board.subscribe()
        await until(lambda: quick.kinds == ["handshake"])
        await board.happen(1)
        await until(lambda: quick.taken == {"1": focus(1)})
        assert slow.kinds == ["handshake"], "one in flight"
        assert slow.open is not None
        slow.open.set()
        await until(lambda: slow.taken == {"1": focus(1)})
        tasks.cancel_scope.cancel()


async def test_a_deleted_subscription_is_told_nothing_more(board: Board) -> None:
    id_ = await board.subscribe()
    await board.send()
    await board.happen(1)
    await board.subscriptions.delete(SUBSCRIBER, id_, "request")
    await board.send()
    assert board.receiver.kinds == ["handshake"]
    with pytest.raises(NotFound):
        await board.status(id_)


@pytest.mark.parametrize(
    "other",
    [
        {"client_id": "another", "subject": "another"},
        {"organisation": HpiO("8003621566684455")},
        {"patient": made_up(Ihi, "other")},
    ],
)
async def test_anothers_subscription_is_not_there(board: Board, other: dict[str, Any]) -> None:
    id_ = await board.subscribe()
    stranger = replace(SUBSCRIBER, **other)
    for use in (board.subscriptions.read, board.subscriptions.delete):
        with pytest.raises(NotFound):
            await use(stranger, id_, "request")
    assert await board.status(id_) == "requested"


async def test_nobody_subscribes_without_scope_patient_or_agreed_endpoint(board: Board) -> None:
    with pytest.raises(InsufficientScope):
        await board.subscribe(replace(SUBSCRIBER, scopes=frozenset({"system/ImagingStudy.rs"})))
    with pytest.raises(Forbidden):
        await board.subscribe(replace(SUBSCRIBER, patient=None))
    with pytest.raises(Forbidden):
        await board.subscribe(replace(SUBSCRIBER, patient=made_up(Ihi, "other")))
    with pytest.raises(Forbidden):
        await board.subscribe(replace(SUBSCRIBER, organisation=CUSTODIAN))
    board.receiver.origin = "http://127.0.0.1:1029"
    with pytest.raises(Forbidden):
        await board.subscribe()
    board.receiver.origin = "http://10.0.0.1"
    with pytest.raises(Unprocessable):
        await board.subscribe()


async def test_a_client_has_so_many_subscriptions_and_no_more(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "MOST", 2)
    first = await board.subscribe()
    await board.subscribe()
    with pytest.raises(Throttled):
        await board.subscribe()
    await board.subscribe(replace(SUBSCRIBER, client_id="another", subject="another"))
    await board.subscriptions.delete(SUBSCRIBER, first, "request")
    await board.subscribe()
