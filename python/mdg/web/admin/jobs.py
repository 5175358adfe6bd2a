"""The operator's door of jobs: what still has to be done, why it is not, and having it done now or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from mdg.audit import Audit
from mdg.errors import Invalid, NotFound, NotSupported
from mdg.jobs import Job, Jobs, State
from mdg.jobs.loop import Also
from mdg.model.event import Event, Kind, Outcome
from mdg.store.schema import LARGEST
from mdg.web.admin.state import admin_read
from mdg.web.answers import JsonResponse
from mdg.web.asking import body, query, request_id

MOST = 1000
"""Jobs of one answer."""
OPEN = "open"
"""The value of `state` that means waiting and running jobs together."""
PARAMETERS = ("before", "kind", "limit", "state")


class JobsDoor:
    """Reads of jobs, and their changes. Each look is recorded, each change together with its record."""

    def __init__(self, jobs: Jobs, audit: Audit) -> None:
        self._jobs = jobs
        self._audit = audit

    async def list(self, request: Request) -> Response:
        """`GET /jobs`: what still has to be done, the newest first, and how many jobs there are of each kind.

        Parameters: `state` (open, waiting, running, done, failed, cancelled; by default open), `kind`, `limit` (at most
        1000, by default 100), `before` (the `next` of the page before).
        """
        asked = dict(query(request))
        if len(asked) != len(query(request)) or not set(PARAMETERS).issuperset(asked):
            raise NotSupported(f"the parameters are {', '.join(PARAMETERS)}, each once")
        state = asked.get("state", OPEN)
        if state != OPEN and state not in set(State):
            raise Invalid(f"state is {OPEN} or one of {', '.join(State)}")
        limit, before = _number(asked.get("limit", "100"), MOST, "limit"), None
        if "before" in asked:
            before = _number(asked["before"], LARGEST, "before")
        states = [State.WAITING, State.RUNNING] if state == OPEN else [State(state)]
        found = await self._jobs.listed(states=states, kind=asked.get("kind"), before=before, most=limit)
        counts = await self._jobs.counts()
        await self._audit.record(admin_read(request, "jobs"))
        page = {"jobs": [_shown(job) for job in found], "next": found[-1].id if len(found) == limit else None}
        return JsonResponse({**page, "counts": counts})

    async def show(self, request: Request) -> Response:
        """`GET /jobs/{id}`: one job. 404 when there is none of this number."""
        found = await self._jobs.find(_id(request))
        if found is None:
            raise NotFound(reason="no-such-job")
        await self._audit.record(admin_read(request, f"jobs/{found.id}"))
        return JsonResponse(_shown(found))

    async def retry(self, request: Request) -> Response:
        """`POST /jobs/{id}/retry`: try a job now that waits, has failed or was cancelled. 409 for any other."""
        return await self._changed(request, self._jobs.retry, "tried now")

    async def cancel(self, request: Request) -> Response:
        """`POST /jobs/{id}/cancel`: do not do the job; what runs stops within seconds. 409 when it has ended."""
        return await self._changed(request, self._jobs.cancel, "cancelled")

    async def _changed(self, request: Request, change: Callable[[int, Also], Awaitable[Job]], what: str) -> Response:
        if await body(request, 1):
            raise Invalid("a change of a job has no body")
        event = Event(Kind.JOB, Outcome.SUCCESS, request_id(request))

        async def also(connection: AsyncConnection, job: Job) -> None:
            details = (("change", what), ("job", str(job.id)), ("kind", job.kind), ("about", job.about))
            await self._audit.add(connection, replace(event, details=details))

        return JsonResponse(_shown(await change(_id(request), also)))


def _shown(job: Job) -> Mapping[str, object]:
    """A job without its payload, which may name people."""
    return {
        "id": job.id,
        "kind": job.kind,
        "about": job.about,
        "state": job.state,
        "tries": job.tries,
        "due": _time(job.due),
        "created": _time(job.created),
        "finished": _time(job.finished),
        "process": job.owner,
        "error": job.error,
        "why": job.why,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _number(text: str, most: int, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) <= most):
        raise Invalid(f"{name} is a number from 1 to {most}")
    return int(text)


def _id(request: Request) -> int:
    text = str(request.path_params["id"])
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise NotFound(reason="no-such-job")
    return int(text)
