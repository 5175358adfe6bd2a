"""The Subscription door: a client's own subscriptions (fhir-au 6.1; R5 Backport IG 1.1.0 for R4)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mdg.access.jwt import Malformed, strict_object
from mdg.errors import Invalid, NotFound, about
from mdg.exchange.notification import Notification
from mdg.fhir.search import LOGICAL_ID
from mdg.web.answers import FhirResponse
from mdg.web.asking import FHIR_TYPES, accepts, body, media_type, no_parameters, request_id, requester

LIMIT = 16 * 1024
"""Bytes of a Subscription; a good one has about 1000."""


class SubscriptionDoor:
    """`fhir` is the base under which the new resource is named."""

    def __init__(self, notification: Notification, fhir: str) -> None:
        self._notification = notification
        self._fhir = fhir

    async def create(self, request: Request) -> Response:
        """`POST /fhir/Subscription`."""
        accepts(request, FHIR_TYPES)
        no_parameters(request)
        media_type(request, FHIR_TYPES)
        try:
            asked = strict_object(await body(request, LIMIT))
        except Malformed:
            raise Invalid("the body is not one JSON object in strict form", reason="body-form") from None
        made = await self._notification.create(requester(request), asked, request_id(request))
        return FhirResponse(made, 201, {"Location": f"{self._fhir}/Subscription/{made['id']}"})

    async def read(self, request: Request) -> Response:
        """`GET /fhir/Subscription/{id}`."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            return FhirResponse(await self._notification.read(requester(request), id_, request_id(request)))

    async def delete(self, request: Request) -> Response:
        """`DELETE /fhir/Subscription/{id}`."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            await self._notification.delete(requester(request), id_, request_id(request))
        return Response(status_code=204)

    async def status(self, request: Request) -> Response:
        """`GET` or `POST /fhir/Subscription/{id}/$status`: one subscription, so there is nothing to ask by."""
        id_ = _id(request)
        with about(resource=f"Subscription/{id_}"):
            return FhirResponse(await self._notification.status(requester(request), id_, request_id(request)))


def _id(request: Request) -> str:
    accepts(request, FHIR_TYPES)
    no_parameters(request)
    id_: str = request.path_params["id"]
    if not LOGICAL_ID.fullmatch(id_):
        raise NotFound(reason="id-form")
    return id_
