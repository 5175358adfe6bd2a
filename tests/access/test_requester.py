"""From headers to a requester: what a good token gives, and what each fault is called in the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.access.conftest import PATH, World
from tests.authority import CUSTODIAN, ISSUER, ORGANISATION, PATIENT, PRACTITIONER

from mdg.access import Gate, Issuer, Jwks, Of, Revocation, Revocations
from mdg.errors import Forbidden, Invalid, NotFound, Unauthenticated, Unavailable
from mdg.store import Store

pytestmark = pytest.mark.anyio
Change = Callable[[dict[str, Any]], object]


async def test_a_good_token_and_proof_name_the_requester(world: World) -> None:
    requester = await world.enter()
    assert requester.issuer == ISSUER
    assert requester.organisation == ORGANISATION
    assert requester.practitioner == PRACTITIONER
    assert requester.patient == PATIENT
    assert requester.purposes == ("TREAT",)
    assert "system/ImagingStudy.rs" in requester.scopes
    assert requester.jkt == world.authority.proof.jkt


async def test_the_audience_may_be_one_of_several(world: World) -> None:
    claims = world.authority.claims(now=world.clock.now)
    claims["aud"] = ["https://other.example", claims["aud"]]
    assert (await world.enter(world.authority.token(claims))).patient == PATIENT


async def test_an_access_token_is_good_for_many_calls(world: World) -> None:
    token = world.authority.token()
    assert (await world.enter(token)).token_id == (await world.enter(token)).token_id


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("iss", lambda c: c.update(iss=ISSUER + "/")),
        ("aud", lambda c: c.update(aud="https://mdg.example.org")),
        ("aud", lambda c: c.update(aud=["https://mdg.example.org/fhir/", "*"])),
        ("aud", lambda c: c.pop("aud")),
        ("lifetime", lambda c: c.update(exp=c["iat"] + 601)),
        ("lifetime", lambda c: c.update(exp=c["iat"])),
        ("exp", lambda c: c.update(iat=c["iat"] - 331, exp=c["exp"] - 331)),
        ("exp", lambda c: c.pop("exp")),
        ("exp", lambda c: c.update(exp=str(c["exp"]))),
        ("exp", lambda c: c.update(exp=True)),
        ("not-yet", lambda c: c.update(iat=c["iat"] + 61, exp=c["exp"] + 61)),
        ("not-yet", lambda c: c.update(nbf=c["iat"] + 61)),
        ("jti", lambda c: c.pop("jti")),
        ("sub", lambda c: c.update(sub="")),
        ("client_id", lambda c: c.update(client_id=["client-4711"])),
        ("scope", lambda c: c.update(scope=["system/ImagingStudy.rs"])),
        ("cnf", lambda c: c.pop("cnf")),
        ("jkt", lambda c: c.update(cnf={"x5t#S256": "AA"})),
        ("extensions", lambda c: c.pop("extensions")),
        ("client", lambda c: c["extensions"]["ihe_iua"].pop("subject_organization_id")),
        (
            "subject_organization_id",
            lambda c: c["extensions"]["ihe_iua"].update(subject_organization_id=ORGANISATION.uri[:-1] + "3"),
        ),
        ("person_id", lambda c: c["extensions"]["ihe_iua"].update(person_id=str(PATIENT))),
        ("person_id", lambda c: c["extensions"]["ihe_iua"].update(person_id=None)),
        ("purpose_of_use", lambda c: c["extensions"]["ihe_iua"].update(purpose_of_use=[])),
        ("purpose_of_use", lambda c: c["extensions"]["ihe_iua"].update(purpose_of_use=[{"code": "TREAT"}])),
        ("ihe_pcf", lambda c: c["extensions"].update(ihe_pcf={"residual": [{"type": "forbid"}]})),
    ],
)
async def test_a_claim_that_does_not_hold_refuses_the_token(world: World, reason: str, change: Change) -> None:
    claims = world.authority.claims(now=world.clock.now)
    change(claims)
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(world.authority.token(claims))
    assert refused.value.reason == f"token-{reason}"


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("alg", lambda h: h.update(alg="none")),
        ("alg", lambda h: h.update(alg="HS256")),
        ("alg", lambda h: h.update(alg="PS256")),
        ("typ", lambda h: h.update(typ="JWT")),
        ("typ", lambda h: h.pop("typ")),
        ("kid", lambda h: h.pop("kid")),
        ("kid", lambda h: h.update(kid="k" * 257)),
        ("kid", lambda h: h.update(kid="key-2")),
        ("crit", lambda h: h.update(crit=[])),
        ("crit", lambda h: h.update(b64=False)),
    ],
)
async def test_a_header_that_does_not_hold_refuses_the_token(world: World, reason: str, change: Change) -> None:
    header = world.authority.header()
    change(header)
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(world.authority.token(header=header))
    assert refused.value.reason == f"token-{reason}"


async def test_a_key_in_the_header_is_never_used(world: World) -> None:
    stranger = ECKey.generate_key("P-256")
    header = world.authority.header() | {"jwk": stranger.as_dict(private=False), "jku": "https://evil.test/jwks"}
    forged = world.authority.signed(
        b'{"iss":"%s"}' % ISSUER.encode(), repr(header).replace("'", '"').encode(), stranger
    )
    with pytest.raises(Unauthenticated, match="authentication") as refused:
        await world.enter(forged)
    assert refused.value.reason == "token-signature"
    assert world.site.asked == [f"{ISSUER}/jwks"]


async def test_two_credentials_are_a_bad_request(world: World) -> None:
    with pytest.raises(Invalid):
        await world.gate.authenticate(["DPoP a.b.c", "DPoP a.b.c"], [], "GET", PATH)


async def test_no_credentials_get_a_challenge_without_an_error(world: World) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await world.gate.authenticate([], [], "GET", PATH)
    assert "error" not in refused.value.headers["WWW-Authenticate"]


async def test_a_bound_token_is_not_a_bearer_token(world: World) -> None:
    token = world.authority.token()
    with pytest.raises(Unauthenticated) as refused:
        await world.gate.authenticate([f"Bearer {token}"], [world.prove(token)], "POST", PATH)
    assert refused.value.reason == "token-scheme"


async def nothing_else(connection: AsyncConnection, made: Revocation) -> None:
    """No audit record: the door of the operator writes it, and its own tests show it."""


@pytest.mark.parametrize("kind", list(Of))
async def test_a_revocation_acts_at_once_in_every_process_and_until_it_is_ended(
    world: World, store: Store, kind: Of
) -> None:
    token = world.authority.token()
    requester = await world.enter(token)
    value = {
        Of.TOKEN: requester.token_id,
        Of.CLIENT: requester.client_id,
        Of.SUBJECT: requester.subject,
        Of.PRACTITIONER: requester.practitioner,
        Of.ORGANISATION: requester.organisation,
    }[kind]
    assert value is not None
    other_process = Revocations(store, CUSTODIAN, world.clock)
    made = await other_process.add(kind, value, nothing_else)
    assert (await other_process.add(kind, value, nothing_else)).id == made.id, "the second time changes nothing"
    with pytest.raises(Unauthenticated) as refused:
        await world.enter(token)
    assert refused.value.reason == "token-revoked"
    assert not await world.gate.still_stands(requester)
    assert [(one.kind, one.value) for one in await world.revocations.all()] == [(kind, value)]
    assert not await Revocations(store, ORGANISATION, world.clock).all(), "another custodian has its own"
    await other_process.remove(made.id, nothing_else)
    assert await world.enter(token) == requester
    with pytest.raises(NotFound):
        await other_process.remove(made.id, nothing_else)


async def test_a_revoked_token_is_forgotten_long_after_its_end_and_nothing_else_is(world: World) -> None:
    long_ago = world.clock.now
    for kind in Of:
        await world.revocations.add(kind, "old", nothing_else)
    world.clock.now += timedelta(days=1)
    await world.revocations.add(Of.TOKEN, "at the limit", nothing_else)
    assert len(await world.revocations.all()) == len(Of) + 1
    world.clock.now += timedelta(seconds=1)
    await world.revocations.add(Of.TOKEN, "new", nothing_else)
    left = {(one.kind, one.value) for one in await world.revocations.all() if one.since == long_ago}
    assert left == {(kind, "old") for kind in Of if kind is not Of.TOKEN}
    assert len(await world.revocations.all()) == len(left) + 2


async def test_a_value_is_revoked_in_its_own_claim_only(world: World) -> None:
    requester = await world.enter()
    await world.revocations.add(Of.SUBJECT, requester.client_id, nothing_else)
    assert (await world.enter()).client_id == requester.client_id


async def test_a_suspended_organisation_is_forbidden(world: World) -> None:
    world.directory.suspend(ORGANISATION)
    with pytest.raises(Forbidden) as refused:
        await world.enter()
    assert refused.value.reason == "organisation-not-active"


async def test_who_was_let_in_once_still_stands_while_nothing_was_taken_back(world: World) -> None:
    requester = await world.enter()
    world.clock.now += timedelta(days=1)
    assert await world.gate.still_stands(requester), "the age of the token does not count"
    assert not await world.gate.still_stands(replace(requester, issuer="https://other.example"))
    world.directory.suspend(ORGANISATION)
    assert not await world.gate.still_stands(requester)


async def test_a_client_that_is_registered_no_more_does_not_stand(world: World) -> None:
    requester = await world.enter()
    for clients, stands in (
        ({requester.client_id: ORGANISATION}, True),
        ({requester.client_id: CUSTODIAN}, False),
        ({}, False),
    ):
        issuer = Issuer(ISSUER, Jwks(f"{ISSUER}/jwks", world.site), clients=clients)
        gate = Gate([issuer], world.directory, world.replay, "https://mdg.example.org")
        assert await gate.still_stands(requester) is stands


async def test_without_keys_nobody_is_let_in(world: World) -> None:
    world.site.answer = None
    with pytest.raises(Unavailable):
        await world.enter()
