"""Proofs of possession: each thing that a proof covers, changed in turn (RFC 9449 4.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey
from tests.access.conftest import PATH, World
from tests.authority import PUBLIC_URL, Json, b64url, es256

from mdg.errors import Unauthenticated
from mdg.keys import ProofKey

pytestmark = pytest.mark.anyio


def made(world: World, change: Callable[[Json, Json], object]) -> tuple[str, str]:
    """A good token, and a proof by its key over whatever `change` left in header and claims."""
    key = ECKey.generate_key("P-256")
    world.authority.proof = ProofKey(key)
    header: Json = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    claims: Json = {
        "jti": "0123456789abcdef",
        "htm": "POST",
        "htu": f"{PUBLIC_URL}{PATH}",
        "iat": int(world.clock.now.timestamp()),
    }
    token = world.authority.token(world.authority.claims(now=world.clock.now))
    claims["ath"] = b64url(hashlib.sha256(token.encode()).digest())
    change(header, claims)
    signing_input = f"{b64url(json.dumps(header).encode())}.{b64url(json.dumps(claims).encode())}"
    return token, f"{signing_input}.{b64url(es256(key, signing_input.encode()))}"


CHANGES: list[tuple[str, Callable[[Json, Json], Any]]] = [
    ("typ", lambda h, c: h.update(typ="JWT")),
    ("alg", lambda h, c: h.update(alg="none")),
    ("alg", lambda h, c: h.update(alg="HS256")),
    ("alg", lambda h, c: h.update(alg="ES384")),
    ("jwk", lambda h, c: h.pop("jwk")),
    ("jwk", lambda h, c: h["jwk"].update(d="AA")),
    ("jwk", lambda h, c: h["jwk"].update(x=h["jwk"]["y"])),
    ("jwk", lambda h, c: h.update(jwk={"kty": "oct", "k": "AA"})),
    ("crit", lambda h, c: h.update(crit=["x"])),
    ("htm", lambda h, c: c.update(htm="GET")),
    ("htm", lambda h, c: c.update(htm="post")),
    ("htu", lambda h, c: c.update(htu="https://evil.test" + PATH)),
    ("htu", lambda h, c: c.update(htu=PUBLIC_URL + "/fhir/Patient")),
    ("htu", lambda h, c: c.pop("htu")),
    ("iat", lambda h, c: c.update(iat=c["iat"] - 62)),
    ("iat", lambda h, c: c.update(iat=c["iat"] + 62)),
    ("iat", lambda h, c: c.update(iat=str(c["iat"]))),
    ("ath", lambda h, c: c.pop("ath")),
    ("ath", lambda h, c: c.update(ath=b64url(bytes(32)))),
    ("jti", lambda h, c: c.pop("jti")),
    ("jti", lambda h, c: c.update(jti="short")),
    ("jti", lambda h, c: c.update(jti="0123\x0089abcdef")),
]


@pytest.mark.parametrize(("reason", "change"), CHANGES)
async def test_a_proof_that_does_not_fit_is_refused(
    world: World, reason: str, change: Callable[[Json, Json], object]
) -> None:
    token, proof = made(world, change)
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(token, proof)
    assert refused.value.reason == f"proof-{reason}"
    assert 'error="invalid_dpop_proof"' in refused.value.headers["WWW-Authenticate"]


async def test_the_query_is_not_part_of_what_a_proof_covers(world: World) -> None:
    await world.enter(*made(world, lambda h, c: c.update(htu=f"{PUBLIC_URL}{PATH}?t=1#x")))


async def test_a_proof_is_used_once(world: World) -> None:
    token = world.authority.token()
    proof = world.prove(token)
    await world.enter(token, proof)
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(token, proof)
    assert refused.value.reason == "proof-replayed"


async def test_a_refused_proof_is_not_remembered(world: World) -> None:
    token = world.authority.token()
    proof = world.prove(token)
    with pytest.raises(Unauthenticated):
        await world.gate.authenticate([f"DPoP {token}"], [proof], "GET", PATH)
    await world.enter(token, proof)


async def test_there_is_exactly_one_proof(world: World) -> None:
    token = world.authority.token()
    for proofs, reason in (([], "missing"), ([world.prove(token), world.prove(token)], "many")):
        with pytest.raises(Unauthenticated) as refused:
            await world.gate.authenticate([f"DPoP {token}"], proofs, "POST", PATH)
        assert refused.value.reason == f"proof-{reason}"


async def test_a_proof_by_another_key_is_refused(world: World) -> None:
    token = world.authority.token()
    proof = ProofKey.generate().prove("POST", f"{PUBLIC_URL}{PATH}", token, now=world.clock.now)
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(token, proof)
    assert refused.value.reason == "proof-key"
