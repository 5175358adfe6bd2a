"""The stand-in record locator: which gateways hold records of a person (IEF, Registration).

Nothing public specifies the national one. Here a holder is told once by `POST /locator` and asked for by
`POST /locator/_search`, both by form, so that no identifier of a person stands in a URL. It lives in memory.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdg.model.identity import HpiO, Ihi
from mdg.sandbox.answers import form, is_loopback, problem

PERSONS = 10_000  # persons kept
HOLDERS = 100  # gateways kept for one person


class Locator:
    """For each person, the FHIR base of each organisation that holds records."""

    def __init__(self) -> None:
        self._holders: dict[Ihi, dict[HpiO, str]] = {}
        self.routes = [
            Route("/locator", self._register, methods=["POST"]),
            Route("/locator/_search", self._search, methods=["POST"]),
        ]

    async def _register(self, request: Request) -> Response:
        told = await form(request)
        try:
            ihi, hpio = Ihi.parse(told.get("ihi", "")), HpiO.parse(told.get("organisation", ""))
        except ValueError as error:
            return problem(400, str(error))
        if not is_loopback(told.get("address", "")):
            return problem(400, "address is the FHIR base of a gateway on this machine")
        holders = self._holders.get(ihi, {})
        if (ihi not in self._holders and len(self._holders) >= PERSONS) or len(holders) >= HOLDERS:
            return problem(503, "the sandbox keeps no more records; start it again")
        self._holders[ihi] = holders | {hpio: told["address"]}
        return JSONResponse({"organisation": hpio, "address": told["address"], "sandbox": True}, 201)

    async def _search(self, request: Request) -> Response:
        try:
            ihi = Ihi.parse((await form(request)).get("ihi", ""))
        except ValueError as error:
            return problem(400, str(error))
        holders = self._holders.get(ihi, {})
        listed = [{"organisation": hpio, "address": address} for hpio, address in sorted(holders.items())]
        return JSONResponse({"holders": listed, "sandbox": True})
