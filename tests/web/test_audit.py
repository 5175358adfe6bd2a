"""The audit over real servers: every record that the doors write, who is named in a refusal, what an operator finds."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.audit.balp import BASE, faults
from tests.web.conftest import DISCOVERY, IHI_SYSTEM, RETRIEVE, second_gateway
from tests.web.test_guarantees import EVERY_DOOR, JOSE, NOBODY, calls, make, request_for

from mdg.audit import Wanted
from mdg.model.identity import Ihi
from mdg.sandbox.identifiers import EXAMPLE_IHI, made_up

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
OTHER = made_up(Ihi, "somebody else")


async def every_record(gateway: Any) -> list[dict[str, Any]]:
    """All that a gateway has recorded, the oldest first."""
    found = await gateway.rooms.audit.listed(Wanted(), before=None, limit=1000)
    return [json.loads(event) for _, event in reversed(found)]


def kinds(events: list[dict[str, Any]]) -> set[str]:
    claimed = [event.get("meta", {}).get("profile", ["none"])[0].removeprefix(BASE) for event in events]
    return set(claimed)


def study_of(event: dict[str, Any]) -> str:
    named = [entity.get("what", {}).get("identifier", {}) for entity in event["entity"]]
    return next((one["value"].removeprefix("urn:oid:") for one in named if one.get("system") == "urn:dicom:uid"), "")


def patient_of(event: dict[str, Any]) -> str:
    named = [entity for entity in event["entity"] if entity.get("role", {}).get("code") == "1"]
    return str(named[0]["what"]["identifier"]["value"]) if named else ""


def details_of(event: dict[str, Any]) -> dict[str, str]:
    found = [one for entity in event["entity"] for one in entity.get("detail", [])]
    return {one["type"]: one["valueString"] for one in found}


async def test_every_record_of_every_door_fits_the_profile_that_it_claims(start: Start) -> None:
    async with start(**EVERY_DOOR) as gateway:
        for call in (await calls(gateway)).values():
            assert (await make(gateway, call)).status_code < 300
        for path in ("/configuration", "/jobs", "/problems", "/audit", "/revocations"):
            assert (await gateway.consumer.http.get(gateway.admin + path)).status_code == 200
        for path in ("/fhir/ImagingStudy/none", "/fhir/nothing", "/api/jmix?studyInstanceUid=1.2.3"):
            assert (await gateway.consumer.ask("GET", path, scopes=RETRIEVE + DISCOVERY)).status_code == 404
        assert (await gateway.consumer.http.get(f"{gateway.url}/fhir/Patient/x")).status_code == 401
        with anyio.fail_after(20):  # the subscriber is told by a task beside the calls
            while NOBODY not in json.dumps(events := await every_record(gateway)):  # noqa: ASYNC110 -- a row, not an event
                await anyio.sleep(0.05)
    assert len(events) > 30
    assert [(event, faults(event)) for event in events if faults(event)] == []
    assert kinds(events) == {"PatientQuery", "PatientRead", "PatientCreate", "PrivacyDisclosure.Source", "none"}
    addresses = {one["network"]["address"] for event in events for one in event["agent"] if "network" in one}
    assert addresses == {"127.0.0.1", gateway.url, NOBODY}
    without = [event for event in events if not all("network" in one for one in event["agent"][:2])]
    assert without == [], "each end of each connection has its address"


async def test_both_sides_of_a_retrieval_and_a_registration_fit_their_profiles(start: Start) -> None:
    async with (
        start(capabilities={"registration": True}) as provider,
        second_gateway(start, provider, sources=(), identity=None) as receiver,
    ):
        asked = {"gateway": provider.url, "ihi": str(EXAMPLE_IHI)}
        answer = await provider.consumer.http.post(f"{receiver.admin}/retrievals", json=asked, timeout=30)
        assert answer.status_code == 201, answer.text
        with anyio.fail_after(60):
            while "PatientUpdate" not in kinds(await every_record(provider)):  # noqa: ASYNC110 - a task behind it all
                await anyio.sleep(0.1)  # between two looks
        mine, theirs = await every_record(receiver), await every_record(provider)
    assert [faults(event) for event in mine + theirs if faults(event)] == []
    assert {"PatientQuery", "PrivacyDisclosure.Recipient"} <= kinds(mine)
    assert {"PatientQuery", "PrivacyDisclosure.Source", "PatientUpdate"} <= kinds(theirs)
    (sent,) = [event for event in mine if event["type"]["code"] == "rest" and "query" in json.dumps(event)]
    (came,) = [event for event in theirs if event["type"]["code"] == "rest" and event["action"] == "E"]
    queries = [[one["query"] for one in event["entity"] if "query" in one] for event in (sent, came)]
    assert queries[0] == queries[1], "both sides have recorded the same search"
    assert sent["agent"][1]["network"] == {"address": provider.url, "type": "5"}
    assert details_of(came)["callers-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize("known", [True, False])
async def test_the_record_of_a_refused_search_names_the_person_and_the_search(start: Start, known: bool) -> None:
    async with start() as gateway:
        asked = EXAMPLE_IHI if known else OTHER
        form = {"patient.identifier": f"{IHI_SYSTEM}|{asked}"}
        refused = await gateway.consumer.ask(
            "POST", "/fhir/ImagingStudy/_search", ihi=made_up(Ihi, "the token's"), data=form
        )
        (record,) = await gateway.records(refused.headers["x-request-id"])
    assert refused.status_code == 403
    assert str(asked) not in refused.text
    assert patient_of(record) == str(asked)
    (query,) = [base64.b64decode(one["query"]).decode() for one in record["entity"] if "query" in one]
    assert query.endswith(str(asked))
    assert record["type"]["code"] == "110113", "another patient is an alert"
    assert record["agent"][2]["altId"]


async def test_the_record_of_a_refused_study_names_study_and_person_and_the_answer_does_not(start: Start) -> None:
    """By StudyInstanceUID, by logical id, by the id of the Patient, and by a signed request."""
    async with start() as gateway:
        study = (await gateway.consumer.search()).json()["entry"][0]["resource"]
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        as_other = {"ihi": OTHER, "scopes": RETRIEVE + DISCOVERY}
        signed = {"headers": JOSE, "content": request_for(gateway.consumer, study["id"])}
        refused = [
            await gateway.consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}", **as_other),
            await gateway.consumer.ask("GET", f"/fhir/ImagingStudy/{study['id']}", **as_other),
            await gateway.consumer.ask("GET", f"/fhir/{study['endpoint'][0]['reference']}", **as_other),
            await gateway.consumer.ask("POST", "/api/jmix/requests", **as_other, **signed),
            await gateway.consumer.ask("GET", f"/fhir/{study['subject']['reference']}", **as_other),
        ]
        records = [(await gateway.records(answer.headers["x-request-id"]))[0] for answer in refused]
        listed = await gateway.rooms.audit.listed(Wanted(patient=EXAMPLE_IHI), before=None, limit=10)
        unknown = await gateway.consumer.ask("GET", "/api/jmix?studyInstanceUid=1.2.3", **as_other)
        (record,) = await gateway.records(unknown.headers["x-request-id"])
    assert [answer.status_code for answer in refused] == [404] * 5
    assert [answer.json()["issue"][0]["code"] for answer in refused] == ["not-found"] * 5
    assert [patient_of(event) for event in records] == [str(EXAMPLE_IHI)] * 5
    assert [study_of(event) for event in records] == [uid] * 4 + [""]
    assert len(listed) == 6, "the search that was answered, and the five attempts"
    assert (study_of(record), patient_of(record)) == ("1.2.3", "")
    assert [faults(event) for event in records] == [[]] * 5


async def test_a_mistyped_parameter_is_a_failed_search_and_no_alert(start: Start) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.search(started="yesterday")
        (record,) = await gateway.records(answer.headers["x-request-id"])
    assert answer.status_code == 400
    assert (record["type"]["code"], record["subtype"][0]["code"], record["outcome"]) == ("rest", "search-type", "4")
    assert "meta" not in record


async def test_a_suspended_organisation_is_named(start: Start) -> None:
    async with start() as gateway:
        address = f"{gateway.rooms.directory_url}/organisations/{gateway.consumer.organisation}"
        assert (await gateway.consumer.http.post(address, data={"status": "suspended"})).status_code == 200
        refused = await gateway.consumer.search()
        (record,) = await gateway.records(refused.headers["x-request-id"])
    assert (refused.status_code, record["outcomeDesc"]) == (403, "organisation-not-active")
    assert record["agent"][3]["who"]["identifier"]["value"] == gateway.consumer.organisation


@pytest.mark.parametrize(
    ("header", "trusted", "said", "recorded"),
    [
        ("X-Forwarded-For", (), {"X-Forwarded-For": "192.0.2.9"}, "127.0.0.1"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {}, "127.0.0.1"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"X-Forwarded-For": "192.0.2.9"}, "192.0.2.9"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"X-Forwarded-For": "198.51.100.1, 192.0.2.9"}, "192.0.2.9"),
        ("X-Forwarded-For", ("127.0.0.0/8",), {"X-Forwarded-For": "192.0.2.9, 127.0.0.5"}, "192.0.2.9"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"X-Forwarded-For": "[2001:db8::7]:4711"}, "2001:db8::7"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"X-Forwarded-For": "<script>"}, "127.0.0.1"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"X-Forwarded-For": "fe80::1%<script>"}, "127.0.0.1"),
        ("X-Forwarded-For", ("127.0.0.1/32",), {"Forwarded": "for=192.0.2.9"}, "127.0.0.1"),
        (
            "Forwarded",
            ("127.0.0.1/32",),
            {"Forwarded": 'for=198.51.100.1, for="[2001:db8::7]:4711";proto=https'},
            "2001:db8::7",
        ),
        ("Forwarded", ("127.0.0.1/32",), {"Forwarded": "for=unknown", "X-Forwarded-For": "192.0.2.9"}, "127.0.0.1"),
    ],
)
async def test_the_address_of_a_caller_is_the_one_that_a_trusted_proxy_names(
    start: Start, header: str, trusted: tuple[str, ...], said: dict[str, str], recorded: str
) -> None:
    async with start(trusted_proxies=trusted, proxy_header=header) as gateway:
        refused = await gateway.consumer.http.get(f"{gateway.url}/fhir/Patient/x", headers=said)
        (record,) = await gateway.records(refused.headers["x-request-id"])
    assert record["agent"][0]["network"] == {"address": recorded, "type": "2"}


async def test_a_stranger_cannot_write_into_the_records_of_anothers_request(start: Start) -> None:
    async with start() as gateway:
        found = await gateway.consumer.search()
        id_ = found.headers["x-request-id"]
        intruder = await gateway.consumer.http.get(f"{gateway.url}/fhir/Patient/x", headers={"X-Request-ID": id_})
        shown = (await gateway.consumer.http.get(f"{gateway.admin}/audit/{id_}")).json()
    assert intruder.headers["x-correlation-id"] == id_
    assert intruder.headers["x-request-id"] != id_
    assert [event["outcome"] for event in shown["events"]] == ["0"]
    assert [event["outcomeDesc"] for event in shown["of_callers"]] == ["no-token"]


async def test_an_id_that_strangers_sent_a_thousand_times_is_shown_by_its_newest_records(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdg.audit.record.OF_CALLERS", 2)
    id_ = "6f1c3b0e-7d1a-4a57-9d54-0f6f3f0c7a11"
    async with start() as gateway:
        http = gateway.consumer.http
        sent = [await http.get(f"{gateway.url}/fhir/Patient/x", headers={"X-Request-ID": id_}) for _ in range(3)]
        shown = (await http.get(f"{gateway.admin}/audit/{id_}")).json()
    ids = [event["entity"][0]["what"]["identifier"]["value"] for event in shown["of_callers"]]
    assert ids == [answer.headers["x-request-id"] for answer in sent[1:]]


async def test_an_operator_finds_records_by_patient_requester_time_and_outcome_and_is_recorded(start: Start) -> None:
    async with start() as gateway:
        http, admin = gateway.consumer.http, gateway.admin
        granted = await gateway.consumer.search()
        refused = await gateway.consumer.search(started="yesterday")
        when = (await gateway.records(refused.headers["x-request-id"]))[0]["recorded"]
        organisation = gateway.consumer.organisation

        async def ids(answer: Any) -> list[str]:
            assert answer.status_code == 200, answer.text
            return [event["entity"][0]["what"]["identifier"]["value"] for event in answer.json()["events"]]

        both = [refused.headers["x-request-id"], granted.headers["x-request-id"]]
        by_requester = await http.get(f"{admin}/audit", params={"requester": organisation})
        assert await ids(by_requester) == both
        assert (
            await ids(await http.get(f"{admin}/audit", params={"requester": organisation, "outcome": "4"})) == both[:1]
        )
        assert (
            await ids(await http.get(f"{admin}/audit", params={"requester": organisation, "since": when})) == both[:1]
        )
        assert (
            await ids(await http.get(f"{admin}/audit", params={"requester": organisation, "until": when})) == both[1:]
        )
        first = await http.get(f"{admin}/audit", params={"requester": organisation, "limit": "1"})
        rest = {"requester": organisation, "before": str(first.json()["next"])}
        assert [*await ids(first), *await ids(await http.get(f"{admin}/audit", params=rest))] == both
        by_patient = await http.post(f"{admin}/audit/_search", data={"ihi": EXAMPLE_IHI, "outcome": "0"})
        assert await ids(by_patient) == both[1:]
        assert by_patient.json()["events"] == await gateway.records(both[1])
        (looked,) = await gateway.records(by_patient.headers["x-request-id"])
        assert (looked["type"]["code"], patient_of(looked)) == ("110101", str(EXAMPLE_IHI))
        assert details_of(looked) == {"count": "1", "outcome": "0"}


@pytest.mark.parametrize(
    "query",
    [
        "ihi=8003608000000570",
        "requester=a&requester=b",
        "since=yesterday",
        "outcome=5",
        "limit=0",
        "limit=1001",
        "before=x",
    ],
)
async def test_a_question_for_records_that_cannot_be_read_is_refused(start: Start, query: str) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.admin}/audit?{query}")
        (record,) = await gateway.records(answer.headers["x-request-id"])
    assert (answer.status_code, record["type"]["code"], record["outcome"]) == (400, "110101", "4")
