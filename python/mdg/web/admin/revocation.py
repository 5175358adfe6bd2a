"""The operator's door of revocations: whose tokens are refused from now on. On the admin listener only."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from mdg.access import Of, Revocation, Revocations
from mdg.access.jwt import Malformed, strict_object
from mdg.access.revocations import Also
from mdg.audit import Audit
from mdg.errors import Invalid
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiI, HpiO
from mdg.web.admin.state import admin_read
from mdg.web.answers import JsonResponse
from mdg.web.asking import body, media_type, request_id

LIMIT = 4096
LONGEST = 256
"""Characters of a value; no claim of a token that is let in has more."""


class RevocationDoor:
    """`POST`, `GET` and `DELETE` of revocations. Each change is written together with its audit record."""

    def __init__(self, revocations: Revocations, audit: Audit) -> None:
        self._revocations = revocations
        self._audit = audit

    async def revoke(self, request: Request) -> Response:
        """`POST /revocations`: refuse every token that names a value, from now on and in every process.

        JSON `{"kind": KIND, "value": VALUE}`; KIND is `token` (its `jti`), `client` (`client_id`), `subject` (`sub`),
        `practitioner` (HPI-I) or `organisation` (HPI-O). 201 with the revocation, also when it was there before.
        Downloads that run end within seconds.
        """
        media_type(request, ("application/json",))
        kind, value = _asked(await body(request, LIMIT))
        made = await self._revocations.add(kind, value, self._recorded(request, "revoked"))
        return JsonResponse(_shown(made), 201)

    async def list(self, request: Request) -> Response:
        """`GET /revocations`: what is revoked, the oldest first."""
        found = await self._revocations.all()
        await self._audit.record(admin_read(request, "revocations"))
        return JsonResponse({"revocations": [_shown(one) for one in found]})

    async def end(self, request: Request) -> Response:
        """`DELETE /revocations/{id}`: accept these tokens again. 404 when there is no such revocation."""
        await self._revocations.remove(request.path_params["id"], self._recorded(request, "ended"))
        return Response(status_code=204)

    def _recorded(self, request: Request, change: str) -> Also:
        event = Event(Kind.REVOCATION, Outcome.SUCCESS, request_id(request))

        async def also(connection: AsyncConnection, made: Revocation) -> None:
            details = (("change", change), (str(made.kind), made.value), ("revocation", made.id))
            await self._audit.add(connection, replace(event, details=details))

        return also


def _asked(raw: bytes) -> tuple[Of, str]:
    try:
        match strict_object(raw):
            case {"kind": str(kind), "value": str(value), **more} if not more:
                return Of(kind), _value(Of(kind), value)
    except (Malformed, ValueError):
        pass
    raise Invalid(f"the body is a JSON object of kind ({', '.join(Of)}) and value, as tokens have it, each once")


def _value(kind: Of, value: str) -> str:
    """`value` as tokens have it; `ValueError` when no token can."""
    match kind:
        case Of.ORGANISATION:
            return HpiO.parse(value)
        case Of.PRACTITIONER:
            return HpiI.parse(value)
    if not 0 < len(value) <= LONGEST or not value.isprintable():
        raise ValueError("no claim has this value")
    return value


def _shown(one: Revocation) -> dict[str, str]:
    return {"id": one.id, "kind": one.kind, "value": one.value, "since": one.since.isoformat(timespec="seconds")}
