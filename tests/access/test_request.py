"""Signed retrieval requests: what is checked before anything is sealed to the key in one (seg/1 8.4)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.access.test_decide import SUBJECT
from tests.authority import CUSTODIAN, ORGANISATION

from mdg.access import VerifiedRequest, verify_request
from mdg.errors import MdgError, Unauthenticated, Unprocessable
from mdg.keys import Card, Ed25519Key, LocalDirectory, X25519Key

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 5, 2, 1, 0, tzinfo=UTC)
SIGNER = Ed25519Key.generate()
CARD = Card.issue(
    id=ORGANISATION.uri, name="Consumer", contact="it@example.org", x25519=X25519Key.generate().public, signer=SIGNER
)
DIRECTORY = LocalDirectory([CARD], [ORGANISATION])
FRESH = X25519Key.generate()


def time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def content() -> dict[str, Any]:
    return {
        "typ": "ief-retrieval/1",
        "aud": CUSTODIAN.uri,
        "study": "01JV3W8ZC0D2E4F6G8H0J2K4M6",
        "requester": CARD.entity,
        "profile": "jmix-1.0",
        "key": {"suite": "HPKE-X25519-SHA256-AES256GCM", "public_key": base64.b64encode(FRESH.public).decode()},
        "suites": ["HPKE-X25519-SHA256-AES256GCM"],
        "codecs": ["none"],
        "level": 2,
        "nonce": base64.b64encode(bytes(range(32))).decode(),
        "iat": time(NOW),
        "exp": time(NOW + timedelta(seconds=300)),
    }


async def verified(
    claims: dict[str, Any], *, signer: Ed25519Key = SIGNER, typ: str = "ief-retrieval+jws", now: datetime = NOW
) -> VerifiedRequest:
    return await signed(signer.sign_jws(json.dumps(claims).encode(), typ), now)


async def signed(jws: bytes, now: datetime = NOW) -> VerifiedRequest:
    return await verify_request(jws, audience=CUSTODIAN.uri, requester=SUBJECT, directory=DIRECTORY, now=now)


async def test_a_good_request_names_requester_study_and_key() -> None:
    jws = SIGNER.sign_jws(json.dumps(content()).encode(), "ief-retrieval+jws")
    request = await signed(jws)
    assert request.card == CARD
    assert request.request.study == "01JV3W8ZC0D2E4F6G8H0J2K4M6"
    assert request.request.public_key == FRESH.public
    assert request.digest == hashlib.sha256(jws).digest()
    assert request.nonce_key.startswith(CARD.kid)
    assert request.nonce_until == NOW + timedelta(seconds=360)


@pytest.mark.parametrize(
    ("error", "reason", "change"),
    [
        (Unauthenticated, "request-typ", lambda c: c.update(typ="ief-retrieval/2")),
        (Unauthenticated, "request-aud", lambda c: c.update(aud=ORGANISATION.uri)),
        (Unauthenticated, "request-aud", lambda c: c.update(aud=[CUSTODIAN.uri])),
        (Unauthenticated, "request-owner", lambda c: c.update(requester={"id": CUSTODIAN.uri})),
        (Unauthenticated, "request-requester", lambda c: c.pop("requester")),
        (Unauthenticated, "request-lifetime", lambda c: c.update(exp=time(NOW + timedelta(seconds=301)))),
        (Unauthenticated, "request-lifetime", lambda c: c.update(exp=c["iat"])),
        (Unauthenticated, "request-iat", lambda c: c.update(iat="2026-05-02T01:00:00+00:00")),
        (Unauthenticated, "request-exp", lambda c: c.update(exp="2026-02-30T01:00:00Z")),
        (Unauthenticated, "request-nonce", lambda c: c.update(nonce=base64.b64encode(bytes(31)).decode())),
        (Unauthenticated, "request-nonce", lambda c: c.update(nonce="*" * 44)),
        (Unprocessable, "profile", lambda c: c.pop("profile")),
        (Unprocessable, "profile", lambda c: c.update(profile="seg/1")),
        (Unprocessable, "codec", lambda c: c.update(codecs=["zstd"])),
        (Unprocessable, "fs-unavailable", lambda c: c.update(level=3)),
        (Unprocessable, "select", lambda c: c.update(select={"metadata_only": True})),
        (Unprocessable, "study", lambda c: c.update(study="../1")),
        (Unprocessable, "suite", lambda c: c["key"].update(suite="HPKE-XWING-SHA256-AES256GCM")),
        (Unprocessable, "suite", lambda c: c.pop("key")),
        (Unprocessable, "key", lambda c: c["key"].update(public_key=base64.b64encode(bytes(32)).decode())),
        (Unprocessable, "key", lambda c: c["key"].update(public_key=base64.b64encode(b"\x01" + bytes(31)).decode())),
        (Unprocessable, "key", lambda c: c["key"].update(public_key=base64.b64encode(bytes(31)).decode())),
        (Unprocessable, "key", lambda c: c["key"].update(public_key=c["key"]["public_key"] + "=")),
    ],
)
async def test_what_does_not_hold_is_named(
    error: type[Unauthenticated | Unprocessable], reason: str, change: Callable[[dict[str, Any]], object]
) -> None:
    claims = content()
    change(claims)
    with pytest.raises(error) as refused:
        await verified(claims)
    assert refused.value.reason == reason


async def test_freshness_has_a_minute_of_skew() -> None:
    for now in (NOW - timedelta(seconds=60), NOW + timedelta(seconds=359)):
        await verified(content(), now=now)
    for now in (NOW - timedelta(seconds=61), NOW + timedelta(seconds=360)):
        with pytest.raises(Unauthenticated):
            await verified(content(), now=now)


async def test_only_the_directory_s_key_of_the_token_s_organisation_counts() -> None:
    with pytest.raises(Unauthenticated) as refused:
        await verified(content(), signer=Ed25519Key.generate())
    assert refused.value.reason == "request-owner"
    other = replace(SUBJECT, organisation=CUSTODIAN)
    jws = SIGNER.sign_jws(json.dumps(content()).encode(), "ief-retrieval+jws")
    with pytest.raises(Unauthenticated):
        await verify_request(jws, audience=CUSTODIAN.uri, requester=other, directory=DIRECTORY, now=NOW)


async def test_a_jws_of_another_type_or_with_a_changed_byte_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        await verified(content(), typ="jmix-manifest+jws")
    jws = SIGNER.sign_jws(json.dumps(content()).encode(), "ief-retrieval+jws")
    for at in range(0, len(jws), 37):
        with pytest.raises(MdgError) as refused:
            await signed(jws[:at] + bytes([jws[at] ^ 1]) + jws[at + 1 :])
        assert isinstance(refused.value, Unauthenticated)


@pytest.mark.parametrize("jws", [b"", b"a.b", b"\xff.\xff.\xff", b"e30.e30.e30", b"e30.e30.e30\n"])
async def test_what_is_no_jws_is_refused(jws: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await signed(jws)


async def test_a_member_given_twice_is_refused() -> None:
    twice = json.dumps(content())[:-1] + ',"study":"another"}'
    with pytest.raises(Unauthenticated):
        await signed(SIGNER.sign_jws(twice.encode(), "ief-retrieval+jws"))


async def test_a_key_id_that_none_can_be_is_not_looked_up() -> None:
    """A directory would be asked for it by URL, and what it cannot be asked for would read as a fault of ours."""

    class Asked(LocalDirectory):
        async def card_by_kid(self, kid: str) -> Card | None:
            raise AssertionError("the directory was asked")

    header = base64.urlsafe_b64encode(json.dumps({"alg": "EdDSA", "kid": "k" * 3000}).encode()).rstrip(b"=")
    _, *rest = SIGNER.sign_jws(json.dumps(content()).encode(), "ief-retrieval+jws").split(b".")
    with pytest.raises(Unauthenticated) as refused:
        await verify_request(
            b".".join([header, *rest]), audience=CUSTODIAN.uri, requester=SUBJECT, directory=Asked([], []), now=NOW
        )
    assert refused.value.reason == "request-owner"
