"""Envelopes as jobs: how much may wait, for all and for one, and what those who wait are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from tests.exchange.test_discovery import requester
from tests.jobs.process import OURS

from mdg import _core
from mdg.errors import (
    Conflict,
    InputOutput,
    NotFound,
    Problem,
    Refused,
    Throttled,
    Unavailable,
    Unprocessable,
    Unsupported,
)
from mdg.exchange import making
from mdg.exchange.making import MAKE_ENVELOPE, Making, Order, failed
from mdg.jobs import Job, Jobs, Kind, New, Result
from mdg.keys import Card
from mdg.sandbox.identifiers import EXAMPLE_IHI
from mdg.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as store:
        yield store


@pytest.fixture
def shop(store: Store) -> Making:
    """Nobody makes anything, and nobody waits."""
    return Making(Jobs(store, OURS), patience=0)


async def order(shop: Making, key: object, lane: str) -> None:
    await shop.made(New(MAKE_ENVELOPE, str(key), lane=lane))


async def busy(shop: Making, *lanes: str) -> None:
    """One unfinished envelope for each of `lanes`."""
    for number, lane in enumerate(lanes):
        with pytest.raises(Unavailable, match="being made"):
            await order(shop, number, lane)


async def test_one_owner_waits_for_a_few_envelopes_and_the_others_still_may(shop: Making) -> None:
    await busy(shop, *["one"] * making.WAITING_EACH)
    with pytest.raises(Throttled) as told:
        await order(shop, "more", "one")
    assert told.value.headers["Retry-After"]
    with pytest.raises(Unavailable, match="being made"):
        await order(shop, "more", "another")
    with pytest.raises(Unavailable, match="being made"):
        await order(shop, 0, "one")  # the same again is the same work


async def test_all_together_wait_for_so_many_envelopes(shop: Making) -> None:
    await busy(shop, *(f"owner-{n}" for n in range(making.AT_ONCE + making.WAITING)))
    with pytest.raises(Throttled):
        await order(shop, "more", "new")


@pytest.mark.parametrize(
    ("error", "told", "reason"),
    [
        (Refused("E_STORE_CORRUPT", "/images/1.dcm", "digest"), Conflict, "E_STORE_CORRUPT"),
        (Refused("E_CHANGED", "/images/1.dcm", "size"), Conflict, "E_CHANGED"),
        (Refused("E_SCHEMA", "manifest", "no"), Unprocessable, "E_SCHEMA"),
        (Unsupported("/images/1.dcm", "no"), Unprocessable, "unsupported"),
        (Unprocessable("too large", reason="too-large"), Unprocessable, "too-large"),
        (Unavailable("no room", reason="disk-full"), Unavailable, "disk-full"),
        (NotFound(reason="study-gone"), NotFound, "study-gone"),
        (InputOutput("/spool/x", "no"), Unavailable, "pack-InputOutput"),
        (ZeroDivisionError(), Unavailable, "pack-ZeroDivisionError"),
    ],
)
async def test_those_who_wait_are_told_why_there_is_none_and_no_path(
    store: Store, error: Exception, told: type[Problem], reason: str
) -> None:
    jobs = Jobs(store, OURS)

    async def make(_: Job) -> Result:
        return failed(error)

    jobs.do(Kind(MAKE_ENVELOPE, make, tries=1))
    shop = Making(jobs, patience=0)
    with pytest.raises(Unavailable, match="being made"):
        await order(shop, "one", "owner")
    waiting = Making(jobs, patience=10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.round, MAKE_ENVELOPE)
        with pytest.raises(told) as caught:
            await order(waiting, "one", "owner")
    assert caught.value.reason == reason
    assert "/" not in caught.value.diagnostics


async def test_an_order_is_read_from_its_job_as_it_was_written(store: Store) -> None:
    signer = _core.Ed25519Key.generate()
    card = Card.issue(id="urn:x", name="A", contact="", x25519=bytes(range(32)), signer=signer)
    wanted = Order("1.2.3", requester(), card, bytes(32), b"digest")
    jobs = Jobs(store, OURS)
    job = await jobs.once(wanted.job("key"), most=1, each=1)
    assert job is not None
    assert Order.of(job) == wanted
    assert EXAMPLE_IHI not in repr(job)
