"""Searches, one door for each resource type: parameters in, a searchset Bundle out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from mdg.errors import Invalid, about
from mdg.fhir import Json
from mdg.fhir.found import Page, Server
from mdg.fhir.search import Pairs, Table, Terms, parse, refuse_person_in_url
from mdg.model.found import Found, FoundPatients
from mdg.model.query import Query
from mdg.model.request import Requester
from mdg.web.asking import FHIR_TYPES, accepts, form, query, request_id, requester
from mdg.web.cursor import Cursors
from mdg.web.fhir.answers import FhirResponse

PAGE = frozenset({"_count", "_format", "_pretty"})
"""What stock clients add to the address of the next page."""

F = TypeVar("F", Found, FoundPatients)


@dataclass(frozen=True, slots=True)
class SearchDoor(Generic[F]):
    """The door of one resource type: `table` reads the parameters, `ask` finds, `render` makes the Bundle."""

    table: Table
    ask: Callable[[Requester, Query, bytes, str], Awaitable[F]]
    render: Callable[[F, Page, Server], Json]
    server: Server
    terms: Terms
    cursors: Cursors

    async def post(self, request: Request) -> Response:
        """`POST /fhir/[type]/_search`; parameters of the URL are merged with those of the body."""
        refuse_person_in_url(self.table, query(request), self.terms)
        fields, raw = await form(request)
        accepts(request, FHIR_TYPES, fields)
        if any(name == "access_token" for name, _ in fields):
            raise Invalid("a token does not stand in a body", reason="token-in-body")
        return await self._search(request, query(request), fields, raw)

    async def get(self, request: Request) -> Response:
        """`GET /fhir/[type]?…`: what holds no identifier of a person, and the pages of a search."""
        accepts(request, FHIR_TYPES)
        return await self._search(request, query(request), (), b"")

    async def _search(self, request: Request, url: Pairs, body: Pairs, raw: bytes) -> Response:
        who, after = requester(request), None
        pages = [value for name, value in url if name == "_page"]
        if pages:
            url = [(name, value) for name, value in url if name != "_page"]
            if len(pages) > 1 or body or not PAGE.issuperset(name for name, _ in url):
                raise Invalid("beside one _page there may stand " + ", ".join(sorted(PAGE)))
            body, after = self.cursors.open(pages[0], who, self.table.type)
            body = [(name, value) for name, value in body if name not in {name for name, _ in url}]
        asked = b"&".join(part for part in (request.scope["query_string"], raw) if part)
        with about(query=asked):
            search = parse(self.table, url, body, self.terms)
            with about(patient=search.query.person):
                found = await self.ask(who, replace(search.query, after=after), asked, request_id(request))
        next_ = None
        if found.cursor is not None:
            next_ = self.cursors.seal(who, self.table.type, search.of(found.patient_ids), found.cursor)
        return FhirResponse(self.render(found, Page(search, request_id(request), next_), self.server))
