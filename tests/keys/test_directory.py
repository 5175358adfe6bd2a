"""One contract for every directory; and what the one over HTTP does with answers that it cannot rely on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mdg.errors import InputOutput, Unavailable
from mdg.keys import Card, Directory, Ed25519Key, HttpDirectory, LocalDirectory, X25519Key
from mdg.model.identity import HpiO

pytestmark = pytest.mark.anyio

ACTIVE, SUSPENDED, UNKNOWN = HpiO("8003621566684455"), HpiO("8003626566707032"), HpiO("8003620833334138")


def card(hpio: HpiO) -> Card:
    signer = Ed25519Key.generate()
    return Card.issue(id=hpio.uri, name="x", contact="", x25519=X25519Key.generate().public, signer=signer)


CARD = card(ACTIVE)


@dataclass
class Answer:
    status: int
    body: bytes


class Service:
    """A directory service; `change` may spoil an answer, `down` refuses to give one."""

    def __init__(self) -> None:
        self.asked = 0
        self.down = False
        self.change: Callable[[Answer], Answer] = lambda answer: answer
        self.status = {ACTIVE: "active", SUSPENDED: "suspended"}
        self.cards = [CARD]

    async def get(self, url: str) -> Answer:
        self.asked += 1
        if self.down:
            raise InputOutput("https://directory.example", "it is down")
        parts = urlsplit(url)
        assert parts.netloc == "directory.example"
        return self.change(self._answer(parts.path, parse_qs(parts.query)))

    def _answer(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        if path == "/cards":
            for found in self.cards:
                if [found.id] == query.get("id") or [found.kid] == query.get("kid"):
                    return answer({"card": found.to_json(), "sandbox": True})
            return Answer(404, b"{}")
        hpio = path.removeprefix("/organisations/")
        if hpio not in self.status:
            return Answer(404, b"{}")
        return answer({"organisation": hpio, "status": self.status[HpiO(hpio)]})


def answer(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(params=["local", "http"])
def directory(request: pytest.FixtureRequest, service: Service) -> Directory:
    if request.param == "local":
        return LocalDirectory([CARD], [ACTIVE])
    return HttpDirectory("https://directory.example/", service)


async def test_a_card_is_found_by_its_id_and_by_its_key(directory: Directory) -> None:
    assert await directory.card_by_id(CARD.id) == CARD
    assert await directory.card_by_kid(CARD.kid) == CARD
    assert await directory.card_by_id(UNKNOWN.uri) is None
    assert await directory.card_by_kid("unknown") is None


async def test_only_an_active_organisation_is_active(directory: Directory) -> None:
    assert await directory.organisation_active(ACTIVE)
    assert not await directory.organisation_active(SUSPENDED)
    assert not await directory.organisation_active(UNKNOWN)


async def test_answers_are_remembered_for_five_minutes(service: Service) -> None:
    clock = Clock()
    directory = HttpDirectory("https://directory.example", service, clock=clock)
    for _ in range(3):
        assert await directory.organisation_active(ACTIVE)
    assert service.asked == 1
    service.status[ACTIVE] = "suspended"
    clock.now = 299
    assert await directory.organisation_active(ACTIVE)
    clock.now = 301
    assert not await directory.organisation_active(ACTIVE)


async def test_an_organisation_that_is_served_is_asked_about_again_and_an_outage_cuts_nobody_at_once(
    service: Service,
) -> None:
    clock = Clock()
    directory = HttpDirectory("https://directory.example", service, clock=clock)
    assert await directory.organisation_active(ACTIVE)
    clock.now = 4
    assert await directory.organisation_active(ACTIVE, fresh=5)
    assert service.asked == 1
    service.down = True
    for clock.now in (5, 10, 29):
        assert await directory.organisation_active(ACTIVE, fresh=5)
    assert service.asked == 2, "a directory that is down is left alone for a while"
    service.down = False
    service.status[ACTIVE] = "suspended"
    clock.now = 36
    assert not await directory.organisation_active(ACTIVE, fresh=5)
    assert not await directory.organisation_active(ACTIVE), "new calls know it too"


async def test_an_absence_is_remembered_for_half_a_minute(service: Service) -> None:
    clock = Clock()
    service.cards = []
    directory = HttpDirectory("https://directory.example", service, clock=clock)
    assert await directory.card_by_id(CARD.id) is None
    service.cards = [CARD]
    assert await directory.card_by_id(CARD.id) is None
    clock.now = 31
    assert await directory.card_by_id(CARD.id) == CARD


async def test_a_lapsed_answer_does_not_outlive_the_directory(service: Service) -> None:
    clock = Clock()
    directory = HttpDirectory("https://directory.example", service, clock=clock)
    assert await directory.organisation_active(ACTIVE)
    service.down = True
    clock.now = 301
    with pytest.raises(Unavailable):
        await directory.organisation_active(ACTIVE)


@pytest.mark.parametrize(
    "spoilt",
    [
        Answer(500, b""),
        Answer(302, b""),
        Answer(200, b"<html>"),
        Answer(200, b"[]"),
        answer({}),
        answer({"card": {**CARD.to_json(), "name": "another"}}),
    ],
)
async def test_an_answer_that_is_not_understood_is_no_answer(service: Service, spoilt: Answer) -> None:
    service.change = lambda _: spoilt
    directory = HttpDirectory("https://directory.example", service)
    with pytest.raises(Unavailable):
        await directory.card_by_id(CARD.id)
    if spoilt.status != 200 or not spoilt.body.startswith(b"{"):
        with pytest.raises(Unavailable):
            await directory.organisation_active(ACTIVE)
    else:
        assert not await directory.organisation_active(ACTIVE)


async def test_another_card_than_the_one_asked_for_is_none(service: Service) -> None:
    other = card(SUSPENDED)
    service.change = lambda _: answer({"card": other.to_json()})
    directory = HttpDirectory("https://directory.example", service)
    assert await directory.card_by_id(CARD.id) is None
    assert await directory.card_by_kid(CARD.kid) is None


async def test_the_memory_for_answers_has_an_end(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdg.keys.directory.ENTRIES", 10)
    directory = HttpDirectory("https://directory.example", service)
    for number in range(50):
        await directory.card_by_kid(f"kid-{number}")
    assert len(directory._answers) == 10
