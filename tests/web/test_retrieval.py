"""Retrieval over real HTTP: asked for by a signed request, sealed to a fresh key, given as any range, refused by
name."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pydicom
import pytest
from sqlalchemy import select
from tests.web.conftest import second_gateway

from mdg import _core, envelope
from mdg.access import Replay
from mdg.cli.serve import folder_source
from mdg.errors import Refused
from mdg.exchange import envelopes as envelopes_module
from mdg.exchange.envelopes import ENVELOPES
from mdg.model.identity import Ihi
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up
from mdg.sandbox.phantom import write_phantom
from mdg.sources import watcher
from mdg.store import index, room

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
RETRIEVE = ("urn:ief:scope:imaging.retrieve",)


def signed(consumer: Any, study: str, fresh: _core.X25519Key, /, **changed: Any) -> bytes:
    """The request of seg/1 8.4; `changed` members make it a bad one."""
    now = datetime.now(UTC)
    content = {
        "typ": "ief-retrieval/1",
        "aud": EXAMPLE_PROVIDER.uri,
        "study": study,
        "requester": consumer.keyring.card.entity,
        "profile": "jmix-1.0",
        "key": {"suite": "HPKE-X25519-SHA256-AES256GCM", "public_key": base64.b64encode(fresh.public).decode()},
        "nonce": base64.b64encode(secrets.token_bytes(32)).decode(),
        "iat": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "exp": (now + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    signer: _core.Ed25519Key = consumer.keyring.ed25519
    return signer.sign_jws(json.dumps(content | changed).encode(), "ief-retrieval+jws")


async def post(consumer: Any, jws: bytes, **more: Any) -> Any:
    headers = {"Content-Type": "application/jose"} | more.pop("headers", {})
    return await consumer.ask(
        "POST", "/api/jmix/requests", scopes=more.pop("scopes", RETRIEVE), headers=headers, content=jws, **more
    )


async def study_of(gateway: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await gateway.consumer.search()).json()["entry"][0]["resource"]
    return found


async def granted(gateway: Any) -> tuple[_core.X25519Key, bytes, dict[str, Any]]:
    """A granted retrieval: the fresh key, the request, the answer; its path is under `path`."""
    key = _core.X25519Key.generate()
    jws = signed(gateway.consumer, (await study_of(gateway))["id"], key)
    answer = await post(gateway.consumer, jws)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == answer.json()["url"]
    return key, jws, answer.json() | {"path": answer.json()["url"].removeprefix(gateway.url)}


async def get(gateway: Any, path: str, method: str = "GET", **headers: str) -> Any:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.consumer.ask(method, path, scopes=RETRIEVE, headers=fields)


async def credentials(consumer: Any, path: str) -> dict[str, str]:
    """Token and proof for a GET of `path`, for a test that reads the answer as it comes."""
    token = await consumer.tokens.token(f"{consumer.url}/fhir", RETRIEVE, ihi=EXAMPLE_IHI)
    proof = consumer.keyring.dpop.prove("GET", consumer.url + path.partition("?")[0], token.value)
    return {"Authorization": f"DPoP {token.value}", "DPoP": proof}


async def test_a_study_is_asked_for_fetched_whole_and_opens_with_the_fresh_key(
    start: Start, tmp_path: Path, phantom: Path
) -> None:
    async with start() as gateway:
        key, jws, grant = await granted(gateway)
        answer = await get(gateway, grant["path"])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == grant["etag"]
        assert int(answer.headers["content-length"]) == grant["length"] == len(answer.content)
        assert "transfer-encoding" not in answer.headers
        sealed = tmp_path / "sealed.zip"
        sealed.write_bytes(answer.content)
        provider = gateway.rooms.keyring.card
        report = envelope.open_(
            sealed,
            trust=[(provider.id, provider.ed25519)],
            key=key,
            out=tmp_path / "open",
            request_digest=hashlib.sha256(jws).digest(),
        )
        assert (report.signature, report.instances) == ("full", 3)
        originals = {hashlib.sha256(path.read_bytes()).digest() for path in phantom.rglob("*.dcm")}
        opened = {
            hashlib.sha256(path.read_bytes()).digest()
            for path in (tmp_path / "open" / "dicom").rglob("*")
            if path.is_file()
        }
        assert opened == originals
        with pytest.raises(Refused, match="E_REQ"):
            envelope.verify(sealed, trust=[(provider.id, provider.ed25519)], key=key, request_digest=bytes(32))


async def test_grant_release_and_its_end_are_on_record_with_what_was_sent(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        answer = await get(gateway, grant["path"], Range="bytes=0-99")
        records: list[Any] = []
        with anyio.fail_after(10):
            while (
                len(records) < 2
            ):  # the end is written when the last byte has gone, which the reader need not wait for
                records = await gateway.records(answer.headers["x-request-id"])
                await anyio.sleep(0.01)
        assert '"100"' in json.dumps(records[1])


@pytest.mark.parametrize(
    ("range_", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=100-", 206, 100, -1),
        ("bytes=-10", 206, -10, -1),
        ("bytes=0-99999999999999999999", 206, 0, -1),
        ("bytes=5-2", 200, 0, -1),
        ("bytes=a-b", 200, 0, -1),
        ("lines=0-1", 200, 0, -1),
        ("bytes=0-9,10-19", 206, 0, 19),
        ("bytes=0-9,20-29", 200, 0, -1),
        ("bytes=-0", 416, 0, 0),
        ("bytes=99999999999-", 416, 0, 0),
        ("bytes=0-1,3-4,6-7", 416, 0, 0),
    ],
)
async def test_each_range_has_its_exact_answer(start: Start, range_: str, status: int, first: int, last: int) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        whole, length = (await get(gateway, grant["path"])).content, grant["length"]
        answer = await get(gateway, grant["path"], Range=range_)
        assert answer.status_code == status
        if status == 416:
            assert answer.headers["content-range"] == f"bytes */{length}"
            return
        start_, end = first % length, last % length + 1
        assert answer.content == whole[start_:end]
        if status == 206:
            assert answer.headers["content-range"] == f"bytes {start_}-{end - 1}/{length}"


async def test_resume_by_range_gives_the_same_bytes_and_if_range_is_strong(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        whole = (await get(gateway, grant["path"])).content
        cut = len(whole) // 2
        rest = await get(gateway, grant["path"], Range=f"bytes={cut}-", If_Range=grant["etag"])
        assert rest.status_code == 206
        assert rest.content == whole[cut:]
        for other in (f"W/{grant['etag']}", '"other"', "Tue, 24 Nov 2026 08:00:00 GMT"):
            again = await get(gateway, grant["path"], Range="bytes=0-9", If_Range=other)
            assert (again.status_code, len(again.content)) == (200, len(whole))


async def test_a_precondition_is_answered_before_a_byte_is_given_and_is_on_record(start: Start) -> None:
    """RFC 9110 13.1.1, 13.1.2, 13.2.2: the preconditions come before the range."""
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        etag, path = grant["etag"], grant["path"]
        for method in ("GET", "HEAD"):
            same = await get(gateway, path, method, If_None_Match=f'"other", W/{etag}', Range="bytes=0-9")
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
            assert not {"content-length", "content-range", "content-type"} & set(same.headers)
            (record,) = await gateway.records(same.headers["x-request-id"])
            assert record["outcome"] == "0"
            failed = await get(gateway, path, method, If_Match='"other"', Range="bytes=0-9")
            assert (failed.status_code, failed.headers["etag"]) == (412, etag)
            (record,) = await gateway.records(failed.headers["x-request-id"])
            assert record["outcome"] == "4"
        given = await get(gateway, path, If_Match=etag, If_None_Match='"other"', Range="bytes=0-9")
        assert (given.status_code, len(given.content)) == (206, 10)


async def test_head_gives_the_fields_and_no_bytes(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        answer = await get(gateway, grant["path"], "HEAD")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) == grant["length"]
        assert answer.headers["etag"] == grant["etag"]


async def test_a_ticket_is_good_in_one_spelling_for_one_recipe_and_one_token(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        path, ticket = grant["path"].split("?t=")
        for bad in (
            path,
            f"{path}?t={ticket[:-1]}{'A' if ticket[-1] != 'A' else 'B'}",
            f"{path}?t={ticket}&x=1",
            f"{path}?T={ticket}",
            f"{path}?t={ticket}&t={ticket}",
            f"{path}?t={ticket.replace('.', '%2e')}",
            f"{path}x?t={ticket}",
            f"{path}?t=9999999999.{ticket.split('.')[1]}",
        ):
            answer = await get(gateway, bad)
            assert answer.status_code == 403, bad
        other = await gateway.new_consumer("other")
        answer = await other.ask("GET", grant["path"], scopes=RETRIEVE)
        assert answer.status_code == 403
        bare = await gateway.consumer.http.get(grant["url"])
        assert (bare.status_code, "DPoP" in bare.headers["www-authenticate"]) == (401, True)


async def test_a_renewal_gives_another_ticket_for_the_same_bytes(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        recipe = grant["path"].partition("?")[0]
        answer = await gateway.consumer.ask("POST", f"{recipe}/renew", scopes=RETRIEVE)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["etag"], answer.json()["length"]) == (grant["etag"], grant["length"])
        other = await gateway.new_consumer("other")
        assert (await other.ask("POST", f"{recipe}/renew", scopes=RETRIEVE)).status_code == 404


async def test_discovery_scopes_open_no_payload(start: Start) -> None:
    async with start() as gateway:
        study = await study_of(gateway)
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        jws = signed(gateway.consumer, study["id"], _core.X25519Key.generate())
        for answer in (
            await post(gateway.consumer, jws, scopes=("system/ImagingStudy.rs",)),
            await gateway.consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}"),
        ):
            assert answer.status_code == 403
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"aud": "http://ns.electronichealth.net.au/id/hi/hpio/1.0/8003626566707032"}, 401),
        ({"typ": "other"}, 401),
        ({"iat": "2020-01-01T00:00:00Z", "exp": "2020-01-01T00:05:00Z"}, 401),
        ({"profile": "seg/1"}, 422),
        ({"key": {"suite": "X", "public_key": "AA=="}}, 422),
        ({"key": {"suite": "HPKE-X25519-SHA256-AES256GCM", "public_key": base64.b64encode(bytes(32)).decode()}}, 422),
        ({"codecs": ["zstd"]}, 422),
        ({"study": "01JV3W8ZC0D2E4F6G8H0J2K4M6"}, 404),
    ],
)
async def test_bad_requests_have_their_exact_answers(start: Start, changed: dict[str, Any], status: int) -> None:
    async with start() as gateway:
        jws = signed(gateway.consumer, (await study_of(gateway))["id"], _core.X25519Key.generate(), **changed)
        answer = await post(gateway.consumer, jws)
        assert answer.status_code == status, answer.text
        assert len(await gateway.records(answer.headers["x-request-id"])) == 1


async def test_a_request_answers_once_and_only_to_its_signer(start: Start) -> None:
    async with start() as gateway:
        _, jws, _ = await granted(gateway)
        assert (await post(gateway.consumer, jws)).status_code == 409
        other = await gateway.new_consumer("other")
        fresh = signed(gateway.consumer, (await study_of(gateway))["id"], _core.X25519Key.generate())
        assert (await post(other, fresh)).status_code == 401
        wrong = await post(gateway.consumer, fresh, headers={"Content-Type": "application/json"})
        assert wrong.status_code == 415
        assert (await post(gateway.consumer, b"x" * 70_000)).status_code == 413


async def test_another_patients_study_is_not_there(start: Start) -> None:
    async with start() as gateway:
        study = await study_of(gateway)
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        other = made_up(Ihi, "another person")
        signed_ones = [
            await post(gateway.consumer, signed(gateway.consumer, which, _core.X25519Key.generate()), ihi=other)
            for which in (study["id"], "0" * 32)
        ]
        answers = [
            await gateway.consumer.ask("GET", f"/api/jmix?studyInstanceUid={which}", scopes=RETRIEVE, ihi=other)
            for which in (uid, "1.2.3.4")
        ]
        for hidden, unknown in (signed_ones, answers):
            assert (hidden.status_code, unknown.status_code) == (404, 404)
            ids = [answer.headers["x-request-id"] for answer in (hidden, unknown)]
            assert hidden.text.replace(ids[0], "") == unknown.text.replace(ids[1], "")
            assert await gateway.costs.of(ids[0]) == await gateway.costs.of(ids[1])


async def test_a_request_that_takes_too_long_is_asked_again_with_its_nonce_unused(start: Start) -> None:
    async with start() as gateway:
        gateway.rooms.making.patience = 0.0
        key = _core.X25519Key.generate()
        jws = signed(gateway.consumer, (await study_of(gateway))["id"], key)
        first = await post(gateway.consumer, jws)
        assert (first.status_code, first.headers["retry-after"]) == (503, "10")
        gateway.rooms.making.patience = 30.0
        second = await post(gateway.consumer, jws)
        assert second.status_code == 201
        assert len(list((gateway.rooms.settings.data / "spool").iterdir())) == 1


async def test_the_envelope_of_a_study_is_sealed_to_the_directory_key_and_made_once(start: Start) -> None:
    async with start() as gateway:
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        first, second = [await get(gateway, f"/api/jmix?studyInstanceUid={uid}") for _ in range(2)]
        assert first.status_code == 200, first.text
        assert first.content == second.content
        location = first.headers["content-location"]
        assert first.headers["etag"] == second.headers["etag"]
        again = await get(gateway, location)
        assert again.content == first.content
        manifest = await get(gateway, f"{location}/manifest")
        assert manifest.json()["id"] == location.rpartition("/")[2]
        other = await gateway.new_consumer("other")
        for path in (location, f"{location}/manifest"):
            assert (await other.ask("GET", path, scopes=RETRIEVE)).status_code == 404
        theirs = await other.ask("GET", f"/api/jmix?studyInstanceUid={uid}", scopes=RETRIEVE)
        assert theirs.headers["content-location"] != location


async def test_only_fresh_keys_where_forward_secrecy_is_demanded(start: Start) -> None:
    async with start(minimum_level=2) as gateway:
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        answer = await get(gateway, f"/api/jmix?studyInstanceUid={uid}")
        assert answer.status_code == 422
        assert (await granted(gateway))[2]["fs"] == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/jmix", 400),
        ("/api/jmix?studyInstanceUid=1.2.3&x=1", 400),
        ("/api/jmix?studyInstanceUid=../x", 400),
        ("/api/jmix/not-an-id", 404),
        ("/api/jmix/6f9619ff-8b86-4011-b42d-00c04fc964ff", 404),
        ("/api/jmix/6f9619ff-8b86-4011-b42d-00c04fc964ff/manifest", 404),
        ("/api/jmix/prime/1.2.3", 404),
    ],
)
async def test_bad_addresses_have_their_exact_answers(start: Start, path: str, status: int) -> None:
    async with start() as gateway:
        assert (await get(gateway, path)).status_code == status


async def test_a_spool_that_changed_gives_no_byte(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        (spool,) = (gateway.rooms.settings.data / "spool").iterdir()
        assert spool.stat().st_mode & 0o777 == 0o600
        assert spool.parent.stat().st_mode & 0o777 == 0o700
        changed = bytearray(spool.read_bytes())
        changed[10] ^= 1
        spool.write_bytes(changed)
        answer = await get(gateway, grant["path"])
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/fhir+json"


async def test_a_file_that_changed_since_it_was_indexed_is_not_packed(
    start: Start, tmp_path: Path, phantom: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in phantom.rglob("*.dcm"):
        (images / path.name).write_bytes(path.read_bytes())
    async with start(sources=folder_source([images])) as gateway:
        study = await study_of(gateway)
        victim = next(images.iterdir())
        stat = victim.stat()
        changed = bytearray(victim.read_bytes())
        changed[-1] ^= 1
        victim.write_bytes(changed)
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        answer = await post(gateway.consumer, signed(gateway.consumer, study["id"], _core.X25519Key.generate()))
        assert answer.status_code == 409, answer.text
        assert list((gateway.rooms.settings.data / "spool").iterdir()) == []


async def test_lapsed_envelopes_and_leftovers_are_erased(start: Start) -> None:
    async with start() as gateway:
        await granted(gateway)
        spool = gateway.rooms.settings.data / "spool"
        (spool / "left.making").write_bytes(b"half")
        envelopes = gateway.rooms.envelopes
        await envelopes.sweep(datetime.now(UTC))
        assert len(list(spool.iterdir())) == 2
        await envelopes.sweep(datetime.now(UTC) + timedelta(hours=26))
        assert list(spool.iterdir()) == []


async def test_a_spool_that_changes_or_fails_under_the_sweep_stops_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is renamed between the look and the question how old it is; another is none of the gateway's."""

    def renamed(_: Path) -> os.stat_result:
        raise FileNotFoundError

    monkeypatch.setattr(envelopes_module, "SWEEP", timedelta(seconds=0.01))
    async with start() as gateway:
        spool = gateway.rooms.settings.data / "spool"
        spool.mkdir(mode=0o700, exist_ok=True)
        later = datetime.now(UTC) + timedelta(hours=26)
        (spool / "left.making").write_bytes(b"half")
        with monkeypatch.context() as patched:
            patched.setattr(Path, "lstat", renamed)
            assert await gateway.rooms.envelopes.sweep(later) == 0
        assert await gateway.rooms.envelopes.sweep(later) == 1
        (spool / "folder").mkdir()
        os.utime(spool / "folder", (0, 0))
        await anyio.sleep(0.1)
        _, _, grant = await granted(gateway)
        assert (await get(gateway, grant["path"])).status_code == 200


async def test_a_disk_that_is_nearly_full_takes_no_envelope(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """P15: what a requester may have made must not be what stops the audit, and everybody else with it."""
    async with start() as gateway:
        study = await study_of(gateway)
        monkeypatch.setattr(room, "HEADROOM", 1 << 60)
        answer = await post(gateway.consumer, signed(gateway.consumer, study["id"], _core.X25519Key.generate()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert list((gateway.rooms.settings.data / "spool").iterdir()) == []


async def test_what_a_crash_left_of_a_retrieval_is_gone_after_the_start(start: Start, tmp_path: Path) -> None:
    left = tmp_path / "provider" / "incoming" / "opened" / "dicom"
    left.mkdir(parents=True)
    (left / "1.dcm").write_bytes(b"a person's image")
    async with start():
        assert not left.exists()


async def test_what_another_gateway_sends_leaves_our_own_copy_where_it_was(start: Start, tmp_path: Path) -> None:
    """The other gateway's copy has a file without IssuerOfPatientID, where its own default counts; then it is one that
    leaves in doubt whose it is, which is refused."""
    theirs = tmp_path / "theirs"
    write_phantom(theirs, slices=3)
    one, other = sorted(theirs.rglob("*.dcm"))[:2]
    with pydicom.dcmread(one) as image:
        del image.IssuerOfPatientID
        image.save_as(one)
    async with start(sources=folder_source([theirs])) as provider, second_gateway(start, provider) as receiver:
        uid = (await study_of(receiver))["identifier"][0]["value"].removeprefix("urn:oid:")

        async def receive() -> Any:
            asked = {"gateway": provider.url, "ihi": str(EXAMPLE_IHI)}
            answer = await provider.consumer.http.post(f"{receiver.admin}/retrievals", json=asked, timeout=60)
            found = (await receiver.consumer.search()).json()
            assert (found["total"], found["entry"][0]["resource"]["numberOfInstances"]) == (1, 3)
            mine = await receiver.consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}", scopes=RETRIEVE)
            assert mine.status_code == 200, mine.text
            return answer

        answer = await receive()
        assert answer.status_code == 201, answer.text
        with pydicom.dcmread(other) as image:
            item = pydicom.Dataset()
            item.PatientID, item.IssuerOfPatientID = str(made_up(Ihi, "another person")), "AUSHIC"
            image.OtherPatientIDsSequence = [item]
            image.save_as(other)
        await watcher.scan(provider.rooms.sources)
        assert [one.code for one in await provider.rooms.identities.problems()] == ["two-ihis"]
        forget = "DELETE FROM identities WHERE source LIKE 'dicom%'"  # a provider that does not look at its files
        await provider.rooms.store.write(lambda connection: connection.exec_driver_sql(forget))
        answer = await receive()
        assert answer.status_code == 502
        assert "E_DICOM_IDENTITY: two different IHIs" in answer.text
        record = (await receiver.records(answer.headers["x-request-id"]))[-1]
        assert record["outcomeDesc"] == "E_DICOM_IDENTITY"
        assert await receiver.rooms.identities.problems() == []


async def test_a_consumer_gateway_fetches_verifies_and_then_holds_the_study(start: Start) -> None:
    async with start() as provider, second_gateway(start, provider, sources=(), identity=None) as receiver:
        asked = {"gateway": provider.url, "ihi": str(EXAMPLE_IHI)}
        answer = await provider.consumer.http.post(f"{receiver.admin}/retrievals", json=asked, timeout=30)
        assert answer.status_code == 201, answer.text
        assert answer.json()["instances"] == 3
        found = (await receiver.consumer.search()).json()
        assert found["total"] == 1
        assert found["entry"][0]["resource"]["identifier"][0]["value"] == f"urn:oid:{answer.json()['study']}"
        mine = await receiver.records(answer.json()["request_id"])
        theirs = await provider.rooms.audit.for_callers_id(answer.json()["request_id"])
        assert (len(mine), len(theirs)) == (3, 4)
        missing = await provider.consumer.http.post(
            f"{receiver.admin}/retrievals", json=asked | {"study": "1.2.3"}, timeout=30
        )
        assert missing.status_code == 404


async def test_what_is_granted_is_decided_again(start: Start) -> None:
    """C20: the next request on a live address is refused once the decision has turned."""
    from mdg.access import decide
    from mdg.model.request import Verdict

    turned = anyio.Event()

    def decided(*args: Any, **rules: Any) -> Verdict:
        return Verdict(False, ()) if turned.is_set() and args[2].study else decide(*args, **rules)

    async with start(decide=decided) as gateway:
        _, _, grant = await granted(gateway)
        assert (await get(gateway, grant["path"])).status_code == 200
        turned.set()
        assert (await get(gateway, grant["path"])).status_code == 403


@pytest.mark.parametrize("damage", ["flip", "truncate", "unlink"])
async def test_a_damaged_envelope_is_made_anew_when_it_is_asked_for_again(
    start: Start, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """spec/hostile-input X31: no byte leaves that was not written so, and the operator hears of it."""
    async with start() as gateway:
        path = "/api/jmix?studyInstanceUid=" + (await study_of(gateway))["identifier"][0]["value"][8:]
        first = await get(gateway, path)
        (spool,) = (gateway.rooms.settings.data / "spool").iterdir()
        match damage:
            case "flip":
                changed = bytearray(spool.read_bytes())
                changed[1000] ^= 1  # in the first piece: nothing was sent yet, so there is an answer
                spool.write_bytes(changed)
            case "truncate":
                os.truncate(spool, spool.stat().st_size // 2)
            case "unlink":
                spool.unlink()
        said = await get(gateway, path)
        if damage != "unlink":
            assert said.status_code in (409, 503), said.text
            assert "ask" in said.json()["issue"][0]["diagnostics"]
        again = await get(gateway, path)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.headers["content-location"] != first.headers["content-location"]
        assert again.headers["etag"] != first.headers["etag"]
        assert zipfile.ZipFile(io.BytesIO(again.content)).testzip() is None
        (left,) = (gateway.rooms.settings.data / "spool").iterdir()
        assert left.read_bytes() == again.content
        printed = capfd.readouterr()
        (line,) = (line for line in (printed.out + printed.err).splitlines() if "envelope damaged" in line)
        assert "error" in line
        assert str(spool.parent) in line


async def test_a_download_of_a_damaged_envelope_is_refused_and_a_new_request_is_answered(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        (spool,) = (gateway.rooms.settings.data / "spool").iterdir()
        spool.write_bytes(b"\0" + spool.read_bytes()[1:])
        assert (await get(gateway, grant["path"])).status_code == 409
        assert (await get(gateway, grant["path"])).status_code == 404
        _, _, fresh = await granted(gateway)
        assert (await get(gateway, fresh["path"])).status_code == 200


async def test_a_request_that_another_process_has_answered_leaves_no_envelope(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def used(_: Replay, kind: str, *__: object) -> bool:
        return kind == "nonce"

    async with start() as gateway:
        study = (await study_of(gateway))["id"]
        monkeypatch.setattr(Replay, "seen", used)
        answer = await post(gateway.consumer, signed(gateway.consumer, study, _core.X25519Key.generate()))
        assert answer.status_code == 409
        assert list((gateway.rooms.settings.data / "spool").iterdir()) == []
        async with gateway.rooms.store.read() as connection:
            assert (await connection.execute(select(ENVELOPES.c.id))).all() == []


async def test_a_file_that_changed_unseen_is_named_and_read_again(start: Start, tmp_path: Path) -> None:
    """Its size and time are as they were, so a scan alone would never look at it again."""
    write_phantom(tmp_path / "images", slices=2)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        path = "/api/jmix?studyInstanceUid=" + (await study_of(gateway))["identifier"][0]["value"][8:]
        file = sorted((tmp_path / "images").rglob("*.dcm"))[0]
        was, content = file.stat(), bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
        assert (await watcher.scan(gateway.rooms.sources)).read == 0
        assert (await get(gateway, path)).status_code == 409

        async def problems() -> list[tuple[str, str]]:
            async with gateway.rooms.store.read() as connection:
                found = await index.file_problems(connection, EXAMPLE_PROVIDER)
            return [(one.code, one.where) for one in found]

        assert await problems() == [("E_CHANGED", str(file))]
        assert (await watcher.scan(gateway.rooms.sources)).read == 1
        assert await problems() == []
        assert (await get(gateway, path)).status_code == 200


async def test_more_downloads_than_configured_are_told_to_come_back(start: Start, tmp_path: Path) -> None:
    """D8, P16: one address used many times at once; another requester still gets in, until all places are taken."""
    write_phantom(tmp_path / "images" / "ct", slices=40)
    async with start(sources=folder_source([tmp_path / "images"]), streams=2, streams_each=1) as gateway:
        _, _, grant = await granted(gateway)
        address = "/api/jmix?studyInstanceUid=" + (await study_of(gateway))["identifier"][0]["value"][8:]
        second, third = await gateway.new_consumer("second"), await gateway.new_consumer("third")
        consumer = gateway.consumer
        async with consumer.http.stream(
            "GET", grant["url"], headers=await credentials(consumer, grant["path"])
        ) as first:
            assert first.status_code == 200
            for path in (grant["path"], address):
                refused = await get(gateway, path)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
                assert refused.json()["issue"][0]["code"] == "throttled"
                (record,) = await gateway.records(refused.headers["x-request-id"])
                assert record["outcomeDesc"] == "streams"
            assert (await second.ask("GET", address, scopes=RETRIEVE)).status_code == 200
            async with consumer.http.stream("GET", gateway.url + address, headers=await credentials(second, address)):
                assert (await third.ask("GET", address, scopes=RETRIEVE)).status_code == 429


async def test_a_stop_lets_a_running_download_end_and_takes_no_new_one(start: Start, tmp_path: Path) -> None:
    """X24: the envelope is larger than what the kernel holds for a reader that waits."""
    write_phantom(tmp_path / "images" / "ct", slices=40)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        _, _, grant = await granted(gateway)
        consumer = gateway.consumer
        received = 0
        async with consumer.http.stream(
            "GET", grant["url"], headers=await credentials(consumer, grant["path"])
        ) as answer:
            async for piece in answer.aiter_raw():
                if not received:
                    gateway.rooms.stopping.set()
                    await anyio.sleep(0.2)
                    with pytest.raises(httpx2.ConnectError):
                        await httpx2.AsyncClient().get(f"{gateway.url}/livez")
                received += len(piece)
        assert received == grant["length"] > 20_000_000
