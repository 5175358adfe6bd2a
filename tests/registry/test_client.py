"""The registry as a stranger: whatever it answers is read strictly, refused by kind, and never repeated."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.client.conftest import Stranger
from tests.client.conftest import stranger as stranger  # noqa: PLC0414 - a fixture is found by being a name here
from tests.registry.locators import calling

from mdg.errors import Problem, Unavailable, Upstream
from mdg.model.identity import Ihi
from mdg.registry import Registry
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up

pytestmark = pytest.mark.anyio

SERVICE = "01JV3W8ZC0D2E4F6G8H0J2K4M6"
RECORD: dict[str, Any] = {
    "record_id": "01JV3W9Q4M6S8T2B5N7X0ZK1CE",
    "version": 1,
    "ihi": EXAMPLE_IHI,
    "service_id": SERVICE,
    "status": "active",
    "type": "record",
    "last_updated": "2026-05-02T01:12:09.114Z",
    "more": {"a": 1},
}


@pytest.fixture
async def registry(stranger: Stranger, tmp_path: Path) -> AsyncIterator[Registry]:
    async with calling(stranger.url, tmp_path, EXAMPLE_PROVIDER) as registry:
        yield registry


def answering(stranger: Stranger, value: object, status: int = 200) -> None:
    async def answer(_: Request) -> Response:
        return JSONResponse(value, status)

    stranger.answers |= dict.fromkeys(("/v1/records", "/v1/records/_search", "/v1/records/r/status"), answer)


async def test_a_record_is_read_with_all_its_fields(registry: Registry, stranger: Stranger) -> None:
    answering(stranger, RECORD, 201)
    record = await registry.put(EXAMPLE_IHI, SERVICE, "key")
    assert (record.record_id, record.version, record.service_id) == (RECORD["record_id"], 1, SERVICE)
    assert record.last_updated.isoformat() == "2026-05-02T01:12:09.114000+00:00"
    assert EXAMPLE_IHI not in repr(record)


@pytest.mark.parametrize(
    "change",
    [
        {"record_id": "../../x"},
        {"record_id": "r" * 65},
        {"version": 0},
        {"version": True},
        {"version": 1 << 60},
        {"ihi": "8003608833357362"},
        {"ihi": made_up(Ihi, "another")},
        {"service_id": "01JV3W8ZC0D2E4F6G8H0J2K4M7"},
        {"service_id": "x"},
        {"status": "gone"},
        {"status": "archived"},
        {"type": "registry"},
        {"type": None},
        {"last_updated": "2026-05-02"},
        {"last_updated": "2026-13-02T01:12:09.114Z"},
    ],
)
async def test_a_record_that_is_not_what_was_told_is_of_no_use(
    registry: Registry, stranger: Stranger, change: dict[str, Any]
) -> None:
    answering(stranger, RECORD | change)
    with pytest.raises(Upstream) as refused:
        await registry.put(EXAMPLE_IHI, SERVICE, "key")
    assert refused.value.answered == 0
    assert str(refused.value) == "the registry's answer cannot be used", "it repeats nothing of it"


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"records": {}},
        {"records": [RECORD] * 1001},
        {"records": [RECORD | {"ihi": made_up(Ihi, "another")}]},
        {"records": [RECORD | {"status": "removed"}]},
        {"records": [RECORD, "x"]},
    ],
)
async def test_a_list_of_holders_is_all_right_or_of_no_use(
    registry: Registry, stranger: Stranger, value: object
) -> None:
    answering(stranger, value)
    with pytest.raises(Upstream):
        await registry.holders(EXAMPLE_IHI)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Upstream), (409, Upstream), (401, Unavailable), (403, Unavailable), (429, Unavailable), (503, Unavailable)],
)
async def test_an_answer_that_concerns_all_records_waits_and_one_about_this_record_is_a_refusal(
    registry: Registry, stranger: Stranger, status: int, kind: type[Problem]
) -> None:
    answering(stranger, {"error": "no"}, status)
    with pytest.raises(kind):
        await registry.put(EXAMPLE_IHI, SERVICE, "key")


@pytest.mark.parametrize("status", [404, 409])
async def test_what_the_registry_does_not_know_or_has_removed_is_removed(
    registry: Registry, stranger: Stranger, status: int
) -> None:
    answering(stranger, {"error": "no"}, status)
    assert await registry.remove("r", "key") is None


async def test_a_token_authority_that_talks_nonsense_is_an_outage_and_no_refusal(
    registry: Registry, stranger: Stranger
) -> None:
    async def nonsense(_: Request) -> Response:
        return Response(b"<html>", 200)

    stranger.answers["/token"] = nonsense
    with pytest.raises(Unavailable):
        await registry.put(EXAMPLE_IHI, SERVICE, "key")


async def test_an_answer_to_a_removal_that_is_not_the_record_is_of_no_use(
    registry: Registry, stranger: Stranger
) -> None:
    answering(stranger, RECORD | {"record_id": "r"})
    with pytest.raises(Upstream):
        await registry.remove("r", "key")


async def test_a_person_stands_in_the_body_and_nowhere_else(registry: Registry, stranger: Stranger) -> None:
    answering(stranger, RECORD)
    await registry.put(EXAMPLE_IHI, SERVICE, "key")
    answering(stranger, {"records": [RECORD]})
    await registry.holders(EXAMPLE_IHI)
    told, asked = (one for one in stranger.asked if one[0] != "/token")
    for path, headers, _ in (told, asked):
        assert EXAMPLE_IHI not in path + json.dumps(headers)
        assert headers["dpop"]
        assert headers["authorization"].startswith("DPoP ")
    assert told[1]["idempotency-key"] == "key"
    tokens = [body.decode() for path, _, body in stranger.asked if path == "/token"]
    assert ["ihi=" in one for one in tokens] == [False, True], "only who asks about a person needs a token for them"
