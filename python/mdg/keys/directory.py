"""Who is behind an id or a key, and whether an organisation may still act.

`HttpDirectory` asks the directory service and remembers its answers for a short time; nothing it cannot ask or
understand is ever taken for a yes (spec/access 6.3). `LocalDirectory` holds the same in memory, for a closed set
of partners. Freshness: spec/access 3.2.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

from mdg import _core
from mdg.errors import MdgError, Refused, Unavailable
from mdg.keys.card import Card
from mdg.model.identity import HpiO

FRESH = 300.0  # seconds an answer is used: a suspension acts within five minutes (spec/access 3.2)
ABSENT_FRESH = 30.0  # seconds a "there is none" is used
RETRY = 30.0  # seconds that a directory which did not answer is left alone while an earlier answer still counts
ENTRIES = 10_000  # answers kept; the oldest go first

Answer = TypeVar("Answer")


class Directory(Protocol):
    """Answers about gateways and organisations. Each raises `Unavailable` when there is no answer to rely on."""

    async def card_by_id(self, id: str) -> Card | None:  # noqa: A002 - the card's own word
        """The card of an entity id."""

    async def card_by_kid(self, kid: str) -> Card | None:
        """The card whose signing key has this key id."""

    async def organisation_active(self, hpio: HpiO, *, fresh: float = FRESH) -> bool:
        """True only when the directory lists the organisation as active. An answer that is older than `fresh` seconds
        is asked for again; while the directory does not answer, one of at most FRESH seconds still counts."""


class Fetched(Protocol):
    """What a GET brought."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Fetch(Protocol):
    """The outbound client, as far as this room needs it."""

    async def get(self, url: str) -> Fetched: ...


class LocalDirectory:
    """A fixed set of partners: each card's organisation is active until it is suspended."""

    def __init__(self, cards: Iterable[Card], organisations: Iterable[HpiO]) -> None:
        self._by_id = {card.id: card for card in cards}
        self._by_kid = {card.kid: card for card in self._by_id.values()}
        self._active = set(organisations)

    async def card_by_id(self, id: str) -> Card | None:  # noqa: A002 - the card's own word
        return self._by_id.get(id)

    async def card_by_kid(self, kid: str) -> Card | None:
        return self._by_kid.get(kid)

    async def organisation_active(self, hpio: HpiO, *, fresh: float = FRESH) -> bool:
        return hpio in self._active

    def suspend(self, hpio: HpiO) -> None:
        """From now on the organisation is not active."""
        self._active.discard(hpio)


class HttpDirectory:
    """The directory service at `url`.

    `GET {url}/cards?id=…` and `GET {url}/cards?kid=…` answer 200 with `{"card": {…}}`, `GET
    {url}/organisations/{hpio}` with `{"organisation": "<16 digits>", "status": "active" | …}`; 404 says that there is
    none. Other members are ignored.
    """

    def __init__(self, url: str, fetch: Fetch, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/")
        self._fetch = fetch
        self._clock = clock
        self._answers: dict[str, tuple[float, object]] = {}
        self._failed = float("-inf")

    async def card_by_id(self, id: str) -> Card | None:  # noqa: A002 - the card's own word
        card = await self._remembered(f"/cards?{urlencode({'id': id})}", _card)
        return card if card is None or card.id == id else None

    async def card_by_kid(self, kid: str) -> Card | None:
        card = await self._remembered(f"/cards?{urlencode({'kid': kid})}", _card)
        return card if card is None or card.kid == kid else None

    async def organisation_active(self, hpio: HpiO, *, fresh: float = FRESH) -> bool:
        path = f"/organisations/{quote(hpio)}"
        return await self._remembered(path, lambda found: _active(found, hpio), fresh) is True

    async def _remembered(
        self, path: str, read: Callable[[Mapping[str, object]], Answer], fresh: float = FRESH
    ) -> Answer | None:
        asked, answer = self._answers.get(path, (float("-inf"), None))
        age, counts = self._clock() - asked, ABSENT_FRESH if answer is None else FRESH
        if age < min(fresh, counts) or (age < counts and self._clock() < self._failed + RETRY):
            return answer  # type: ignore[return-value]  # one path is always read by the same function
        try:
            found = await self._ask(path, read)
        except Unavailable:
            self._failed = self._clock()
            if age >= counts:
                raise
            return answer  # type: ignore[return-value]  # likewise
        self._keep(path, found)
        return found

    def _keep(self, path: str, answer: object) -> None:
        while len(self._answers) >= ENTRIES:
            del self._answers[next(iter(self._answers))]
        self._answers.pop(path, None)
        self._answers[path] = (self._clock(), answer)

    async def _ask(self, path: str, read: Callable[[Mapping[str, object]], Answer]) -> Answer | None:
        try:
            found = await self._fetch.get(self._url + path)
            if found.status == 404:
                return None
            if found.status != 200:
                raise Unavailable(reason="directory-status")
            _core.check_json(found.body)
            value = json.loads(found.body)
            if not isinstance(value, dict):
                raise Refused("E_SCHEMA", "directory answer", "it is a JSON object")
            return read(value)
        except Unavailable:
            raise
        except MdgError as error:
            raise Unavailable(reason="directory") from error


def _card(answer: Mapping[str, object]) -> Card:
    return Card.from_json(answer.get("card"))


def _active(answer: Mapping[str, object], hpio: HpiO) -> bool:
    return answer.get("organisation") == hpio and answer.get("status") == "active"
