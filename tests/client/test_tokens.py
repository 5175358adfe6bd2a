"""Tokens: one for each gateway, patient and purpose, bound to our key, never wider or weaker than asked."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.client.conftest import Answer, Stranger

from mdg.client import DISCOVERY, RETRIEVAL, Tokens
from mdg.errors import Upstream
from mdg.keys import Keyring
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI

pytestmark = pytest.mark.anyio
FHIR = "http://127.0.0.1:1/fhir"


def says(status: int, **content: object) -> Answer:
    async def answer(request: Request) -> Response:
        return JSONResponse(content, status)

    return answer


async def test_the_request_names_gateway_patient_and_purpose_and_carries_a_proof(
    stranger: Stranger, tokens: Tokens
) -> None:
    await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI, purpose="ETREAT")
    ((path, headers, body),) = stranger.asked
    form = {name: value for name, (value,) in parse_qs(body.decode()).items()}
    assert path == "/token"
    assert headers["dpop"].count(".") == 2
    assert form == {
        "grant_type": "client_credentials",
        "resource": FHIR,
        "scope": " ".join(DISCOVERY),
        "purpose": "ETREAT",
        "organisation": EXAMPLE_CONSUMER,
        "client_id": EXAMPLE_CONSUMER.uri,
        "ihi": EXAMPLE_IHI,
    }


async def test_a_token_is_used_again_for_the_same_and_for_nothing_else(stranger: Stranger, tokens: Tokens) -> None:
    first = await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI)
    assert await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI) is first
    others = [
        await tokens.token("http://127.0.0.1:2/fhir", DISCOVERY, ihi=EXAMPLE_IHI),
        await tokens.token(FHIR, RETRIEVAL, ihi=EXAMPLE_IHI),
        await tokens.token(FHIR, DISCOVERY, ihi=None),
        await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI, purpose="ETREAT"),
    ]
    assert len({first.value, *(other.value for other in others)}) == 5


async def test_a_token_near_its_end_is_replaced(stranger: Stranger, outbound: Outbound, keyring: Keyring) -> None:
    now = 1000.0
    tokens = Tokens(f"{stranger.url}/token", outbound, keyring, EXAMPLE_CONSUMER, clock=lambda: now)
    first = await tokens.token(FHIR, DISCOVERY, ihi=None)
    now += 269
    assert await tokens.token(FHIR, DISCOVERY, ihi=None) is first
    now += 2
    assert await tokens.token(FHIR, DISCOVERY, ihi=None) is not first


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(400, error="invalid_request", error_description="purpose is unknown"), "upstream-400"),
        (says(200, access_token="t", token_type="Bearer", expires_in=300), "token-unbound"),
        (says(200, access_token="t", token_type="DPoP", expires_in=300, scope="system/Patient.rs"), "token-scope"),
        (says(200, token_type="DPoP", expires_in=300), "token-form"),
    ],
    ids=["refused", "bound to nothing", "narrower", "no token"],
)
async def test_anything_but_the_token_asked_for_is_refused(
    stranger: Stranger, tokens: Tokens, answer: Answer, reason: str
) -> None:
    stranger.answers["/token"] = answer
    with pytest.raises(Upstream) as refused:
        await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI)
    assert refused.value.reason == reason
    assert EXAMPLE_IHI not in str(refused.value)


async def test_a_token_is_not_shown(tokens: Tokens) -> None:
    token = await tokens.token(FHIR, DISCOVERY, ihi=EXAMPLE_IHI)
    assert token.value not in repr(token)
