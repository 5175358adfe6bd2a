"""The stand-in key directory, through the gateway's own reader where there is one."""

from __future__ import annotations

import httpx2
import pytest

from mdg.keys import Card, Ed25519Key, HttpDirectory, X25519Key
from mdg.model.identity import HpiO
from mdg.sandbox.identifiers import EXAMPLE_PROVIDER, made_up

pytestmark = pytest.mark.anyio


class Fetch:
    """The sandbox as the directory reader's outbound client."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(self, url: str) -> Fetched:
        return Fetched(await self._client.get(url))


class Fetched:
    def __init__(self, answer: httpx2.Response) -> None:
        self.status = answer.status_code
        self.body = answer.content


def card(id_: str = EXAMPLE_PROVIDER.uri) -> Card:
    return Card.issue(
        id=id_, name="Provider", contact="", x25519=X25519Key.generate().public, signer=Ed25519Key.generate()
    )


async def test_a_card_that_was_given_is_found_by_id_and_by_key(sandbox: httpx2.AsyncClient) -> None:
    ours = card()
    assert (await sandbox.post("/cards", json=ours.to_json())).status_code == 201
    directory = HttpDirectory(str(sandbox.base_url), Fetch(sandbox))
    assert await directory.card_by_id(ours.id) == ours
    assert await directory.card_by_kid(ours.kid) == ours
    assert await directory.card_by_kid(card().kid) is None
    assert await directory.organisation_active(EXAMPLE_PROVIDER)
    assert not await directory.organisation_active(made_up(HpiO, "stranger"))


async def test_a_second_card_of_one_id_is_refused(sandbox: httpx2.AsyncClient) -> None:
    first = card()
    for expected, sent in ((201, first), (201, first), (409, card())):
        assert (await sandbox.post("/cards", json=sent.to_json())).status_code == expected
    shown = (await sandbox.get("/cards", params={"id": first.id})).json()["card"]
    assert shown == first.to_json()


async def test_a_card_whose_signature_does_not_hold_is_refused(sandbox: httpx2.AsyncClient) -> None:
    changed = card().to_json() | {"name": "Somebody Else"}
    answer = await sandbox.post("/cards", json=changed)
    assert answer.status_code == 400
    assert "E_SIG_INVALID" in answer.json()["error_description"]


async def test_a_card_needs_an_organisation_as_id(sandbox: httpx2.AsyncClient) -> None:
    assert (await sandbox.post("/cards", json=card("https://a.example/me").to_json())).status_code == 400


async def test_a_suspended_organisation_is_not_active(sandbox: httpx2.AsyncClient) -> None:
    await sandbox.post("/cards", json=card().to_json())
    await sandbox.post(f"/organisations/{EXAMPLE_PROVIDER}", data={"status": "suspended"})
    assert not await HttpDirectory(str(sandbox.base_url), Fetch(sandbox)).organisation_active(EXAMPLE_PROVIDER)


async def test_a_web_page_cannot_suspend_an_organisation(sandbox: httpx2.AsyncClient) -> None:
    await sandbox.post("/cards", json=card().to_json())
    from_page = {"Origin": "https://evil.test"}
    address = f"/organisations/{EXAMPLE_PROVIDER}"
    refused = await sandbox.post(address, data={"status": "suspended"}, headers=from_page)
    assert refused.status_code == 403
    assert await HttpDirectory(str(sandbox.base_url), Fetch(sandbox)).organisation_active(EXAMPLE_PROVIDER)
