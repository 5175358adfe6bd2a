"""The Subscription door: a client's own subscriptions (spec/fhir 6; R5 Backport IG 1.1.0 for R4)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mdg.access.jwt import Malformed, strict_object
from mdg.errors import Invalid, NotFound, about
from mdg.exchange.subscription import Subscriptions
from mdg.fhir import subscription as fhir
from mdg.fhir.found import Server
from mdg.fhir.search import LOGICAL_ID
from mdg.web.asking import FHIR_TYPES, accepts, body, media_type, no_parameters, request_id, requester
from mdg.web.fhir.answers import FhirResponse

LIMIT = 16 * 1024
"""Bytes of a Subscription; a good one has about 1000."""


class SubscriptionDoor:
    """`server` is what resources say of this gateway."""

    def __init__(self, subscriptions: Subscriptions, server: Server) -> None:
        self._subscriptions = subscriptions
        self._server = server

    async def create(self, request: Request) -> Response:
        """`POST /fhir/Subscription`."""
        accepts(request, FHIR_TYPES)
        no_parameters(request)
        media_type(request, FHIR_TYPES)
        try:
            asked = strict_object(await body(request, LIMIT))
        except Malformed:
            raise Invalid("the body is not one JSON object in strict form", reason="body-form") from None
        wanted = fhir.parse(asked, self._server.canonical_base)
        made = await self._subscriptions.create(requester(request), wanted, request_id(request))
        location = f"{self._server.fhir}/Subscription/{made.id}"
        return FhirResponse(fhir.subscription(made, self._server.canonical_base), 201, {"Location": location})

    async def read(self, request: Request) -> Response:
        """`GET /fhir/Subscription/{id}`."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            found = await self._subscriptions.read(requester(request), id_, request_id(request))
        return FhirResponse(fhir.subscription(found, self._server.canonical_base))

    async def delete(self, request: Request) -> Response:
        """`DELETE /fhir/Subscription/{id}`."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            await self._subscriptions.delete(requester(request), id_, request_id(request))
        return Response(status_code=204)

    async def status(self, request: Request) -> Response:
        """`GET` or `POST /fhir/Subscription/{id}/$status`: one subscription, so there is nothing to ask by."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            found = await self._subscriptions.read(requester(request), id_, request_id(request))
        return FhirResponse(fhir.status(found, self._server.fhir, self._server.canonical_base))


def _id(request: Request) -> str:
    accepts(request, FHIR_TYPES)
    no_parameters(request)
    id_: str = request.path_params["id"]
    if not LOGICAL_ID.fullmatch(id_):
        raise NotFound(reason="id-form")
    return id_
