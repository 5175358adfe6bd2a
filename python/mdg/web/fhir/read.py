"""Reads of one resource by its logical id, and the CapabilityStatement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from mdg.errors import NotFound, about
from mdg.exchange.discovery import Discovery
from mdg.fhir import Json
from mdg.fhir.found import Server, address_resource, patient_resource, study_resource
from mdg.fhir.search import LOGICAL_ID
from mdg.model.request import Requester
from mdg.web.asking import FHIR_TYPES, accepts, no_parameters, request_id, requester
from mdg.web.fhir.answers import FhirResponse

T = TypeVar("T")


class ReadDoor:
    """Reads of what discovery shows. `statement` makes the CapabilityStatement of the listener that this door is on."""

    def __init__(self, discovery: Discovery, server: Server, statement: Callable[[], Json]) -> None:
        self._discovery = discovery
        self._server = server
        self._statement = statement

    async def metadata(self, request: Request) -> Response:
        """`GET /fhir/metadata`: public, holds no patient's data, may be kept five minutes."""
        accepts(request, FHIR_TYPES)
        no_parameters(request, mode=("full",))
        return FhirResponse(self._statement(), headers={"Cache-Control": "max-age=300"})

    async def imaging_study(self, request: Request) -> Response:
        """`GET /fhir/ImagingStudy/{id}`."""
        return await self._read(request, "ImagingStudy", self._discovery.study, study_resource)

    async def imaging_study_version(self, request: Request) -> Response:
        """`GET /fhir/ImagingStudy/{id}/_history/{version}`: the current version; any other is not kept."""
        read = partial(self._discovery.study, version=request.path_params["version"])
        return await self._read(request, "ImagingStudy", read, study_resource)

    async def patient(self, request: Request) -> Response:
        """`GET /fhir/Patient/{id}`."""
        return await self._read(request, "Patient", self._discovery.patient, patient_resource)

    async def endpoint(self, request: Request) -> Response:
        """`GET /fhir/Endpoint/{id}`."""
        return await self._read(request, "Endpoint", self._discovery.address, address_resource)

    async def _read(
        self,
        request: Request,
        type_: str,
        read: Callable[[Requester, str, str], Awaitable[T]],
        render: Callable[[T, Server], Json],
    ) -> Response:
        accepts(request, FHIR_TYPES)
        no_parameters(request)
        id_ = request.path_params["id"]
        if not LOGICAL_ID.fullmatch(id_):
            raise NotFound(reason="id-form")
        with about(resource=f"{type_}/{id_}"):
            found = await read(requester(request), id_, request_id(request))
        resource = render(found, self._server)
        headers = {}
        if "versionId" in resource.get("meta", {}):
            version = resource["meta"]["versionId"]
            updated = datetime.fromisoformat(resource["meta"]["lastUpdated"]).astimezone(UTC)
            headers = {"ETag": f'W/"{version}"', "Last-Modified": format_datetime(updated, usegmt=True)}
        return FhirResponse(resource, headers=headers)
