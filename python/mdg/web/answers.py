"""How answers look: JSON by orjson, refusals as OperationOutcome (security-tests 4, "Short answers")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from mdg.errors import Problem
from mdg.fhir import FHIR_JSON, Json
from mdg.fhir.operation_outcome import operation_outcome


class FhirResponse(Response):
    """A FHIR resource."""

    media_type = FHIR_JSON

    def __init__(self, resource: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(resource), status, headers)


class JsonResponse(Response):
    """Any other JSON value."""

    media_type = "application/json"

    def __init__(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(value), status, headers)


def refusal(problem: Problem, request_id: str) -> FhirResponse:
    """The OperationOutcome of a refusal, with the headers that belong to it."""
    return FhirResponse(operation_outcome(problem, request_id), problem.status, problem.headers)
