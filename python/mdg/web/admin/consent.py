"""The operator's door of consent records: what a patient has permitted or denied. On the admin listener only.

A patient's number stands in bodies alone, never in an address.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from mdg.access import Recorded, RecordedConsents
from mdg.access.consents import Also
from mdg.access.jwt import Malformed, strict_object
from mdg.access.rules.consent import NotUnderstood
from mdg.audit import Audit
from mdg.errors import Invalid, NotFound
from mdg.fhir import Json
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import Ihi
from mdg.web.admin.state import admin_read
from mdg.web.answers import JsonResponse
from mdg.web.asking import FHIR_TYPES, body, form, media_type, request_id

LIMIT = 64 * 1024


class ConsentDoor:
    """`POST`, `PUT`, `DELETE` and search of consents. Each change is written together with its audit record."""

    def __init__(self, consents: RecordedConsents, audit: Audit) -> None:
        self._consents = consents
        self._audit = audit

    async def record(self, request: Request) -> Response:
        """`POST /consents`: keep a FHIR R4 Consent, which counts from now on and in every process.

        `patient.identifier` names the IHI. 201 with the id; 400 names the element that is not understood. Downloads
        that the consent no longer permits end within seconds.
        """
        return JsonResponse(_shown(await self._kept(request, None)), 201)

    async def replace(self, request: Request) -> Response:
        """`PUT /consents/{id}`: the same in place of an earlier Consent of that patient, with no moment between."""
        return JsonResponse(_shown(await self._kept(request, _id(request))))

    async def search(self, request: Request) -> Response:
        """`POST /consents/_search`: a form with `ihi`; the Consents of this patient, the oldest first."""
        pairs, _ = await form(request)
        match pairs:
            case [("ihi", value)]:
                pass
            case _:
                raise Invalid("the form has one field, ihi")
        try:
            ihi = Ihi.parse(value)
        except ValueError as error:
            raise Invalid(f"ihi: {error}") from None
        found = await self._consents.listed(ihi)
        await self._audit.record(replace(admin_read(request, "consents"), patient=ihi, count=len(found)))
        return JsonResponse({"consents": [{**_shown(one), "content": one.consent.content} for one in found]})

    async def end(self, request: Request) -> Response:
        """`DELETE /consents/{id}`: this Consent no longer counts. 404 when there is no such consent."""
        await self._consents.end(_id(request), self._recorded(request, "ended"))
        return Response(status_code=204)

    async def _kept(self, request: Request, replaces: str | None) -> Recorded:
        media_type(request, FHIR_TYPES)
        also = self._recorded(request, "recorded" if replaces is None else "replaced")
        try:
            return await self._consents.record(strict_object(await body(request, LIMIT)), also, replaces=replaces)
        except Malformed:
            raise Invalid("the body is one FHIR Consent in JSON, without a name twice or a fraction") from None
        except NotUnderstood as error:
            where = f"Consent.{error.where}" if error.where else "the body"
            raise Invalid(f"{where}: not understood here, so the record would deny everything") from None

    def _recorded(self, request: Request, change: str) -> Also:
        event = Event(Kind.CONSENT, Outcome.SUCCESS, request_id(request))

        async def also(connection: AsyncConnection, made: Recorded) -> None:
            details = (("change", change), ("status", str(made.consent.content["status"])))
            of = replace(event, patient=made.ihi, resource=f"Consent/{made.consent.id}", details=details)
            await self._audit.add(connection, of)

        return also


def _id(request: Request) -> str:
    try:
        return str(UUID(request.path_params["id"]))
    except ValueError:
        raise NotFound(reason="no-such-consent") from None


def _shown(one: Recorded) -> Json:
    status = one.consent.content["status"]
    return {"id": one.consent.id, "status": status, "since": one.since.isoformat(timespec="seconds")}
