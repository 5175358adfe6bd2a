"""The stand-in record locator: which services hold records of a person (IEF RG1).

A record is opened by `PUT /v1/records`, changed by `POST /v1/records/{id}/status` and found by `POST
/v1/records/_search`, each with a JSON body, so that no identifier of a person stands in a URL. Nothing lists all of
them, and a person of whom nothing is known is answered like one of whom nothing is held. It lives in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdg.access import Clock, Gate
from mdg.access.jwt import Malformed, strict_object
from mdg.errors import Problem
from mdg.model.identity import SERVICE_ID, HpiO, Ihi
from mdg.model.request import Requester
from mdg.sandbox.answers import body

RECORDS = 10_000  # records kept, removed ones included
WRITE = "system/DocumentReference.cu"
READ = "system/DocumentReference.rs"
NEXT = {"active": {"active", "archived", "removed"}, "archived": {"active", "archived", "removed"}, "removed": set()}
"""What a status may become; `removed` is the end of a record."""
TYPES = ("record", "registry")
RECORD = frozenset({"ihi", "service_id", "status", "type"})
TICK = timedelta(milliseconds=1)


@dataclass(slots=True)
class CatalogueEntry:
    """One record; `keys` are the Idempotency-Keys of the changes that made it what it is."""

    ihi: Ihi
    service_id: str
    type: str
    owner: HpiO
    status: str
    last_updated: datetime
    version: int = 1
    record_id: str = field(default_factory=lambda: secrets.token_hex(16))
    keys: set[str] = field(default_factory=set)

    def shown(self) -> dict[str, object]:
        """The record as it is answered."""
        time = self.last_updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "record_id": self.record_id,
            "version": self.version,
            "ihi": self.ihi,
            "service_id": self.service_id,
            "status": self.status,
            "type": self.type,
            "last_updated": time,
            "registered_by": self.owner,
            "sandbox": True,
        }


class Locator:
    """The records; `gate` says who asks, and `clock` (UTC) is the registry's."""

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._records: dict[str, CatalogueEntry] = {}
        self._owners: dict[str, HpiO] = {}
        self.routes = [
            Route("/v1/records", self._put, methods=["PUT"]),
            Route("/v1/records/_search", self._search, methods=["POST"]),
            Route("/v1/records/{id}/status", self._set_status, methods=["POST"]),
        ]

    async def _put(self, request: Request) -> Response:
        caller = await self._admit(request, WRITE)
        told, key = await _told(request, RECORD), _key(request)
        ihi, service, type_ = _ihi(told), told["service_id"], told["type"]
        if not SERVICE_ID.fullmatch(service) or type_ not in TYPES or told["status"] not in ("active", "archived"):
            raise HTTPException(400, "service_id is a ULID or UUID, type record or registry, status active or archived")
        if self._owners.setdefault(service, caller.organisation) != caller.organisation:
            raise HTTPException(403, "the service belongs to another organisation")
        same = [one for one in self._records.values() if (one.ihi, one.service_id, one.type) == (ihi, service, type_)]
        for one in same:
            if one.status != "removed":
                return JSONResponse(self._change(one, told["status"], key).shown())
            if key in one.keys:
                raise HTTPException(409, "the record of this Idempotency-Key was removed; a new key opens a new record")
        if len(self._records) >= RECORDS:
            raise HTTPException(503, f"the sandbox keeps {RECORDS} records; start it again")
        opened = CatalogueEntry(ihi, service, type_, caller.organisation, told["status"], self._now(), keys={key})
        self._records[opened.record_id] = opened
        return JSONResponse(opened.shown(), 201)

    async def _set_status(self, request: Request) -> Response:
        caller = await self._admit(request, WRITE)
        told, key = await _told(request, frozenset({"status"})), _key(request)
        record = self._records.get(request.path_params["id"])
        if record is None or record.owner != caller.organisation:
            raise HTTPException(404, "no such record")
        if key not in record.keys and told["status"] not in NEXT[record.status]:
            raise HTTPException(409, "this status cannot follow the present one; removed is final")
        return JSONResponse(self._change(record, told["status"], key).shown())

    async def _search(self, request: Request) -> Response:
        caller = await self._admit(request, READ)
        asked = await _told(request, frozenset({"ihi"}), frozenset({"type", "status"}))
        ihi = _ihi(asked)
        if caller.patient != ihi:
            raise HTTPException(403, "the token is not for this person")
        found = [
            one.shown()
            for one in self._records.values()
            if one.ihi == ihi
            and one.status != "removed"
            and asked.get("status", one.status) == one.status
            and asked.get("type", one.type) == one.type
        ]
        return JSONResponse({"records": found, "sandbox": True})

    async def _admit(self, request: Request, scope: str) -> Requester:
        """Who asks, by the token and the proof that a gateway asks for as well."""
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        headers = request.headers
        try:
            caller = await self._gate.authenticate(
                headers.getlist("authorization"), headers.getlist("dpop"), request.method, path
            )
        except Problem as error:
            raise HTTPException(error.status, f"send a token of this sandbox ({error.reason})") from error
        if scope not in caller.scopes:
            raise HTTPException(403, f"the scope {scope} is needed")
        return caller

    def _change(self, record: CatalogueEntry, status: str, key: str) -> CatalogueEntry:
        """The record with `status`; a change that was made before, or is none, leaves it as it is."""
        if key not in record.keys and record.status != status:
            record.status, record.version = status, record.version + 1
            record.last_updated = max(self._now(), record.last_updated + TICK)
        record.keys.add(key)
        return record

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC)


async def _told(
    request: Request, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> Mapping[str, str]:
    """The members of a JSON body, all of them text and none unknown; 400 otherwise."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        told = strict_object(await body(request))
    except Malformed as error:
        raise HTTPException(400, f"the body cannot be read: {error}") from None
    if not required <= told.keys() <= required | optional:
        raise HTTPException(400, f"the members are {', '.join(sorted(required | optional))}")
    if not all(isinstance(value, str) for value in told.values()):
        raise HTTPException(400, "every member is text")
    return {name: str(value) for name, value in told.items()}


def _ihi(told: Mapping[str, str]) -> Ihi:
    try:
        return Ihi.parse(told["ihi"])
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 0 < len(key) <= 64 or not key.isprintable():
        raise HTTPException(400, "a change has an Idempotency-Key of 1 to 64 characters")
    return key
