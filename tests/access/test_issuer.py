"""Key sets: how often they are fetched, how long they count, and which keys in them do."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from joserfc.jwk import ECKey, RSAKey
from tests.access.conftest import Answer, Clock, Site
from tests.authority import Authority, b64url

from mdg.access import Issuer, Jwks
from mdg.errors import Misuse, Unavailable

pytestmark = pytest.mark.anyio
URL = "https://as.example.gov.au/jwks"


def answer(*keys: Any, cache: str = "max-age=300") -> Answer:
    return Answer(200, json.dumps({"keys": keys}).encode(), {"cache-control": cache})


def jwk(kid: str, **changes: Any) -> dict[str, Any]:
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": kid})
    return {**key.as_dict(private=False), **changes}


async def test_a_fresh_set_is_not_fetched_again(clock: Clock) -> None:
    site = Site(answer(jwk("a")))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    for _ in range(3):
        assert await jwks.key("a", "ES256") is not None
    assert len(site.asked) == 1
    clock.move(seconds=301)
    await jwks.key("a", "ES256")
    assert len(site.asked) == 2


async def test_one_fetch_serves_all_who_wait(clock: Clock) -> None:
    site = Site(answer(jwk("a")))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(jwks.key, "a", "ES256")
    assert len(site.asked) == 1


async def test_unknown_kids_cause_one_fetch_a_minute(clock: Clock) -> None:
    site = Site(answer(jwk("a")))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    await jwks.key("a", "ES256")
    for number in range(1000):
        assert await jwks.key(f"unknown-{number}", "ES256") is None
        clock.move(seconds=0.05)
    assert len(site.asked) == 1
    clock.move(seconds=60)
    assert await jwks.key("unknown", "ES256") is None
    assert len(site.asked) == 2


async def test_rotation_new_key_beside_the_old_then_the_old_withdrawn(clock: Clock) -> None:
    old, new = jwk("old"), jwk("new")
    site = Site(answer(old))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    assert await jwks.key("old", "ES256") is not None
    site.answer = answer(old, new)
    clock.move(seconds=61)
    assert await jwks.key("new", "ES256") is not None
    assert await jwks.key("old", "ES256") is not None
    site.answer = answer(new)
    clock.move(seconds=301)
    assert await jwks.key("old", "ES256") is None


async def test_a_stale_set_counts_for_an_hour_and_then_nobody_is_let_in(clock: Clock) -> None:
    site = Site(answer(jwk("a")))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    await jwks.key("a", "ES256")
    site.answer = None
    clock.move(minutes=59)
    assert await jwks.key("a", "ES256") is not None
    clock.move(minutes=2)
    with pytest.raises(Unavailable):
        await jwks.key("a", "ES256")


async def test_a_server_that_is_down_is_asked_once_a_minute(clock: Clock) -> None:
    site = Site(None)
    jwks = Jwks(URL, site, clock=clock.monotonic)
    for _ in range(50):
        with pytest.raises(Unavailable):
            await jwks.key("a", "ES256")
        clock.move(seconds=1)
    assert len(site.asked) == 1
    site.answer = answer(jwk("a"))
    clock.move(seconds=60)
    assert await jwks.key("a", "ES256") is not None


@pytest.mark.parametrize(("sent", "counts"), [("max-age=1", 60), ("max-age=999999", 3600), ("no-store", 300)])
async def test_freshness_is_clamped(clock: Clock, sent: str, counts: int) -> None:
    site = Site(answer(jwk("a"), cache=sent))
    jwks = Jwks(URL, site, clock=clock.monotonic)
    await jwks.key("a", "ES256")
    clock.move(seconds=counts - 1)
    await jwks.key("a", "ES256")
    assert len(site.asked) == 1
    clock.move(seconds=2)
    await jwks.key("a", "ES256")
    assert len(site.asked) == 2


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"keys":{}}', json.dumps({"keys": [jwk("a"), jwk("a")]}).encode()]
)
async def test_an_answer_that_is_no_key_set_is_no_answer(clock: Clock, body: bytes) -> None:
    with pytest.raises(Unavailable):
        await Jwks(URL, Site(Answer(200, body)), clock=clock.monotonic).key("a", "ES256")


async def test_keys_that_do_not_fit_are_passed_over(clock: Clock) -> None:
    private = ECKey.generate_key("P-256").as_dict(private=True)
    point = jwk("a")
    keys: list[Any] = [
        jwk("enc", use="enc"),
        jwk("alg", alg="ES384"),
        jwk("crv", crv="P-384"),
        {**private, "kid": "private"},
        {"kty": "oct", "k": "AAAA", "kid": "oct"},
        {**point, "kid": "off-curve", "x": point["y"]},
        "not a key",
        {**jwk("a"), "kid": 7},
    ]
    jwks = Jwks(URL, Site(answer(*keys)), clock=clock.monotonic)
    for kid in ("enc", "alg", "crv", "private", "oct", "off-curve", "7"):
        assert await jwks.key(kid, "ES256") is None, kid


async def test_rsa_keys_have_2048_bits(clock: Clock) -> None:
    good = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "good"}
    jwks = Jwks(
        URL, Site(answer(good, {**good, "kid": "small", "n": b64url(bytes(range(1, 129)))})), clock=clock.monotonic
    )
    assert await jwks.key("good", "PS256") is not None
    assert await jwks.key("good", "ES256") is None
    assert await jwks.key("small", "PS256") is None


async def test_an_issuer_signs_asymmetrically() -> None:
    for algorithms in ({"HS256"}, {"none"}, {"ES256", "HS256"}, set()):
        with pytest.raises(Misuse):
            Issuer(Authority().issuer, Jwks(URL, Site(None)), frozenset(algorithms))
