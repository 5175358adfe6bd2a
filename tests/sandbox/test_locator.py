"""The stand-in record locator, asked over HTTP with a gateway's own client, and by those who may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.registry.locators import Locator, calling, locator

from mdg.errors import Unavailable, Upstream
from mdg.keys import Card, Ed25519Key, X25519Key
from mdg.model.identity import HpiO, Ihi
from mdg.registry import Status
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up

pytestmark = pytest.mark.anyio

SERVICE = "01JV3W8ZC0D2E4F6G8H0J2K4M6"
OTHER = made_up(Ihi, "another")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Locator]:
    async with locator(tmp_path / "keys") as one:
        yield one


async def test_a_service_is_registered_once_however_often_it_says_so(running: Locator) -> None:
    first = await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    again = await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    later = await running.registry.put(EXAMPLE_IHI, SERVICE, "two")
    assert first == again == later
    assert (first.version, first.status, first.service_id) == (1, Status.ACTIVE, SERVICE)
    assert await running.registry.holders(EXAMPLE_IHI) == [first]


async def test_a_person_of_whom_nothing_is_known_is_answered_like_one_whose_record_was_removed(
    running: Locator,
) -> None:
    record = await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    removed = await running.registry.remove(record.record_id, "two")
    assert removed is not None
    assert (removed.status, removed.version) == (Status.REMOVED, 2)
    assert removed.last_updated > record.last_updated
    assert await running.registry.holders(EXAMPLE_IHI) == []
    assert await running.registry.holders(OTHER) == []


async def test_removed_is_final_and_who_comes_back_gets_a_new_record(running: Locator) -> None:
    first = await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    gone = await running.registry.remove(first.record_id, "two")
    assert await running.registry.remove(first.record_id, "two") == gone, "the same change once more"
    with pytest.raises(Upstream) as refused:
        await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    assert refused.value.answered == 409
    second = await running.registry.put(EXAMPLE_IHI, SERVICE, "three")
    assert second.record_id != first.record_id
    assert await running.registry.holders(EXAMPLE_IHI) == [second]


async def test_nobody_speaks_for_the_service_of_another(running: Locator, tmp_path: Path) -> None:
    record = await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    stranger = made_up(HpiO, "stranger")
    async with calling(running.url, tmp_path / "stranger", stranger) as registry:
        with pytest.raises(Unavailable):
            await registry.put(EXAMPLE_IHI, SERVICE, "two")
        assert await registry.remove(record.record_id, "two") is None
    assert await running.registry.holders(EXAMPLE_IHI) == [record]


async def test_the_locator_wants_a_token_a_json_body_and_no_person_in_the_address(running: Locator) -> None:
    async with httpx2.AsyncClient(base_url=running.url) as stranger:
        told = {"ihi": EXAMPLE_IHI, "service_id": SERVICE, "status": "active", "type": "record"}
        answer = await stranger.put("/v1/records", json=told, headers={"Idempotency-Key": "one"})
        assert (answer.status_code, answer.headers["x-mdg-sandbox"]) == (401, "true")
        assert (await stranger.post("/v1/records/_search", json={"ihi": EXAMPLE_IHI})).status_code == 401
        assert (await stranger.get("/v1/records/_search", params={"ihi": EXAMPLE_IHI})).status_code == 405
        assert (await stranger.get("/v1/records")).status_code == 405, "nothing lists all records"


async def test_a_suspended_organisation_registers_nobody(running: Locator) -> None:
    await running.registry.put(EXAMPLE_IHI, SERVICE, "one")
    signer, x25519 = Ed25519Key.generate(), X25519Key.generate().public
    card = Card.issue(id=EXAMPLE_PROVIDER.uri, name="Provider", contact="", x25519=x25519, signer=signer)
    async with httpx2.AsyncClient(base_url=running.url) as operator:
        assert (await operator.post("/cards", json=card.to_json())).status_code == 201
        await operator.post(f"/organisations/{EXAMPLE_PROVIDER}", data={"status": "suspended"})
    with pytest.raises(Unavailable):
        await running.registry.put(OTHER, SERVICE, "two")
