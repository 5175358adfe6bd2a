"""Each standard refuses in its own form, and the route table alone says which form an address has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.routing import Mount, Route
from tests.web.test_guarantees import EVERY_DOOR

from mdg.app import create_admin, create_public
from mdg.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from mdg.web.fhir.answers import OPERATION_OUTCOME
from mdg.web.standard import PROBLEM_DOCUMENT, RefusalForm, Standard

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
ID = "3f1c7a52-5d0b-4f0e-9a52-2f0d3f1c7a52"


async def test_each_route_lies_in_the_one_standard_that_covers_it(start: Start) -> None:
    async with start(**EVERY_DOOR) as gateway:
        for made in (create_public, create_admin):
            standards: list[Standard] = made(gateway.rooms).user_middleware[0].kwargs["standards"]  # type: ignore[assignment] # any object
            assert standards[-1].path == ""
            for standard in standards:
                for route in standard.routes:
                    assert isinstance(route, Route | Mount)
                    assert next(one for one in standards if one.covers(route.path)) is standard, route.path


@pytest.mark.parametrize(("form", "code"), [(OPERATION_OUTCOME, "issue"), (PROBLEM_DOCUMENT, "code")])
def test_status_challenge_and_other_headers_are_those_of_the_error_in_every_form(form: RefusalForm, code: str) -> None:
    for problem in (Unauthenticated(reason="x"), Forbidden(reason="x"), NotFound(), Unavailable(reason="x")):
        answer = form.answer(problem, ID)
        assert answer.status_code == problem.status
        assert {**answer.headers, **{k.lower(): v for k, v in problem.headers.items()}} == {**answer.headers}
        assert answer.headers["content-type"] == form.media_type
        assert problem.issue in json.dumps(json.loads(bytes(answer.body))[code])
        assert ID in bytes(answer.body).decode()
    assert form.answer(Unauthenticated(reason="x"), ID).headers["www-authenticate"] == (
        'DPoP error="invalid_token", algs="ES256"'
    )


def test_a_problem_document_has_the_members_of_rfc_9457() -> None:
    answer = PROBLEM_DOCUMENT.answer(Invalid("limit is a number", reason="secret"), ID)
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "code": "invalid",
        "detail": "limit is a number",
        "instance": f"urn:uuid:{ID}",
    }


@pytest.mark.parametrize(
    ("listener", "path", "status", "media_type"),
    [
        ("url", "/fhir/Observation", 404, "application/fhir+json"),
        ("url", "/fhir//x", 400, "application/fhir+json"),
        ("url", "/api/jmix/x/y/z", 404, "application/fhir+json"),
        ("url", "/nothing", 404, "application/fhir+json"),
        ("admin", "/nothing", 404, "application/problem+json"),
        ("admin", "/fhir/metadata", 404, "application/problem+json"),
        ("admin", "//x", 400, "application/problem+json"),
        ("admin", "/audit?limit=x", 400, "application/problem+json"),
    ],
)
async def test_an_address_that_is_not_there_is_refused_in_the_form_of_its_place(
    start: Start, listener: str, path: str, status: int, media_type: str
) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{getattr(gateway, listener)}{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, media_type)
