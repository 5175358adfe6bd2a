"""The admin door: numbers, records, and what this gateway retrieves as a consumer. Never on the public listener."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.access.jwt import Malformed, strict_object
from mdg.audit import Audit, Wanted
from mdg.errors import Forbidden, InputOutput, Invalid, MdgError, NotFound, NotSupported, Problem, Refused, Upstream
from mdg.exchange.reception import Reception
from mdg.fhir.imaging_study import UID
from mdg.fhir.search import Pairs
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO, Ihi
from mdg.store.index import IndexProblem
from mdg.store.schema import LARGEST
from mdg.web.answers import JsonResponse
from mdg.web.asking import body, form, media_type, query, request_id
from mdg.web.metrics import Metrics

BODY_LIMIT = 4096
ORIGIN_NOT_ALLOWED = "origin-not-allowed"
"""The reason of a refusal by `mdg.outbound`."""
AUDIT_FIELDS = {"requester", "since", "until", "outcome", "limit", "before"}
AUDIT_MOST = 1000
"""Records of one answer."""
FIELDS = {"gateway", "provider", "ihi", "study", "purpose"}


class AdminLock:
    """The operator's own credential. Without `token` the listener is on the loopback, which the settings made sure of;
    a token of the data plane opens nothing here (security-tests K6)."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    @property
    def asks(self) -> bool:
        """Whether a credential is needed."""
        return self._expected is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # A browser names the page that asks (Fetch Standard, "Origin"), and would send the form of a foreign page here.
        if any(name == b"origin" for name, _ in scope["headers"]):
            raise Forbidden(reason="web-page")
        if self._expected is None:
            if given:
                raise Forbidden(reason="admin-credential")
        elif len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise Forbidden(reason="admin-credential")
        await self._app(scope, receive, send)


class UpstreamRefused(Problem):
    """What another gateway sent does not hold; `reason` is the code of the fault."""

    status = 502
    issue = "security"


class OriginNotNamed(Problem):
    """The settings do not let this gateway ask that origin. The operator may be told so."""

    status = 403
    issue = "forbidden"


class AdminDoor:
    """`details` tells the health of all parts, `problems` what is not shown, `configuration`
    the settings without their secrets, `description` the OpenAPI document of both listeners."""

    def __init__(
        self,
        metrics: Metrics,
        audit: Audit,
        reception: Reception,
        *,
        details: Callable[[], Awaitable[Mapping[str, object]]],
        problems: Callable[[], Awaitable[Sequence[IndexProblem]]],
        configuration: Mapping[str, object],
        description: Callable[[], Mapping[str, object]],
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._problems = problems
        self._reception = reception
        self._details = details
        self._configuration = configuration
        self._description = description

    async def health(self, request: Request) -> Response:
        """`GET /health`."""
        return JsonResponse(await self._details())

    async def version(self, request: Request) -> Response:
        """`GET /version`."""
        details = await self._details()
        return JsonResponse({name: details[name] for name in ("version", "started")})

    async def configuration(self, request: Request) -> Response:
        """`GET /configuration`: the settings; secrets are masked."""
        await self._audit.record(admin_read(request, "configuration"))
        return JsonResponse(self._configuration)

    async def openapi(self, request: Request) -> Response:
        """`GET /openapi.json`: this description."""
        return JsonResponse(self._description())

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`, Prometheus text format."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def audit_list(self, request: Request) -> Response:
        """`GET /audit`: records, the newest first.

        Parameters: `requester` (client id, HPI-O, HPI-I or subject), `since` and `until` (ISO 8601), `outcome` (0, 4 or
        8), `limit` (at most 1000, by default 100), `before` (the `next` of the page before). A patient is named in a
        body only: `POST /audit/_search`.
        """
        return await self._listed(request, query(request))

    async def audit_search(self, request: Request) -> Response:
        """`POST /audit/_search`: the same for a form body, which may also hold `ihi`: who asked for this patient."""
        fields, _ = await form(request)
        if query(request):
            raise NotSupported("the parameters stand in the body")
        return await self._listed(request, fields, ihi=True)

    async def _listed(self, request: Request, fields: Pairs, *, ihi: bool = False) -> Response:
        asked = dict(fields)
        known = AUDIT_FIELDS | ({"ihi"} if ihi else set())
        if len(asked) != len(fields) or not known.issuperset(asked):
            raise NotSupported(f"the parameters are {', '.join(sorted(known))}, each once")
        try:
            wanted = _wanted(asked)
            limit, before = int(asked.get("limit", "100")), int(asked["before"]) if "before" in asked else None
        except (ValueError, OverflowError):  # a time of year 1 or 9999 may have no UTC
            raise Invalid("a parameter has no value of its kind") from None
        if not 0 < limit <= AUDIT_MOST:
            raise Invalid(f"limit is a number up to {AUDIT_MOST}")
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

    async def audit(self, request: Request) -> Response:
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

    async def problems(self, request: Request) -> Response:
        """`GET /problems`: files that are not served, studies that cannot be found, and what to do."""
        found = await self._problems()
        await self._audit.record(admin_read(request, "problems"))
        return JsonResponse({"problems": [asdict(problem) for problem in found]})

    async def retrieve(self, request: Request) -> Response:
        """`POST /retrievals`: fetch a study from another gateway, verify and keep it.

        JSON `{"gateway": URL, "ihi": "16 digits"}` and, optionally, `study` (StudyInstanceUID), `provider` (HPI-O of
        the organisation that must have signed) and `purpose`. 201 with what came in; 502 with the code of the first
        fault.
        """
        media_type(request, ("application/json",))
        asked = _asked(await body(request, BODY_LIMIT))
        try:
            provider = HpiO.parse(asked["provider"]) if "provider" in asked else None
            ihi = Ihi.parse(asked["ihi"])
        except (KeyError, ValueError):
            raise Invalid("ihi is a valid IHI, provider a valid HPI-O") from None
        study = asked.get("study")
        if study is not None and not UID.match(study):
            raise Invalid("study is a DICOM UID")
        try:
            received = await self._reception.receive(
                asked.get("gateway", ""),
                ihi,
                study,
                provider=provider,
                request_id=request_id(request),
                purpose=asked.get("purpose", "TREAT"),
            )
        except Refused as error:
            raise UpstreamRefused(f"what came does not hold: {error.code}: {error.why}", reason=error.code) from error
        except Forbidden as error:
            if error.reason != ORIGIN_NOT_ALLOWED:
                raise
            parts = urlsplit(asked.get("gateway", ""))
            how = f"name {parts.scheme}://{parts.netloc} under allow in the settings, then start the gateway again"
            raise OriginNotNamed(f"this gateway may not ask that one: {how}", reason=error.reason) from error
        except Problem:
            raise
        except MdgError as error:
            # The operator has no other place to see who is not reached, and why. A file of this gateway is not named.
            asked_of = isinstance(error, InputOutput) and error.part.startswith(("https://", "http://"))
            why = f"could not ask {error}" if asked_of else "what came could not be kept"
            raise Upstream(why, reason=type(error).__name__) from error
        return JsonResponse({**asdict(received), "request_id": request_id(request)}, 201)


def admin_read(request: Request, what: str) -> Event:
    """The record that an operator has read `what`."""
    return Event(Kind.ADMIN_READ, Outcome.SUCCESS, request_id(request), details=(("read", what),))


def _wanted(asked: Mapping[str, str]) -> Wanted:
    """The question that the parameters ask. `ValueError` if a value cannot be read."""
    return Wanted(
        patient=Ihi.parse(asked["ihi"]) if "ihi" in asked else None,
        requester=asked.get("requester"),
        since=datetime.fromisoformat(asked["since"]).astimezone() if "since" in asked else None,
        until=datetime.fromisoformat(asked["until"]).astimezone() if "until" in asked else None,
        outcome=Outcome(asked["outcome"]) if "outcome" in asked else None,
    )


def _asked(raw: bytes) -> dict[str, str]:
    try:
        given = strict_object(raw)
        asked = {name: value for name, value in given.items() if isinstance(value, str)}
        if FIELDS.issuperset(given) and len(asked) == len(given):
            return asked
    except Malformed:
        pass
    raise Invalid("the body is a JSON object of text, each member once: " + ", ".join(sorted(FIELDS)))
