"""The stand-in token authority: tokens as spec/access 1.3 asks, and only for a fresh proof of possession."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from mdg.errors import Misuse
from mdg.keys import ProofKey
from mdg.sandbox import create_app
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI

URL = "http://127.0.0.1:8400"
FORM = {
    "grant_type": "client_credentials",
    "resource": "http://127.0.0.1:8420/fhir",
    "scope": "system/ImagingStudy.rs system/Endpoint.rs",
    "purpose": "TREAT",
    "ihi": EXAMPLE_IHI,
    "organisation": EXAMPLE_CONSUMER,
}

pytestmark = pytest.mark.anyio


async def ask(sandbox: httpx2.AsyncClient, form: dict[str, str], *proofs: str) -> httpx2.Response:
    return await sandbox.post("/token", data=form, headers=[("DPoP", proof) for proof in proofs])


async def test_a_token_has_the_header_and_claims_of_the_profile(sandbox: httpx2.AsyncClient) -> None:
    key = ProofKey.generate()
    answer = await ask(sandbox, FORM, key.prove("POST", f"{URL}/token"))
    assert answer.status_code == 200
    assert answer.json() | {"access_token": ""} == {
        "access_token": "",
        "token_type": "DPoP",
        "expires_in": 300,
        "scope": FORM["scope"],
        "sandbox": True,
    }
    jwks = (await sandbox.get("/jwks")).json()
    token = jwt.decode(
        answer.json()["access_token"], KeySet.import_key_set({"keys": jwks["keys"]}), algorithms=["ES256"]
    )
    assert token.header == {"typ": "at+jwt", "alg": "ES256", "kid": jwks["keys"][0]["kid"]}
    claims = token.claims
    assert claims["exp"] - claims["iat"] == 300
    assert len(claims.pop("jti")) >= 22  # 128 bits in base64url
    assert {name: value for name, value in claims.items() if name not in ("iat", "exp")} == {
        "iss": URL,
        "sub": EXAMPLE_CONSUMER.uri,
        "client_id": EXAMPLE_CONSUMER.uri,
        "aud": FORM["resource"],
        "scope": FORM["scope"],
        "cnf": {"jkt": key.jkt},
        "extensions": {
            "ihe_iua": {
                "subject_organization_id": EXAMPLE_CONSUMER.uri,
                "person_id": EXAMPLE_IHI.uri,
                "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
            }
        },
    }


async def test_the_key_set_holds_no_private_member(sandbox: httpx2.AsyncClient) -> None:
    (key,) = (await sandbox.get("/jwks")).json()["keys"]
    assert "d" not in key
    assert (key["kty"], key["crv"], key["alg"]) == ("EC", "P-256", "ES256")


async def test_a_proof_counts_once(sandbox: httpx2.AsyncClient) -> None:
    proof = ProofKey.generate().prove("POST", f"{URL}/token")
    assert (await ask(sandbox, FORM, proof)).status_code == 200
    again = await ask(sandbox, FORM, proof)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize(
    ("method", "url"), [("GET", f"{URL}/token"), ("POST", f"{URL}/cards"), ("POST", "http://a.example/token")]
)
async def test_a_proof_for_another_request_is_refused(sandbox: httpx2.AsyncClient, method: str, url: str) -> None:
    answer = await ask(sandbox, FORM, ProofKey.generate().prove(method, url))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


async def test_without_exactly_one_fresh_proof_there_is_no_token(sandbox: httpx2.AsyncClient) -> None:
    key = ProofKey.generate()
    old = key.prove("POST", f"{URL}/token", now=datetime.now(UTC) - timedelta(seconds=120))
    two = [key.prove("POST", f"{URL}/token") for _ in range(2)]
    for proofs in ([], [old], two):
        answer = await ask(sandbox, FORM, *proofs)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
        assert "access_token" not in answer.json()


@pytest.mark.parametrize(
    "change",
    [
        {"ihi": "8003608833357362"},
        {"organisation": EXAMPLE_IHI},
        {"scope": "system/*.rs"},
        {"scope": ""},
        {"purpose": "CURIOSITY"},
        {"resource": "https://mdg.example.org/fhir"},
        {"grant_type": "password"},
        {"practitioner": EXAMPLE_IHI},
        {"surprise": "1"},
    ],
    ids="-".join,
)
async def test_a_wrong_field_is_refused_by_name(sandbox: httpx2.AsyncClient, change: dict[str, str]) -> None:
    answer = await ask(sandbox, FORM | change, ProofKey.generate().prove("POST", f"{URL}/token"))
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert EXAMPLE_IHI[:10] not in json.dumps(answer.json())


async def test_every_answer_is_marked(sandbox: httpx2.AsyncClient) -> None:
    for answer in (
        await sandbox.get("/jwks"),
        await sandbox.get("/nothing"),
        await sandbox.get("/token"),
        await sandbox.post("/token", content=b"{}", headers={"Content-Type": "application/json"}),
        await sandbox.post("/cards", content=b"x" * 70_000),
        await sandbox.get("/jwks", headers={"Host": "attacker.example"}),
    ):
        assert answer.headers["X-MDG-Sandbox"] == "true", answer
        assert answer.json()["sandbox"] is True


async def test_a_name_that_resolves_here_is_not_answered(sandbox: httpx2.AsyncClient) -> None:
    assert (await sandbox.get("/jwks", headers={"Host": "attacker.example:8400"})).status_code == 421
    assert (await sandbox.get("/jwks", headers={"Host": "localhost:8400"})).status_code == 200


@pytest.mark.parametrize(
    "url", ["https://as.example.gov.au", "http://10.0.0.1:8400", "http://0.0.0.0:8400", "127.0.0.1:8400", ""]
)
def test_it_refuses_to_stand_anywhere_but_on_the_loopback(url: str) -> None:
    with pytest.raises(Misuse):
        create_app(url)
