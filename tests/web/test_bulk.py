"""`BulkResponse`: exact bytes, a few pieces in memory, cut when the decision turns, and an end that is recorded."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from mdg.errors import Conflict, Forbidden, InputOutput, Refused, Throttled, Unavailable
from mdg.exchange.release import Release
from mdg.model.request import Requester
from mdg.web.jmix import bulk
from mdg.web.jmix.bulk import BulkResponse
from mdg.web.jmix.streams import Streams
from mdg.web.metrics import Metrics

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Source:
    """Pieces as the core's stream gives them: one bytes object each."""

    def __init__(self, sizes: list[int], fault: Exception | None = None) -> None:
        self.sizes = sizes
        self.fault = fault
        self.last = b""
        self.given = 0
        self.taken = 0
        self.ahead = 0
        self.lock = threading.Lock()

    def next(self) -> bytes | None:
        assert self.lock.acquire(blocking=False), "two threads in one stream"
        try:
            if self.given == len(self.sizes):
                if self.fault is not None:
                    raise self.fault
                return None
            self.last = bytes([self.given % 251]) * self.sizes[self.given]
            self.given += 1
            self.ahead = max(self.ahead, self.given - self.taken)
            return self.last
        finally:
            self.lock.release()


class Wire:
    """What a server does with one answer; `gone` is a client that hangs up. As hypercorn does, it gives
    `http.disconnect` also when its own answer is complete, and returns from a `send` whose connection broke."""

    def __init__(self, source: Source, slow: float = 0.0, breaks_at: int | None = None) -> None:
        self.source = source
        self.slow = slow
        self.breaks_at = breaks_at
        self.body = bytearray()
        self.start: dict[str, Any] = {}
        self.ended = False
        self.gone = anyio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if message.get("more_body", False):
            assert message["body"] is self.source.last, "a piece is copied on its way"
        await anyio.sleep(self.slow)
        self.source.taken += 1
        if self.breaks_at is not None and len(self.body) + len(message["body"]) > self.breaks_at:
            self.gone.set()
            return
        self.body += message["body"]
        if not message.get("more_body", False):
            self.ended = True
            self.gone.set()
            await anyio.lowlevel.checkpoint()  # `receive` has returned before `send` does

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def run(
    source: Source,
    wire: Wire,
    *,
    length: int | None = None,
    status: int = 200,
    again: Callable[[], Awaitable[None]] | None = None,
    ends: list[tuple[int, str]] | None = None,
) -> list[tuple[int, str]]:
    ends = [] if ends is None else ends

    async def fine() -> None:
        return None

    async def ended(sent: int, why: str) -> None:
        ends.append((sent, why))

    release = Release(
        status=status,
        headers={"ETag": '"x"'},
        start=0,
        end=sum(source.sizes) if length is None else length,
        open=lambda start, end: source,
        again=again or fine,
        ended=ended,
    )
    scope = {"type": "http", "method": "GET", "state": {"request_id": "r"}}
    await BulkResponse(release, Metrics())(scope, wire.receive, wire.send)
    return ends


async def test_pieces_arrive_in_order_and_none_is_overwritten_before_it_left() -> None:
    source = Source([MIB] * 9 + [17])
    wire = Wire(source, slow=0.005)
    assert await run(source, wire) == [(9 * MIB + 17, "complete")]
    assert wire.ended
    assert [wire.body[i * MIB] for i in range(10)] == list(range(10))
    assert source.ahead == 1, "what is made ahead is made by the core, and is one piece"
    headers = dict(wire.start["headers"])
    assert headers[b"content-length"] == str(9 * MIB + 17).encode()
    assert headers[b"accept-ranges"] == b"bytes"


async def test_what_the_caller_has_already_is_answered_without_a_body_or_its_length() -> None:
    wire = Wire(source := Source([]))
    assert await run(source, wire, status=304) == []
    assert (wire.start["status"], wire.start["headers"], bytes(wire.body)) == (304, [(b"etag", b'"x"')], b"")


async def test_a_reader_that_leaves_stops_the_reading() -> None:
    source = Source([MIB] * 100)
    wire = Wire(source, slow=0.01)
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            await anyio.sleep(0.05)
            wire.gone.set()

        tasks.start_soon(leave)
        ((sent, why),) = await run(source, wire)
    assert why == "disconnected"
    assert len(wire.body) <= sent <= len(wire.body) + MIB, "no less than was sent, and at most a piece more"
    assert source.given < 100
    assert not wire.ended


async def test_a_connection_that_breaks_under_the_last_piece_is_not_complete() -> None:
    wire = Wire(source := Source([MIB] * 3), breaks_at=3 * MIB - 1)
    assert await run(source, wire) == [(3 * MIB, "disconnected")]
    assert not wire.ended


async def test_a_stream_that_ends_with_the_gateway_says_so() -> None:
    wire = Wire(source := Source([MIB] * 3), slow=5.0)
    ends: list[tuple[int, str]] = []
    with anyio.move_on_after(0.02):
        await run(source, wire, ends=ends)
    assert ends == [(MIB, "stopped")]


async def test_the_decision_is_asked_again_and_cuts_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "DECIDE_EVERY", 3 * MIB)
    asked = []

    async def again() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise Forbidden(reason="decision-changed")

    source = Source([MIB] * 50)
    wire = Wire(source)
    assert await run(source, wire, again=again) == [(6 * MIB, "aborted-consent")]
    assert not wire.ended


async def test_a_decision_that_turns_ends_a_stream_in_the_middle_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """C21: within 5 s or 64 MiB; at the slowest rate that is borne, one piece takes half a minute."""
    monkeypatch.setattr(bulk, "DECIDE_AFTER", 0.01)
    asked: list[bool] = []

    async def again() -> None:
        asked.append(source.taken > 0)
        if len(asked) == 3:
            raise Forbidden(reason="decision-changed")

    wire = Wire(source := Source([MIB] * 5), slow=3600.0)
    assert await run(source, wire, again=again) == [(MIB, "aborted-consent")]
    assert asked == [False] * 3, "the connection has taken nothing of the first piece"
    assert not wire.ended


async def test_a_decision_that_cannot_be_made_cuts_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "DECIDE_EVERY", MIB)

    async def again() -> None:
        raise Unavailable(reason="store")

    wire = Wire(source := Source([MIB] * 5))
    assert await run(source, wire, again=again) == [(MIB, "store")]


async def test_a_source_that_changed_breaks_the_stream_before_its_end() -> None:
    fault = Refused("E_STORE_CORRUPT", "spool", "it changed")
    source = Source([MIB] * 3, fault)
    wire = Wire(source)
    ((sent, why),) = await run(source, wire, length=10 * MIB)
    assert why == "E_STORE_CORRUPT"
    assert sent <= 3 * MIB
    assert not wire.ended


async def test_a_source_that_changed_before_the_first_byte_is_an_answer() -> None:
    source = Source([], Refused("E_STORE_CORRUPT", "spool", "it changed"))
    wire = Wire(source)
    with pytest.raises(Conflict):
        await run(source, wire, length=MIB)
    assert wire.start == {}


async def test_an_envelope_erased_before_the_first_byte_is_an_answer_that_may_be_repeated() -> None:
    """Its time has come between the decision and the reading."""
    wire = Wire(source := Source([], InputOutput("spool", "it is gone")))
    ends: list[tuple[int, str]] = []
    with pytest.raises(Unavailable):
        await run(source, wire, length=MIB, ends=ends)
    assert (wire.start, ends) == ({}, [(0, "spool")])


async def test_a_reader_that_is_too_slow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLOWEST", 0.02)
    wire = Wire(source := Source([MIB] * 9), slow=5.0)
    assert await run(source, wire) == [(MIB, "slow-reader")]
    assert not wire.ended


async def test_a_reader_that_keeps_the_pace_is_served_for_longer_than_one_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "SLOWEST", 1.0)
    wire = Wire(source := Source([MIB] * 12), slow=0.1)
    assert await run(source, wire) == [(12 * MIB, "complete")]


def client(name: str, organisation: str) -> Requester:
    return cast("Requester", SimpleNamespace(issuer="i", client_id=name, organisation=organisation))


def test_the_clients_of_one_organisation_share_its_places_and_leave_those_of_others() -> None:
    streams = Streams(4, 2)
    with streams.place(client("a", "one")), streams.place(client("b", "one")):
        for name in ("a", "b", "c", "d"):
            with pytest.raises(Throttled), streams.place(client(name, "one")):
                pass
        other, third = client("a", "another"), client("a", "a third")
        with streams.place(other), streams.place(other), pytest.raises(Throttled), streams.place(third):
            pass
    with streams.place(client("c", "one")):
        pass


@pytest.mark.parametrize("fault", [None, Forbidden(reason="x")])
async def test_a_place_is_free_again_however_the_stream_ended(fault: Exception | None) -> None:
    streams = Streams(1, 1)
    who = client("c", "o")
    for _ in range(2):
        with suppress(Forbidden), streams.place(who):
            with pytest.raises(Throttled), streams.place(who):
                pass
            if fault is not None:
                raise fault
