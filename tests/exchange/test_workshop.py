"""The workshop: how much may wait, for all and for one, and what those who wait are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import cast

import anyio
import pytest

from mdg.access import utc_now
from mdg.errors import Throttled, Unavailable
from mdg.exchange import workshop
from mdg.exchange.envelopes import Envelope, Envelopes
from mdg.exchange.workshop import Workshop

pytestmark = pytest.mark.anyio


class Spool:
    """A spool with nothing in it."""

    async def sweep(self, now: datetime, *, starting: bool = False) -> int:
        return 0


async def never() -> Envelope:
    await anyio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def busy(*owners: str) -> AsyncIterator[Workshop]:
    """A workshop with one unfinished envelope for each of `owners`, which nobody waits for any more."""
    async with Workshop(cast("Envelopes", Spool()), utc_now, patience=0).working() as shop:
        for number, owner in enumerate(owners):
            with pytest.raises(Unavailable):
                await shop.made(number, owner, never)
        yield shop


async def test_one_requester_waits_for_a_few_envelopes_and_the_others_still_may() -> None:
    async with busy(*["one"] * workshop.WAITING_EACH) as shop:
        with pytest.raises(Throttled) as told:
            await shop.made("more", "one", never)
        assert told.value.headers["Retry-After"]
        with pytest.raises(Unavailable, match="being made"):
            await shop.made("more", "another", never)
        with pytest.raises(Unavailable, match="being made"):
            await shop.made(0, "one", never)  # the same again is the same work


async def test_all_together_wait_for_so_many_envelopes() -> None:
    async with busy(*(f"owner-{n}" for n in range(workshop.AT_ONCE + workshop.WAITING))) as shop:
        with pytest.raises(Throttled):
            await shop.made("more", "new", never)
