"""Asking another gateway: what is sent, what is believed, and what is never followed."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.client.conftest import Stranger

from mdg import envelope
from mdg.client import FoundStudy, Gateway, find_study
from mdg.client import gateway as gateway_module
from mdg.errors import InputOutput, NotFound, Refused, Upstream
from mdg.keys import Card, Ed25519Key, Keyring
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER
from mdg.sandbox.phantom import write_phantom
from mdg.store import room

pytestmark = pytest.mark.anyio

ID = "5f0c1f9e-0000-4000-8000-000000000001"
UID = "2.25.77"


def bundle(address: str) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "entry": [
            {
                "resource": {
                    "resourceType": "ImagingStudy",
                    "id": "st-1",
                    "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"}],
                    "endpoint": [{"reference": "Endpoint/other"}, {"reference": "Endpoint/ep-1"}],
                }
            },
            {
                "resource": {
                    "resourceType": "Endpoint",
                    "id": "ep-1",
                    "connectionType": {"system": "https://w3id.org/mdg/CodeSystem/connection-type", "code": "jmix"},
                    "managingOrganization": {
                        "identifier": {"system": EXAMPLE_PROVIDER.system, "value": EXAMPLE_PROVIDER}
                    },
                    "address": address,
                }
            },
        ],
    }


def study(stranger: Stranger) -> FoundStudy:
    return FoundStudy("st-1", UID, f"{stranger.url}/api/jmix?studyInstanceUid={UID}", EXAMPLE_PROVIDER, {})


def granted(stranger: Stranger, length: int, url: str = "/api/jmix/r/abc?t=ticket") -> dict[str, Any]:
    return {"url": url, "length": length, "etag": '"e"', "segments": 0, "not_after": "2026-01-01T00:00:00Z", "fs": 2}


def gives(stranger: Stranger, path: str, content: Any, status: int = 200) -> None:
    async def answer(request: Request) -> Response:
        return JSONResponse(content, status)

    stranger.answers[path] = answer


async def test_a_search_sends_the_person_in_the_body_only(stranger: Stranger, gateway: Gateway) -> None:
    gives(stranger, "/fhir/ImagingStudy/_search", bundle(f"{stranger.url}/api/jmix?studyInstanceUid={UID}"))
    found = await gateway.find(EXAMPLE_IHI, request_id=ID)
    (one,) = found.studies
    assert (one.id, one.uid, one.custodian) == ("st-1", UID, EXAMPLE_PROVIDER)
    assert one.address == f"{stranger.url}/api/jmix?studyInstanceUid={UID}"
    _, headers, body = stranger.asked[-1]
    assert parse_qs(body.decode())["patient.identifier"] == [
        f"http://ns.electronichealth.net.au/id/hi/ihi/1.0|{EXAMPLE_IHI}"
    ]
    assert headers["x-request-id"] == ID
    assert headers["authorization"].startswith("DPoP ")
    assert EXAMPLE_IHI not in json.dumps(headers)


def pages(stranger: Stranger, numbers: list[int], **last: Any) -> None:
    """A search whose answer has a page for each number; `last` is what its last page has besides."""

    def page(at: int) -> dict[str, Any]:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:2.25.{numbers[at]}"}
        resource = {"resourceType": "ImagingStudy", "id": f"st-{numbers[at]}", "identifier": [identifier]}
        found: dict[str, Any] = {"resourceType": "Bundle", "entry": [{"resource": resource}]}
        if at + 1 < len(numbers):
            following = f"{stranger.url}/fhir/ImagingStudy?_page={at + 1}"
            return found | {"link": [{"relation": "self", "url": "x"}, {"relation": "next", "url": following}]}
        return found | {"entry": found["entry"] + last.get("entry", []), "link": last.get("link", [])}

    async def first(request: Request) -> Response:
        return JSONResponse(page(0))

    async def later(request: Request) -> Response:
        return JSONResponse(page(int(request.query_params["_page"])))

    stranger.answers |= {"/fhir/ImagingStudy/_search": first, "/fhir/ImagingStudy": later}


async def test_every_page_of_an_answer_is_read_with_the_same_request_id(stranger: Stranger, gateway: Gateway) -> None:
    pages(stranger, [1, 2, 3])
    found = await gateway.find(EXAMPLE_IHI, request_id=ID)
    assert [one.uid for one in found.studies] == ["2.25.1", "2.25.2", "2.25.3"]
    assert found.missing == ()
    asked = [headers for path, headers, _ in stranger.asked if path.startswith("/fhir/ImagingStudy")]
    assert [headers["x-request-id"] for headers in asked] == [ID] * 3
    assert len({headers["dpop"] for headers in asked}) == 3


async def test_pages_without_end_are_given_up(
    stranger: Stranger, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "PAGES", 5)
    again = {"relation": "next", "url": "/fhir/ImagingStudy?_page=1"}
    pages(stranger, [1, 2], link=[again])
    with pytest.raises(Upstream, match="more than 5 pages"):
        await gateway.find(EXAMPLE_IHI, request_id=ID)


async def test_the_next_page_is_not_asked_of_another_host(stranger: Stranger, gateway: Gateway) -> None:
    pages(stranger, [1], link=[{"relation": "next", "url": "http://127.0.0.1:1/fhir/ImagingStudy?_page=1"}])
    with pytest.raises(Upstream, match="another host"):
        await gateway.find(EXAMPLE_IHI, request_id=ID)


async def test_an_answer_that_lacks_a_source_does_not_say_that_a_study_is_not_there(
    stranger: Stranger, gateway: Gateway
) -> None:
    issues = [
        {"severity": "warning", "code": "timeout", "diagnostics": "source pacs-2 did not\x1b answer"},
        {"severity": "information", "code": "informational", "diagnostics": "X-Request-ID 1"},
    ]
    outcome = {"resource": {"resourceType": "OperationOutcome", "issue": issues}, "search": {"mode": "outcome"}}
    pages(stranger, [1, 2], entry=[outcome])
    found = await gateway.find(EXAMPLE_IHI, request_id=ID)
    assert found.missing == ("timeout: source pacs-2 did not answer",)
    assert find_study(found, "2.25.2").id == "st-2"
    with pytest.raises(Upstream, match="source pacs-2 did not answer"):
        find_study(found, "2.25.3")


async def test_a_refusal_is_told_with_its_status_and_code(stranger: Stranger, gateway: Gateway) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"code": "forbidden", "diagnostics": "no\x1b[31m access"}]}
    gives(stranger, "/fhir/ImagingStudy/_search", outcome, 403)
    with pytest.raises(Upstream) as refused:
        await gateway.find(EXAMPLE_IHI, request_id=ID)
    assert refused.value.answered == 403
    assert "forbidden: no[31m access" in str(refused.value)
    problem = {"title": "Too Many Requests", "status": 429, "code": "throttled", "detail": "come\x1b again"}
    gives(stranger, "/fhir/ImagingStudy/_search", problem, 429)
    with pytest.raises(Upstream, match=r"429 \(throttled: come again\)"):
        await gateway.find(EXAMPLE_IHI, request_id=ID)


async def test_a_request_is_signed_for_this_gateway_with_a_key_of_its_own(
    stranger: Stranger, gateway: Gateway, keyring: Keyring, provider: Card
) -> None:
    gives(stranger, "/api/jmix/requests", granted(stranger, 10), 201)
    keys = set()
    for _ in range(2):
        grant = await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)
        _, headers, jws = stranger.asked[-1]
        claims = json.loads(keyring.card.verify_jws(jws, "ief-retrieval+jws"))
        assert headers["content-type"] == "application/jose"
        assert (claims["aud"], claims["study"], claims["profile"]) == (provider.id, "st-1", "jmix-1.0")
        assert claims["requester"]["id"] == keyring.card.id
        assert base64.b64decode(claims["key"]["public_key"]) == grant.key.public
        assert grant.digest == hashlib.sha256(jws).digest()
        keys.add(grant.key.public)
    assert len(keys) == 2
    assert keyring.x25519.public not in keys


async def test_a_busy_provider_is_sent_the_very_same_request_again(
    stranger: Stranger, gateway: Gateway, provider: Card
) -> None:
    async def busy_once(request: Request) -> Response:
        if stranger.paths().count("/api/jmix/requests") == 1:
            return JSONResponse({}, 503, headers={"Retry-After": "0"})
        return JSONResponse(granted(stranger, 10), 201)

    stranger.answers["/api/jmix/requests"] = busy_once
    grant = await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)
    sent = [(headers["dpop"], body) for path, headers, body in stranger.asked if path == "/api/jmix/requests"]
    assert sent[0][1] == sent[1][1]
    assert sent[0][0] != sent[1][0]
    assert grant.length == 10


@pytest.mark.parametrize(
    "where", ["https://elsewhere.example/api/jmix?studyInstanceUid=1", "http://127.0.0.1:1/api/jmix"]
)
async def test_a_token_goes_to_no_other_host(stranger: Stranger, gateway: Gateway, provider: Card, where: str) -> None:
    elsewhere = FoundStudy("st-1", UID, where, EXAMPLE_PROVIDER, {})
    with pytest.raises(Upstream, match="another host"):
        await gateway.request(elsewhere, EXAMPLE_IHI, provider=provider, request_id=ID)
    gives(stranger, "/api/jmix/requests", granted(stranger, 10, url="http://127.0.0.1:1/api/jmix/r/a?t=x"), 201)
    with pytest.raises(Upstream, match="another host"):
        await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)


async def test_an_address_that_is_none_is_a_refusal(stranger: Stranger, gateway: Gateway, provider: Card) -> None:
    with pytest.raises(Upstream, match="address"):
        await gateway.request(
            FoundStudy("st-1", UID, "http://[", EXAMPLE_PROVIDER, {}), EXAMPLE_IHI, provider=provider, request_id=ID
        )
    gives(stranger, "/api/jmix/requests", granted(stranger, 10, url="http://[/x"), 201)
    with pytest.raises(Upstream, match="address"):
        await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)


async def test_a_study_is_named_by_a_uid_and_by_no_other_words(stranger: Stranger, gateway: Gateway) -> None:
    answer = bundle(f"{stranger.url}/api/jmix")
    answer["entry"][0]["resource"]["identifier"][0]["value"] = "urn:oid:SMITH^ANN"
    gives(stranger, "/fhir/ImagingStudy/_search", answer)
    assert (await gateway.find(EXAMPLE_IHI, request_id=ID)).studies == ()


async def test_no_more_is_fetched_than_an_envelope_may_have_or_the_disk_holds(
    stranger: Stranger, gateway: Gateway, provider: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gives(stranger, "/api/jmix/requests", granted(stranger, (61 << 30) + 1), 201)
    with pytest.raises(Refused, match="E_LIMIT"):
        await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)
    monkeypatch.setattr(room, "HEADROOM", 1 << 60)
    gives(stranger, "/api/jmix/requests", granted(stranger, 10), 201)
    with pytest.raises(InputOutput, match="no room"):
        await gateway.fetch(study(stranger), EXAMPLE_IHI, tmp_path / "out", provider=provider, request_id=ID)
    assert "/api/jmix/r/abc" not in stranger.paths()


async def test_a_study_without_a_jmix_endpoint_is_not_asked_for(
    stranger: Stranger, gateway: Gateway, provider: Card
) -> None:
    with pytest.raises(NotFound):
        await gateway.request(FoundStudy("st-1", UID, None, None, {}), EXAMPLE_IHI, provider=provider, request_id=ID)
    assert stranger.asked == []


async def test_a_broken_download_goes_on_where_it_stopped(
    stranger: Stranger, gateway: Gateway, provider: Card, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB
    ranges: list[str | None] = []

    async def breaks_once(request: Request) -> Response:
        ranges.append(request.headers.get("range"))
        start = int((ranges[-1] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Length": str(len(content) - start), "ETag": '"e"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Response(content[start:], 206, headers=headers)
        return _Cut(content, len(content) * 3 // 4, headers)

    gives(stranger, "/api/jmix/requests", granted(stranger, len(content)), 201)
    stranger.answers["/api/jmix/r/abc"] = breaks_once
    grant = await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)
    await gateway.download(grant, EXAMPLE_IHI, tmp_path / "e.zip", request_id=ID)
    assert (tmp_path / "e.zip").read_bytes() == content
    assert ranges[0] is None
    assert len(ranges) == 2
    assert (tmp_path / "e.zip").stat().st_mode & 0o077 == 0


async def test_another_length_than_announced_is_refused(
    stranger: Stranger, gateway: Gateway, provider: Card, tmp_path: Path
) -> None:
    async def short(request: Request) -> Response:
        return Response(b"x" * 9, headers={"ETag": '"e"'})

    gives(stranger, "/api/jmix/requests", granted(stranger, 10), 201)
    stranger.answers["/api/jmix/r/abc"] = short
    grant = await gateway.request(study(stranger), EXAMPLE_IHI, provider=provider, request_id=ID)
    with pytest.raises(InputOutput, match="9 bytes came of the 10"):
        await gateway.download(grant, EXAMPLE_IHI, tmp_path / "e.zip", request_id=ID)


@pytest.mark.parametrize("answered", [True, False], ids=["ours", "another's"])
async def test_only_the_answer_to_our_own_request_is_opened(
    *,
    stranger: Stranger,
    gateway: Gateway,
    keyring: Keyring,
    provider: Card,
    provider_key: Ed25519Key,
    tmp_path: Path,
    answered: bool,
) -> None:
    write_phantom(tmp_path / "study", slices=1)

    async def seal(request: Request) -> Response:
        jws = stranger.asked[-1][2]
        asked = json.loads(keyring.card.verify_jws(jws, "ief-retrieval+jws"))
        envelope.pack(
            [(path, None) for path in (tmp_path / "study").iterdir()],
            envelope_id="0d4e7b52-5b52-4c55-9a76-2f2b7a0c6a11",
            timestamp="2026-05-01T00:00:00Z",
            patient_id="urn:uuid:0d4e7b52-5b52-4c55-9a76-2f2b7a0c6a12",
            identifiers=[],
            sender=provider.entity,
            requester=keyring.card.entity,
            receiver=keyring.card.entity,
            recipient=base64.b64decode(asked["key"]["public_key"]),
            signer=provider_key,
            request_digest=hashlib.sha256(jws if answered else b"another request").digest(),
            out=tmp_path / "sealed.zip",
        )
        return JSONResponse(granted(stranger, (tmp_path / "sealed.zip").stat().st_size), 201)

    async def send(request: Request) -> Response:
        return Response((tmp_path / "sealed.zip").read_bytes(), headers={"ETag": '"e"'})

    stranger.answers |= {"/api/jmix/requests": seal, "/api/jmix/r/abc": send}
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / ".s.0123456789abcdef.part").write_bytes(b"what a killed fetch of the same name left")
    if answered:
        opened = await gateway.fetch(study(stranger), EXAMPLE_IHI, inbox / "s", provider=provider, request_id=ID)
        assert opened.report.instances == 1
        assert [path.name for path in inbox.iterdir()] == ["s"]
        return
    with pytest.raises(Refused) as refused:
        await gateway.fetch(study(stranger), EXAMPLE_IHI, inbox / "s", provider=provider, request_id=ID)
    assert refused.value.code == "E_REQ"
    assert list(inbox.iterdir()) == []


class _Cut(Response):
    """An answer that announces everything and breaks after `after` bytes."""

    def __init__(self, content: bytes, after: int, headers: dict[str, str]) -> None:
        super().__init__(b"", headers=headers)
        self._part = content[:after]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._part, "more_body": True})
        raise ConnectionAbortedError
