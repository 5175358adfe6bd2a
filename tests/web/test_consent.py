"""Consent records over HTTP: an operator enters them, and each next decision, grant and running stream obeys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from tests.web.conftest import IHI_SYSTEM, RETRIEVE
from tests.web.test_guarantees import EVERY_DOOR, calls, make
from tests.web.test_retrieval import get, granted

from mdg.access.consents import MOST
from mdg.cli.serve import folder_source
from mdg.model.identity import Ihi
from mdg.sandbox.identifiers import EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import write_phantom
from mdg.web.jmix import bulk

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
Json = dict[str, Any]
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
OTHER = made_up(Ihi, "somebody else")
FHIR = {"Content-Type": "application/fhir+json"}


def consent(provision: Json, *, ihi: Ihi = EXAMPLE_IHI, **changes: Any) -> Json:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IDSCL"}]}],
        "patient": {"identifier": {"system": IHI_SYSTEM, "value": str(ihi)}},
        "dateTime": "2026-04-01",
        "provision": provision,
        **changes,
    }


def permit(purpose: str) -> Json:
    return {"type": "permit", "purpose": [{"system": ACT_REASON, "code": purpose}]}


def spelt(value: object) -> Json:
    """A patient whose IHI is written in a way that no decision would compare."""
    return {"identifier": {"system": IHI_SYSTEM, "value": value}}


WITHDRAWN = consent({"type": "deny"})
RESEARCH_ONLY = consent({"type": "deny", "provision": [permit("HRESCH")]})


async def enter(gateway: Any, content: Json, id_: str = "") -> Any:
    method, path = ("PUT", f"/consents/{id_}") if id_ else ("POST", "/consents")
    return await gateway.consumer.http.request(method, gateway.admin + path, json=content, headers=FHIR)


async def found(gateway: Any, purpose: str = "TREAT") -> int:
    form = {"patient.identifier": f"{IHI_SYSTEM}|{EXAMPLE_IHI}"}
    answer = await gateway.consumer.ask("POST", "/fhir/ImagingStudy/_search", data=form, purpose=purpose)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert bundle["total"] == len(bundle.get("entry", []))
    return int(bundle["total"])


async def payload(gateway: Any, uid: str, purpose: str = "TREAT") -> Any:
    path = f"/api/jmix?studyInstanceUid={uid}"
    return await gateway.consumer.ask("GET", path, scopes=RETRIEVE, purpose=purpose)


async def test_c19_after_a_withdrawal_nothing_is_found_also_after_a_restart_until_it_ends(start: Start) -> None:
    async with start() as gateway:
        assert await found(gateway) == 1
        made = await enter(gateway, WITHDRAWN)
        assert (made.status_code, made.json()["status"]) == (201, "active"), made.text
        assert await found(gateway) == 0
    async with start() as gateway:
        assert await found(gateway) == 0
        ended = await gateway.consumer.http.delete(f"{gateway.admin}/consents/{made.json()['id']}")
        assert (ended.status_code, await found(gateway)) == (204, 1)
        again = await gateway.consumer.http.delete(f"{gateway.admin}/consents/{made.json()['id']}")
        assert again.status_code == 404


async def test_c20_a_live_address_is_refused_at_the_next_request(start: Start) -> None:
    async with start() as gateway:
        _, _, grant = await granted(gateway)
        assert (await get(gateway, grant["path"])).status_code == 200
        await enter(gateway, WITHDRAWN)
        refused = await get(gateway, grant["path"])
        (record,) = await gateway.records(refused.headers["x-request-id"])
    assert (refused.status_code, record["outcomeDesc"]) == (403, "decision-changed")


async def test_c21_a_running_download_ends_when_consent_is_withdrawn(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "DECIDE_EVERY", 1 << 20)
    write_phantom(tmp_path / "images" / "ct", slices=40)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        consumer, received = gateway.consumer, [0]
        uid = (await consumer.search()).json()["entry"][0]["resource"]["identifier"][0]["value"]
        path = f"/api/jmix?studyInstanceUid={uid.removeprefix('urn:oid:')}"
        headers = await consumer.credentials("GET", path, RETRIEVE)
        async with consumer.http.stream("GET", gateway.url + path, headers=headers) as answer:
            length = int(answer.headers["content-length"])
            pieces = answer.aiter_raw()
            received.append(len(await anext(pieces)))
            assert (await enter(gateway, WITHDRAWN)).status_code == 201
            with pytest.raises(httpx2.RemoteProtocolError):
                received += [len(piece) async for piece in pieces]
    async with start(
        sources=folder_source([tmp_path / "images"])
    ) as gateway:  # a stop ends after the records of what ran
        end = (await gateway.records(answer.headers["x-request-id"]))[-1]
    assert (end["outcome"], end["outcomeDesc"]) == ("8", "aborted-consent")
    assert sum(received) < length


async def test_c22_consent_for_research_alone_shows_nothing_to_who_treats_and_all_to_research(start: Start) -> None:
    async with start() as gateway:
        uid = (await gateway.consumer.search()).json()["entry"][0]["resource"]["identifier"][0]["value"]
        uid = uid.removeprefix("urn:oid:")
        assert await found(gateway, "HRESCH") == 0
        assert (await payload(gateway, uid, "HRESCH")).status_code == 404
        assert (await enter(gateway, RESEARCH_ONLY)).status_code == 201
        assert [await found(gateway, purpose) for purpose in ("TREAT", "HRESCH", "PATRQT")] == [0, 1, 0]
        hidden, unknown = await payload(gateway, uid), await payload(gateway, "1.2.3.4")
        assert (hidden.status_code, unknown.status_code) == (404, 404)
        ids = [answer.headers["x-request-id"] for answer in (hidden, unknown)]
        assert hidden.text.replace(ids[0], "") == unknown.text.replace(ids[1], "")
        costs = [[one.partition(" IN ")[0] for one in await gateway.costs.of(id_)] for id_ in ids]
        assert costs[0] == costs[1]
        assert (await payload(gateway, uid, "HRESCH")).status_code == 200


async def test_c28_when_consents_cannot_be_read_nothing_is_shown(start: Start) -> None:
    async with start() as gateway:
        uid = (await gateway.consumer.search()).json()["entry"][0]["resource"]["identifier"][0]["value"]
        await gateway.rooms.store.write(lambda c: c.execute(text("ALTER TABLE consents RENAME TO elsewhere")))
        answers = [await gateway.consumer.search(), await payload(gateway, uid.removeprefix("urn:oid:"))]
        await gateway.rooms.store.write(lambda c: c.execute(text("ALTER TABLE elsewhere RENAME TO consents")))
        assert await found(gateway) == 1
    assert [answer.status_code for answer in answers] == [503, 503]


async def test_a_consent_takes_the_place_of_another_of_the_same_patient_only(start: Start) -> None:
    async with start() as gateway:
        first = (await enter(gateway, WITHDRAWN)).json()
        stolen = await enter(gateway, consent(permit("TREAT"), ihi=OTHER), first["id"])
        assert (stolen.status_code, await found(gateway)) == (409, 0)
        second = await enter(gateway, consent(permit("TREAT")), first["id"])
        assert (second.status_code, second.json()["id"], await found(gateway)) == (200, first["id"], 1)
        listed = await gateway.consumer.http.post(f"{gateway.admin}/consents/_search", data={"ihi": str(EXAMPLE_IHI)})
        none = await gateway.consumer.http.post(f"{gateway.admin}/consents/_search", data={"ihi": str(OTHER)})
        unknown = await enter(gateway, WITHDRAWN, "00000000-0000-4000-8000-000000000000")
    assert [one["content"]["provision"] for one in listed.json()["consents"]] == [permit("TREAT")]
    assert none.json() == {"consents": []}
    assert unknown.status_code == 404


async def test_each_change_and_each_look_is_on_record_with_its_patient(start: Start) -> None:
    async with start() as gateway:
        made = await enter(gateway, WITHDRAWN)
        looked = await gateway.consumer.http.post(f"{gateway.admin}/consents/_search", data={"ihi": str(EXAMPLE_IHI)})
        ended = await gateway.consumer.http.delete(f"{gateway.admin}/consents/{made.json()['id']}")
        records = [
            record
            for answer in (made, looked, ended)
            for record in await gateway.records(answer.headers["x-request-id"])
        ]
    assert [(one["action"], one["outcome"]) for one in records] == [("U", "0"), ("R", "0"), ("U", "0")]
    for record in records:
        people = [entity for entity in record["entity"] if entity.get("role", {}).get("code") == "1"]
        assert [one["what"]["identifier"]["value"] for one in people] == [str(EXAMPLE_IHI)]
        assert [agent["who"]["display"] for agent in record["agent"] if agent["requestor"]] == ["operator"]
    for record, change in ((records[0], "recorded"), (records[2], "ended")):
        details = {one["type"]: one["valueString"] for one in record["entity"][-1]["detail"]}
        assert details == {"change": change, "status": "active"}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({}, "Consent.patient"),
        (consent(permit("TREAT"), patient={"reference": "Patient/1"}), "Consent.patient"),
        (consent(permit("TREAT"), patient={"identifier": {"system": IHI_SYSTEM, "value": "1"}}), "Consent.patient"),
        (consent({"type": "deny"}, patient=spelt(f" {EXAMPLE_IHI}")), "Consent.patient.identifier.value"),
        (consent({"type": "deny"}, patient=spelt("8003 6088 3335 7361")), "Consent.patient.identifier.value"),
        (consent({"type": "deny"}, patient=spelt(int(EXAMPLE_IHI))), "Consent.patient"),
        (consent(permit("TREAT"), status="perhaps"), "Consent.status"),
        (consent(permit("TREAT") | {"period": {"start": "2999", "end": "soon"}}), "Consent.provision.period"),
        (consent(permit("TREAT") | {"period": {"end": "20240101"}}), "Consent.provision.period"),
        (consent(permit("TREAT") | {"<b>" * 30: []}), "Consent.provision"),
        (consent(permit("TREAT"), status="draft", dateTime="yesterday"), "Consent.dateTime"),
        (consent(permit("TREAT"), scope={"coding": [{"system": CONSENT_SCOPE, "code": "adr"}]}), "Consent.scope"),
        (consent(permit("TREAT"), modifierExtension=[]), "Consent.modifierExtension"),
        (consent({"type": "maybe"}), "Consent.provision.type"),
        (consent({"type": "deny", "provision": [permit("TREAT"), {"type": 4}]}), "Consent.provision.provision[1].type"),
        (consent({"type": "deny", "actor": [{}]}), "Consent.provision.actor"),
        (consent({"type": "deny", "weather": []}), "Consent.provision.weather"),
    ],
)
async def test_what_could_only_deny_everything_is_refused_by_name_and_not_kept(
    start: Start, content: Json, where: str
) -> None:
    async with start() as gateway:
        answer = await enter(gateway, content)
        assert (answer.status_code, await found(gateway)) == (400, 1)
    assert f"{where}: not understood" in answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b'{"resourceType":"Consent","resourceType":"Consent"}', b"\xff", b"{"])
async def test_what_is_no_object_is_refused(start: Start, body: bytes) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.post(f"{gateway.admin}/consents", content=body, headers=FHIR)
        plain = await gateway.consumer.http.post(f"{gateway.admin}/consents", data={"consent": "yes"})
        search = await gateway.consumer.http.post(f"{gateway.admin}/consents/_search", data={"ihi": "1"})
    assert [answer.status_code, plain.status_code, search.status_code] == [400, 415, 400]


async def test_a_patient_has_a_limited_number_of_consents(start: Start) -> None:
    async with start() as gateway:
        answers = [await enter(gateway, consent(permit("TREAT"))) for _ in range(MOST + 1)]
        other = await enter(gateway, consent(permit("TREAT"), ihi=OTHER))
    assert {answer.status_code for answer in answers[:-1]} == {201}
    assert (answers[-1].status_code, other.status_code) == (409, 201)


async def test_each_purpose_that_a_consent_permits_is_served_and_no_other(start: Start) -> None:
    async with start() as gateway:
        for purpose in ("HOPERAT", "PUBHLTH", "PATRQT", "HLEGAL"):
            assert await found(gateway, purpose) == 0, purpose
            made = await enter(gateway, consent(permit(purpose)))
            assert [await found(gateway, purpose), await found(gateway, "HRESCH")] == [1, 0], purpose
            await gateway.consumer.http.delete(f"{gateway.admin}/consents/{made.json()['id']}")


async def test_a_subscription_for_another_purpose_than_treatment_needs_a_consent(start: Start) -> None:
    async with start(**EVERY_DOOR) as gateway:
        call = (await calls(gateway))["POST /fhir/Subscription"]
        refused = await make(gateway, call, purpose="HRESCH")
        await enter(gateway, RESEARCH_ONLY)
        research, treatment = await make(gateway, call, purpose="HRESCH"), await make(gateway, call)
    assert [refused.status_code, research.status_code, treatment.status_code] == [403, 201, 403]
