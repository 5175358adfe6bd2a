"""Appendix 4, "Valid requests for data": what a request must have before anything is released (A4.1 to A4.5 of
docs/conformance.md). Each demand is taken away alone, and asked of both doors: discovery and payload."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.authority import ACT_REASON
from tests.negative.world import Answer, World, opened

from mdg.model.identity import HpiO
from mdg.sandbox.identifiers import made_up

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with opened(tmp_path_factory.mktemp("world")) as made:
        yield made


async def asked(world: World, identity: dict[str, Any]) -> tuple[Answer, Answer]:
    """A search, and a request for the payload, by a good token in which `identity` is changed."""
    token = world.forgery.token({"claims": {"extensions": {"ihe_iua": identity}}})
    body = f"patient.identifier={world.words['ihi']}".encode()
    found = await world.call(token, "POST", "/fhir/ImagingStudy/_search", body=body)
    sent = await world.call(token, "GET", "/api/jmix", query=f"?studyInstanceUid={world.words['uid']}")
    return found, sent


def refused(answers: tuple[Answer, Answer]) -> bool:
    """Both are 403 and hold an outcome that names nothing, no study and no envelope."""
    for answer in answers:
        if answer.status != 403 or json.loads(answer.body)["resourceType"] != "OperationOutcome":
            return False
    return True


async def test_a4_1_a_request_without_one_identified_patient_is_refused(world: World) -> None:
    found, sent = await asked(world, {})
    assert (found.status, json.loads(found.body)["total"], sent.status) == (200, 1, 200)
    assert refused(await asked(world, {"person_id": None}))
    token = world.forgery.token({})
    everybody = await world.call(token, "POST", "/fhir/ImagingStudy/_search", body=b"modality=CT")
    assert (everybody.status, json.loads(everybody.body)["issue"][0]["code"]) == (400, "required")


async def test_a4_3_an_organisation_that_the_directory_suspends_is_refused(world: World) -> None:
    suspended = made_up(HpiO, "a practice that was closed")
    world.services.suspended.add(suspended)
    assert refused(await asked(world, {"subject_organization_id": suspended.uri}))


async def test_a4_4_a_token_without_a_purpose_is_refused(world: World) -> None:
    nothing: tuple[list[str] | None, ...] = (None, [])
    for purposes in nothing:
        found, sent = await asked(world, {"purpose_of_use": purposes})
        assert {found.status, sent.status} <= {401, 403}, (purposes, found.text, sent.text)


async def test_a4_5_without_a_consent_only_treatment_is_answered(world: World) -> None:
    for code, allowed in (("TREAT", True), ("ETREAT", True), ("HOPERAT", False), ("HRESCH", False), ("PATRQT", False)):
        found, sent = await asked(world, {"purpose_of_use": [{"system": ACT_REASON, "code": code}]})
        shown = json.loads(found.body)
        assert (found.status, shown["total"], len(shown.get("entry", []))) == (200, allowed, allowed), code
        assert sent.status == (200 if allowed else 404), code
        if not allowed:
            assert json.loads(sent.body)["resourceType"] == "OperationOutcome"
