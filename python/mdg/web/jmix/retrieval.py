"""The JMIX door: envelopes by study, by id and by signed request; spec/fhir 5 lists its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.access.ticket import from_query
from mdg.errors import Invalid, NotFound, NotSupported, about
from mdg.exchange.release import Release, Wanted
from mdg.exchange.retrieval import Granted, Retrieval
from mdg.fhir.imaging_study import UID
from mdg.web.answers import JsonResponse
from mdg.web.asking import accepts, body, media_type, query, request_id, requester
from mdg.web.jmix.bulk import BulkResponse
from mdg.web.jmix.streams import Streams
from mdg.web.metrics import Metrics

JOSE = ("application/jose",)
ZIP = ("application/zip",)
JSON = ("application/json",)
REQUEST_LIMIT = 64 * 1024
"""Bytes of a signed request; one of today's form has about 1 kB."""


class JmixDoor:
    """Doors of retrieval on the public listener; `public_url` is where callers reach it."""

    def __init__(self, retrieval: Retrieval, public_url: str, metrics: Metrics, streams: Streams) -> None:
        self._retrieval = retrieval
        self._public_url = public_url
        self._metrics = metrics
        self._streams = streams

    async def request(self, request: Request) -> Response:
        """`POST /api/jmix/requests`: 201 and where the envelope is."""
        accepts(request, JSON)
        _no_query(request)
        media_type(request, JOSE)
        jws = await body(request, REQUEST_LIMIT)
        granted = await self._retrieval.request(requester(request), jws, request_id(request))
        return JsonResponse(self._grant(granted), 201, {"Location": self._public_url + granted.path})

    async def renew(self, request: Request) -> Response:
        """`POST /api/jmix/r/{recipe}/renew`: a new ticket for a fresh token."""
        accepts(request, JSON)
        _no_query(request)
        if await body(request, 1):
            raise Invalid("a renewal has no body")
        recipe = request.path_params["recipe"]
        with about(details=(("recipe", recipe),)):
            granted = await self._retrieval.renew(requester(request), recipe, request_id(request))
        return JsonResponse(self._grant(granted))

    async def download(self, request: Request) -> ASGIApp:
        """`GET /api/jmix/r/{recipe}?t=…`: the bytes of a granted envelope."""
        accepts(request, ZIP)
        ticket = from_query(request.scope["query_string"])
        recipe = request.path_params["recipe"]
        release = partial(self._retrieval.download, id_=recipe, ticket=ticket)
        return self._sent(request, release, details=(("recipe", recipe),))

    async def by_study(self, request: Request) -> ASGIApp:
        """`GET /api/jmix?studyInstanceUid=…`: the envelope of a study, sealed to the client's key in the directory."""
        accepts(request, ZIP)
        match query(request):
            case [("studyInstanceUid", uid)] if UID.match(uid):
                return self._sent(request, partial(self._retrieval.fetch, uid=uid), study_uid=uid)
            case [("studyInstanceUid", _)]:
                raise Invalid("studyInstanceUid is a DICOM UID")
        raise NotSupported("this address takes exactly one parameter, studyInstanceUid")

    async def by_id(self, request: Request) -> ASGIApp:
        """`GET /api/jmix/{id}`: a finished envelope."""
        accepts(request, ZIP)
        _no_query(request)
        id_ = _envelope_id(request)
        return self._sent(request, partial(self._retrieval.stored, envelope_id=id_), envelope_id=id_)

    async def manifest(self, request: Request) -> Response:
        """`GET /api/jmix/{id}/manifest`: the exact bytes that were signed."""
        accepts(request, JSON)
        _no_query(request)
        id_ = _envelope_id(request)
        with about(envelope_id=id_):
            exact = await self._retrieval.manifest(requester(request), id_, request_id(request))
        return Response(exact, media_type="application/json")

    def _sent(self, request: Request, release: Callable[..., Awaitable[Release]], **asked: object) -> ASGIApp:
        """The release as an answer, with a place among the streams from before its record until after its end. `asked`
        is what a refusal is about."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            who = requester(request)
            with about(**asked), self._streams.place(who):
                given = await release(requester=who, wanted=_wanted(request), request_id=request_id(request))
                await BulkResponse(given, self._metrics)(scope, receive, send)

        return answer

    def _grant(self, granted: Granted) -> dict[str, object]:
        return {
            "url": self._public_url + granted.path,
            "length": granted.length,
            "etag": granted.etag,
            "segments": 0,
            "not_after": granted.not_after,
            "fs": granted.fs,
        }


def _wanted(request: Request) -> Wanted:
    """A `Range` that is there twice is malformed and so ignored; the lines of a list are one list (RFC 9110 5.3)."""
    ranges = request.headers.getlist("range")
    if_match, if_none_match = (
        ", ".join(lines) if (lines := request.headers.getlist(name)) else None for name in ("if-match", "if-none-match")
    )
    return Wanted(
        request.method,
        ranges[0] if len(ranges) == 1 else None,
        request.headers.get("if-range"),
        if_match=if_match,
        if_none_match=if_none_match,
    )


def _no_query(request: Request) -> None:
    if request.scope["query_string"]:
        raise NotSupported("this address takes no parameters")


def _envelope_id(request: Request) -> str:
    text = str(request.path_params["id"])
    try:
        if str(UUID(text)) == text:
            return text
    except ValueError:
        pass
    raise NotFound(reason="id-form")
