"""One standard on a listener: its addresses, and how its refusals look. The route table of a listener lists them.

There is one type of error, `Problem`. A standard says what a client of its own can read: FHIR an OperationOutcome, the
admin listener a problem document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute

from mdg.errors import Problem


@dataclass(frozen=True, slots=True)
class RefusalForm:
    """The form of a refusal: its media type, and its content for a problem and the id of the request."""

    media_type: str
    content: Callable[[Problem, str], Mapping[str, Any]]

    def answer(self, problem: Problem, request_id: str) -> Response:
        """The answer, with the headers that belong to the problem, such as the challenge of RFC 6750 3."""
        body = orjson.dumps(self.content(problem, request_id))
        return Response(body, problem.status, problem.headers, self.media_type)


def problem_document(problem: Problem, request_id: str) -> Mapping[str, Any]:
    """A problem document (RFC 9457). `code` is the FHIR issue code, which is the same word at every door; `instance`
    names the request."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.issue,
        **({"detail": problem.diagnostics} if problem.diagnostics else {}),
        "instance": f"urn:uuid:{request_id}",
    }


PROBLEM_DOCUMENT = RefusalForm("application/problem+json", problem_document)


@dataclass(frozen=True, slots=True)
class Standard:
    """The `routes` of one standard, all of which lie at or below `path`, and the form of a refusal there, at an address
    that is not routed too. The path "" covers every address."""

    path: str
    refusal: RefusalForm
    routes: Sequence[BaseRoute]

    def covers(self, address: str) -> bool:
        """Whether an address is one of this standard's."""
        return not self.path or address == self.path or address.startswith(f"{self.path}/")


def routes_of(standards: Iterable[Standard]) -> list[BaseRoute]:
    """All routes of a listener."""
    return [route for standard in standards for route in standard.routes]
