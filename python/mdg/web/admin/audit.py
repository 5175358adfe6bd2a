"""The records of the audit for the operator. Each look at them is a record too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mdg.audit import Audit, Wanted
from mdg.errors import Invalid, NotFound, NotSupported
from mdg.fhir.search import Pairs
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import Ihi
from mdg.store.schema import LARGEST
from mdg.web.answers import JsonResponse
from mdg.web.asking import form, query, request_id

FIELDS = {"requester", "since", "until", "outcome", "limit", "before"}
MOST = 1000
"""Records of one answer."""


class AuditDoor:
    """Lists and shows records."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def list(self, request: Request) -> Response:
        """`GET /audit`: records, the newest first.

        Parameters: `requester` (client id, HPI-O, HPI-I or subject), `since` and `until` (ISO 8601), `outcome` (0, 4 or
        8), `limit` (at most 1000, by default 100), `before` (the `next` of the page before). A patient is named in a
        body only: `POST /audit/_search`.
        """
        return await self._listed(request, query(request))

    async def search(self, request: Request) -> Response:
        """`POST /audit/_search`: the same for a form body, which may also hold `ihi`: who asked for this patient."""
        fields, _ = await form(request)
        if query(request):
            raise NotSupported("the parameters stand in the body")
        return await self._listed(request, fields, ihi=True)

    async def _listed(self, request: Request, fields: Pairs, *, ihi: bool = False) -> Response:
        asked = dict(fields)
        known = FIELDS | ({"ihi"} if ihi else set())
        if len(asked) != len(fields) or not known.issuperset(asked):
            raise NotSupported(f"the parameters are {', '.join(sorted(known))}, each once")
        try:
            wanted = _wanted(asked)
            limit, before = int(asked.get("limit", "100")), int(asked["before"]) if "before" in asked else None
        except (ValueError, OverflowError):  # a time of year 1 or 9999 may have no UTC
            raise Invalid("a parameter has no value of its kind") from None
        if not 0 < limit <= MOST:
            raise Invalid(f"limit is a number up to {MOST}")
        if before is not None and not 0 < before <= LARGEST:
            raise Invalid("before is the next of the page before")
        found = await self._audit.listed(wanted, before=before, limit=limit)
        details = tuple((name, value) for name, value in fields if name != "ihi")
        await self._audit.record(
            Event(
                Kind.AUDIT_READ,
                Outcome.SUCCESS,
                request_id(request),
                patient=wanted.patient,
                count=len(found),
                details=details,
            )
        )
        events = [orjson.Fragment(event) for _, event in found]
        return JsonResponse({"events": events, "next": found[-1][0] if len(found) == limit else None})

    async def of_request(self, request: Request) -> Response:
        """`GET /audit/{request_id}`: the AuditEvents of one request, in the order they were written.

        `of_callers` are the newest 1000 of requests whose callers sent this id. This request is recorded as well.
        """
        asked = request.path_params["request_id"]
        events, of_callers = await self._audit.for_request(asked), await self._audit.for_callers_id(asked)
        if not events and not of_callers:
            raise NotFound
        details = (("records-of", asked),)
        await self._audit.record(Event(Kind.AUDIT_READ, Outcome.SUCCESS, request_id(request), details=details))
        return JsonResponse({"events": events, "of_callers": of_callers})


def _wanted(asked: Mapping[str, str]) -> Wanted:
    """The question that the parameters ask. `ValueError` if a value cannot be read."""
    return Wanted(
        patient=Ihi.parse(asked["ihi"]) if "ihi" in asked else None,
        requester=asked.get("requester"),
        since=datetime.fromisoformat(asked["since"]).astimezone() if "since" in asked else None,
        until=datetime.fromisoformat(asked["until"]).astimezone() if "until" in asked else None,
        outcome=Outcome(asked["outcome"]) if "outcome" in asked else None,
    )
