"""The FHIR door: discovery by search and read (fhir-au 1.3). Everything it does not know is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from mdg.errors import Invalid, NotFound, about
from mdg.exchange.cursor import Cursors
from mdg.exchange.discovery import Discovery, Read
from mdg.fhir import Json
from mdg.fhir.search import LOGICAL_ID, Pairs, Terms, parse, refuse_person_in_url
from mdg.web.answers import FhirResponse
from mdg.web.asking import FHIR_TYPES, accepts, form, no_parameters, query, request_id, requester

PAGE = frozenset({"_count", "_format", "_pretty"})
"""What stock clients add to the address of the next page."""


class FhirDoor:
    """`statement` makes the CapabilityStatement of the listener that this door is on."""

    def __init__(self, discovery: Discovery, cursors: Cursors, terms: Terms, statement: Callable[[], Json]) -> None:
        self._discovery = discovery
        self._cursors = cursors
        self._terms = terms
        self._statement = statement

    async def metadata(self, request: Request) -> Response:
        """`GET /fhir/metadata`: public, holds no patient's data, may be kept five minutes."""
        accepts(request, FHIR_TYPES)
        no_parameters(request, mode=("full",))
        return FhirResponse(self._statement(), headers={"Cache-Control": "max-age=300"})

    async def search(self, request: Request) -> Response:
        """`POST /fhir/ImagingStudy/_search`; parameters of the URL are merged with those of the body."""
        refuse_person_in_url(query(request), self._terms.fhir)
        fields, raw = await form(request)
        accepts(request, FHIR_TYPES, fields)
        if any(name == "access_token" for name, _ in fields):
            raise Invalid("a token does not stand in a body", reason="token-in-body")
        return await self._search(request, query(request), fields, raw)

    async def search_by_url(self, request: Request) -> Response:
        """`GET /fhir/ImagingStudy?…`: what holds no identifier of a person, and the pages of a search."""
        accepts(request, FHIR_TYPES)
        return await self._search(request, query(request), (), b"")

    async def imaging_study(self, request: Request) -> Response:
        """`GET /fhir/ImagingStudy/{id}`."""
        return await self._read(request, "ImagingStudy", self._discovery.imaging_study)

    async def imaging_study_version(self, request: Request) -> Response:
        """`GET /fhir/ImagingStudy/{id}/_history/{version}`: the current version; any other is not kept."""
        read = partial(self._discovery.imaging_study, version=request.path_params["version"])
        return await self._read(request, "ImagingStudy", read)

    async def patient(self, request: Request) -> Response:
        """`GET /fhir/Patient/{id}`."""
        return await self._read(request, "Patient", self._discovery.patient)

    async def endpoint(self, request: Request) -> Response:
        """`GET /fhir/Endpoint/{id}`."""
        return await self._read(request, "Endpoint", self._discovery.endpoint)

    async def _search(self, request: Request, url: Pairs, body: Pairs, raw: bytes) -> Response:
        who, after = requester(request), None
        pages = [value for name, value in url if name == "_page"]
        if pages:
            url = [(name, value) for name, value in url if name != "_page"]
            if len(pages) > 1 or body or not PAGE.issuperset(name for name, _ in url):
                raise Invalid("beside one _page there may stand " + ", ".join(sorted(PAGE)))
            body, after = self._cursors.open(pages[0], who)
            body = [(name, value) for name, value in body if name not in {name for name, _ in url}]
        asked = b"&".join(part for part in (request.scope["query_string"], raw) if part)
        with about(query=asked):
            search = parse(url, body, self._terms)
            with about(patient=search.ihi):
                return FhirResponse(await self._discovery.search(who, search, asked, request_id(request), after))

    async def _read(self, request: Request, type_: str, read: Read) -> Response:
        accepts(request, FHIR_TYPES)
        no_parameters(request)
        id_ = request.path_params["id"]
        if not LOGICAL_ID.fullmatch(id_):
            raise NotFound(reason="id-form")
        with about(resource=f"{type_}/{id_}"):
            resource = await read(requester(request), id_, request_id(request))
        headers = {}
        if "versionId" in resource.get("meta", {}):
            version = resource["meta"]["versionId"]
            updated = datetime.fromisoformat(resource["meta"]["lastUpdated"]).astimezone(UTC)
            headers = {"ETag": f'W/"{version}"', "Last-Modified": format_datetime(updated, usegmt=True)}
        return FhirResponse(resource, headers=headers)
