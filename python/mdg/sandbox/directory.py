"""The stand-in key directory: who is behind an id or a key id, and which organisations may act (spec/access 3.2).

It takes any card whose self-signature holds, first come: a second card of the same id with other keys is refused,
so that two questions about one id get the same answer. It lives in memory.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdg.errors import Refused
from mdg.keys import Card
from mdg.model.identity import HpiO
from mdg.sandbox.answers import body, form, problem

CARDS = 1000  # cards kept; a sandbox that holds more is no sandbox


class Cards:
    """The cards and the organisations behind them; each organisation is active until it is suspended."""

    def __init__(self) -> None:
        self._by_id: dict[str, Card] = {}
        self._status: dict[HpiO, str] = {}
        self.routes = [
            Route("/cards", self._show, methods=["GET"]),
            Route("/cards", self._take, methods=["POST"]),
            Route("/organisations/{hpio}", self._organisation, methods=["GET"]),
            Route("/organisations/{hpio}", self._set_status, methods=["POST"]),
        ]

    def add(self, card: Card) -> bool:
        """Takes a card; False when another one of this id is there. `ValueError` unless its id is a qualified HPI-O."""
        hpio = HpiO.from_uri(card.id)
        known = self._by_id.get(card.id)
        if known is not None and known != card:
            return False
        self._by_id[card.id] = card
        self._status.setdefault(hpio, "active")
        return True

    async def card_by_id(self, id: str) -> Card | None:  # noqa: A002 - the card's own word
        return self._by_id.get(id)

    async def card_by_kid(self, kid: str) -> Card | None:
        return next((card for card in self._by_id.values() if card.kid == kid), None)

    async def organisation_active(self, hpio: HpiO, *, fresh: float = 0.0) -> bool:
        """True unless it was suspended, also without a card: the authority gives tokens to all organisations."""
        return self._status.get(hpio, "active") == "active"

    async def _take(self, request: Request) -> Response:
        if len(self._by_id) >= CARDS:
            return problem(503, f"the sandbox keeps {CARDS} cards; start it again")
        try:
            card = Card.parse(await body(request))
            added = self.add(card)
        except (Refused, ValueError) as error:
            return problem(400, str(error))
        if not added:
            return problem(409, "this id has a card with other keys; start the sandbox again to forget it")
        return JSONResponse({"card": card.to_json(), "kid": card.kid, "sandbox": True}, 201)

    async def _show(self, request: Request) -> Response:
        asked = dict(request.query_params)
        match asked:
            case {"id": id_, **rest} if not rest:
                card = await self.card_by_id(id_)
            case {"kid": kid, **rest} if not rest:
                card = await self.card_by_kid(kid)
            case _:
                return problem(400, "ask with exactly one of id and kid")
        if card is None:
            return problem(404, "no such card")
        return JSONResponse({"card": card.to_json(), "sandbox": True})

    async def _organisation(self, request: Request) -> Response:
        status = self._status.get(request.path_params["hpio"])
        if status is None:
            return problem(404, "no such organisation")
        return JSONResponse({"organisation": request.path_params["hpio"], "status": status, "sandbox": True})

    async def _set_status(self, request: Request) -> Response:
        """`status=suspended` stands for a withdrawal by the national service, `status=active` for its end."""
        hpio = request.path_params["hpio"]
        status = (await form(request)).get("status")
        if hpio not in self._status:
            return problem(404, "no such organisation")
        if status not in ("active", "suspended"):
            return problem(400, "status is active or suspended")
        self._status[hpio] = status
        return JSONResponse({"organisation": hpio, "status": status, "sandbox": True})
