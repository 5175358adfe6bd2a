"""A download under another token than it was granted to: the ticket is renewed, at a real gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from tests.authority import ORGANISATION, PATIENT
from tests.negative.world import World, opened

from mdg.client import Gateway
from mdg.client.gateway import FoundStudy
from mdg.client.tokens import AccessToken
from mdg.keys import Keyring
from mdg.model.identity import Ihi
from mdg.outbound import Outbound

pytestmark = pytest.mark.anyio
REQUEST_ID = "6f1c5cf0-3f0b-4c5e-9d0a-0d4a3c0a7a11"


class FreshTokens:
    """A token authority that never gives the same token twice, as after five minutes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.given = 0

    async def token(
        self, resource: str, scopes: Sequence[str], *, ihi: Ihi | None, purpose: str = "TREAT"
    ) -> AccessToken:
        self.given += 1
        return AccessToken(self._world.forgery.token({}), frozenset(scopes), float("inf"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with opened(tmp_path / "provider") as made:
        yield made


async def test_a_download_goes_on_under_a_fresh_token(world: World, tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "consumer", id=ORGANISATION.uri, name="Consumer", contact="")
    world.forgery.authority.proof = keyring.dpop
    world.services.cards[:] = [keyring.card]
    study = FoundStudy(world.words["study"], world.words["uid"], f"{world.public_url}/api/jmix", None, {})
    tokens = FreshTokens(world)
    async with Outbound([world.public_url], sandbox=True) as outbound:
        gateway = Gateway(world.public_url, outbound, keyring, tokens)  # type: ignore[arg-type]  # the one method it uses
        grant = await gateway.request(study, PATIENT, provider=world.rooms.keyring.card, request_id=REQUEST_ID)
        await gateway.download(grant, PATIENT, tmp_path / "envelope.zip", request_id=REQUEST_ID)
    assert tokens.given == 2
    assert (tmp_path / "envelope.zip").stat().st_size == grant.length
    kinds = [event["subtype"][0]["code"] for event in await world.rooms.audit.for_callers_id(REQUEST_ID)]  # type: ignore[index]  # JSON
    assert kinds[:3] == ["disclose", "disclose", "110102"]  # the record of the end follows the last byte
