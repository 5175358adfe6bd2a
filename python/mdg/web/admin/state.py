"""The state of the gateway for its operator: health, settings, problems, metrics, and the addresses there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from mdg.audit import Audit
from mdg.model.event import Event, Kind, Outcome
from mdg.store.index import IndexProblem
from mdg.web.answers import JsonResponse
from mdg.web.asking import request_id
from mdg.web.metrics import Metrics


class StateDoor:
    """`details` tells the health of all parts, `problems` what is not shown, `configuration` the settings without their
    secrets, `description` the OpenAPI document of both listeners."""

    def __init__(
        self,
        metrics: Metrics,
        audit: Audit,
        *,
        details: Callable[[], Awaitable[Mapping[str, object]]],
        problems: Callable[[], Awaitable[Sequence[IndexProblem]]],
        configuration: Mapping[str, object],
        description: Callable[[], Mapping[str, object]],
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._problems = problems
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

    async def problems(self, request: Request) -> Response:
        """`GET /problems`: files that are not served, studies that cannot be found, and what to do."""
        found = await self._problems()
        await self._audit.record(admin_read(request, "problems"))
        return JsonResponse({"problems": [asdict(problem) for problem in found]})


def admin_read(request: Request, what: str) -> Event:
    """The record that an operator has read `what`."""
    return Event(Kind.ADMIN_READ, Outcome.SUCCESS, request_id(request), details=(("read", what),))
