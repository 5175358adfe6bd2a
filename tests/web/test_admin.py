"""What the admin listener tells its operator: the settings without secrets, what goes on, and what can be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from mdg.app import create_admin, create_public
from mdg.cli.serve import folder_source
from mdg.fhir.search import SEARCHES
from mdg.sandbox.phantom import write_phantom
from mdg.web.asking import FORM

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
SECRET = "t" * 32
OPERATOR = {"Authorization": f"Bearer {SECRET}"}


async def test_the_configuration_holds_no_secret(start: Start) -> None:
    async with start(admin_token=SECRET) as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.admin}/configuration", headers=OPERATOR)
        assert answer.json()["public_url"] == gateway.url
        assert answer.json()["capabilities"]["retrieval"] is True
        assert SECRET not in answer.text
        assert (await gateway.consumer.http.get(f"{gateway.admin}/configuration")).status_code == 403


async def test_whoever_reads_the_audit_is_audited(start: Start) -> None:
    async with start() as gateway:
        search = await gateway.consumer.search()
        asked = search.headers["x-request-id"]
        read = await gateway.consumer.http.get(f"{gateway.admin}/audit/{asked}")
        upper = await gateway.consumer.http.get(f"{gateway.admin}/audit/{asked.upper()}")
        (record,) = await gateway.records(read.headers["x-request-id"])
    assert [event["type"]["code"] for event in read.json()["events"]] == ["rest"]
    assert upper.json()["events"] == read.json()["events"]
    assert (record["type"]["code"], record["action"]) == ("110101", "R")
    assert [agent["who"]["display"] for agent in record["agent"] if agent["requestor"]] == ["operator"]
    assert {"type": "records-of", "valueString": asked} in record["entity"][-1]["detail"]


@pytest.mark.parametrize(
    "parameter",
    [
        "before=0",
        "before=9223372036854775808",
        "since=9999-12-31T23:59:59-23:59",
        "until=0001-01-01T00:00:00%2B14:00",
        "limit=0",
        "limit=1001",
    ],
)
async def test_a_value_that_no_record_has_is_a_mistake_of_the_caller(start: Start, parameter: str) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.admin}/audit?{parameter}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["title"]) == ("invalid", "Bad Request")


async def test_the_description_is_valid_and_names_every_address(start: Start) -> None:
    async with start(admin_token=SECRET) as gateway:
        described = (await gateway.consumer.http.get(f"{gateway.admin}/openapi.json", headers=OPERATOR)).json()
        listeners = create_public(gateway.rooms), create_admin(gateway.rooms)
        routed = {route.path for app in listeners for route in app.routes if isinstance(route, Route)}
        assert (await gateway.consumer.http.get(f"{gateway.url}/openapi.json")).status_code == 404  # K7
    OpenAPIV31SpecValidator(described).validate()
    assert set(described["paths"]) == routed
    search, live = described["paths"]["/fhir/ImagingStudy/_search"]["post"], described["paths"]["/livez"]["get"]
    assert (search["security"], live["security"]) == ([{"dpop": []}], [])
    for type_, table in SEARCHES.items():
        form = described["paths"][f"/fhir/{type_}/_search"]["post"]["requestBody"]["content"][FORM]["schema"]
        assert [*form["properties"]] == [*table.parameters]
        asked = {one["name"] for one in described["paths"][f"/fhir/{type_}"]["get"]["parameters"]}
        assert asked == {name for name, one in table.parameters.items() if not one.person}
    assert described["paths"]["/jobs"]["get"]["security"] == [{"operator": []}]
    assert live["description"] == "the process answers."


async def test_health_counts_what_the_list_of_problems_names(start: Start, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_phantom(images, slices=1)
    (images / "README").write_text("no DICOM")
    (images / ".DS_Store").write_text("no problem")
    async with start(sources=folder_source([images]), identity=None) as gateway:
        problems = (await gateway.consumer.http.get(f"{gateway.admin}/problems")).json()["problems"]
        health = (await gateway.consumer.http.get(f"{gateway.admin}/health")).json()
    assert [one["code"] for one in problems] == ["E_NOT_DICOM", "no-ihi"]
    assert health["problems"] == 2


async def test_a_web_page_cannot_ask_in_the_operators_name(start: Start) -> None:
    async with start() as gateway:
        http, page = gateway.consumer.http, {"Origin": "https://evil.test"}
        form = {"since": "2026-01-01"}
        assert (await http.post(f"{gateway.admin}/audit/_search", data=form)).status_code == 200
        refused = await http.post(f"{gateway.admin}/audit/_search", data=form, headers=page)
        (record,) = await gateway.records(refused.headers["x-request-id"])
    assert refused.status_code == 403
    assert record["outcomeDesc"] == "web-page"
