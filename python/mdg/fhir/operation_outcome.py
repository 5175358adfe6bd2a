"""OperationOutcome: every refusal of the gateway, in one shape (spec/fhir 2.6, spec/hostile-input 2)."""

from __future__ import annotations

from collections.abc import Sequence

from mdg.errors import Problem
from mdg.fhir import Json


def operation_outcome(problem: Problem, request_id: str) -> Json:
    """What the caller is told about `problem`: its issue code, its diagnostics, and the request id to quote."""
    error: Json = {"severity": "error", "code": problem.issue}
    if problem.diagnostics:
        error["diagnostics"] = problem.diagnostics
    return {"resourceType": "OperationOutcome", "issue": [error, _request(request_id)]}


def partial_outcome(unanswered: Sequence[tuple[str, str]], request_id: str) -> Json:
    """What is missing from a search: (source, issue code `timeout` or `incomplete`) of each that gave no answer."""
    issues: list[Json] = [
        {"severity": "warning", "code": code, "diagnostics": f"source {source} did not answer; its studies are missing"}
        for source, code in unanswered
    ]
    return {"resourceType": "OperationOutcome", "issue": [*issues, _request(request_id)]}


def _request(request_id: str) -> Json:
    return {"severity": "information", "code": "informational", "diagnostics": f"X-Request-ID {request_id}"}
