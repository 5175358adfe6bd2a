"""Discovery over real HTTP: what is found, what is refused, and that both are on record."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.identities import write_identity_csv
from tests.web.test_overload import multiply

from mdg.cli.serve import folder_source
from mdg.model.identity import Ihi
from mdg.sandbox.identifiers import EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import PATIENT_ID, write_phantom
from mdg.web.wellknown import SCOPES

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio

SYSTEM = Ihi.system
SEARCH = "/fhir/ImagingStudy/_search"
WHO = f"patient.identifier={SYSTEM}|{EXAMPLE_IHI}"
OTHER = made_up(Ihi, "another person")


async def test_a_study_is_found_by_its_patient_with_its_endpoint(start: Start) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.search()
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/fhir+json"
        bundle = answer.json()
        study, endpoint = (entry["resource"] for entry in bundle["entry"])
        assert (study["resourceType"], endpoint["resourceType"]) == ("ImagingStudy", "Endpoint")
        assert study["endpoint"][0]["reference"] == f"Endpoint/{endpoint['id']}"
        assert bundle["total"] == 1
        assert study["numberOfInstances"] == 3
        assert bundle["entry"][0]["fullUrl"] == f"{gateway.url}/fhir/ImagingStudy/{study['id']}"
        assert str(EXAMPLE_IHI) not in json.dumps(bundle["link"])
        assert f"patient={study['subject']['reference']}" in bundle["link"][0]["url"]


async def test_every_answer_forbids_storing_names_its_request_and_no_server(start: Start) -> None:
    async with start() as gateway:
        id_ = str(uuid4())
        found = await gateway.consumer.ask("GET", "/fhir/ImagingStudy/none", headers={"X-Request-ID": id_})
        public = await gateway.consumer.http.get(f"{gateway.url}/livez")
        for answer in (found, public):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "server" not in answer.headers
        assert found.headers["x-correlation-id"] == id_
        assert found.headers["x-request-id"] != id_
        assert f"X-Request-ID {found.headers['x-request-id']}" in found.text
        assert "x-correlation-id" not in public.headers


@pytest.mark.parametrize("known", [True, False])
async def test_another_patient_is_refused_alike_known_or_not(start: Start, known: bool) -> None:
    """C1: the body is the same whether the other person exists here or not."""
    async with start() as gateway:
        who = EXAMPLE_IHI if known else made_up(Ihi, "nobody here")
        form = {"patient.identifier": f"{SYSTEM}|{who}"}
        answer = await gateway.consumer.ask("POST", SEARCH, ihi=OTHER, data=form)
        assert answer.status_code == 403
        assert answer.json()["issue"][0] == {
            "severity": "error",
            "code": "forbidden",
            "diagnostics": "access is not permitted",
        }
        events = await gateway.records(answer.headers["x-request-id"])
        assert [event["outcome"] for event in events] == ["4"]
        assert "another-patient" in json.dumps(events)


async def test_an_unknown_patient_is_an_empty_answer(start: Start) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.ask("POST", SEARCH, ihi=OTHER, data={"patient.identifier": f"{SYSTEM}|{OTHER}"})
        assert (answer.status_code, answer.json()["total"]) == (200, 0)
        assert "entry" not in answer.json()


async def test_reads_of_the_three_resources_agree_with_the_search(start: Start) -> None:
    async with start() as gateway:
        bundle = (await gateway.consumer.search(_include="ImagingStudy:patient")).json()
        study, patient = (entry["resource"] for entry in bundle["entry"])
        for resource in (study, patient, {"resourceType": "Endpoint", "id": study["endpoint"][0]["reference"][9:]}):
            read = await gateway.consumer.ask("GET", f"/fhir/{resource['resourceType']}/{resource['id']}")
            assert read.status_code == 200, read.text
            assert read.json() == resource or resource["resourceType"] == "Endpoint"
        assert patient["identifier"][0]["value"] == str(EXAMPLE_IHI)


async def test_a_search_by_the_id_of_a_hidden_study_costs_what_one_by_an_unknown_id_costs(
    start: Start, tmp_path: Path
) -> None:
    write_phantom(tmp_path / "images" / "one", seed=1, slices=1)
    write_phantom(tmp_path / "images" / "two", seed=2, slices=1, patient_id="DEMO-0002")
    table = write_identity_csv(tmp_path / "identity.csv", {PATIENT_ID: EXAMPLE_IHI, "DEMO-0002": OTHER})
    async with start(sources=folder_source([tmp_path / "images"]), identity=table) as gateway:
        hidden = (await gateway.consumer.search()).json()["entry"][0]["resource"]["id"]
        form = {"patient.identifier": f"{SYSTEM}|{OTHER}"}
        costs = []
        for id_ in (hidden, "0" * 32):
            answer = await gateway.consumer.ask(
                "POST", "/fhir/ImagingStudy/_search", ihi=OTHER, data=form | {"_id": id_}
            )
            assert answer.json()["total"] == 0
            costs.append(await gateway.costs.of(answer.headers["x-request-id"]))
        assert costs[0] == costs[1]


async def test_the_current_version_is_read_as_the_study_and_no_other_is_kept(start: Start) -> None:
    async with start() as gateway:
        study = (await gateway.consumer.search()).json()["entry"][0]["resource"]
        path = f"/fhir/ImagingStudy/{study['id']}"
        read = await gateway.consumer.ask("GET", path)
        vread = await gateway.consumer.ask("GET", f"{path}/_history/{study['meta']['versionId']}")
        other = await gateway.consumer.ask("GET", f"{path}/_history/2")
    assert (vread.status_code, vread.json()) == (200, read.json())
    assert other.status_code == 404
    assert read.headers["etag"] == 'W/"1"'
    assert parsedate_to_datetime(read.headers["last-modified"]) == datetime.fromisoformat(
        study["meta"]["lastUpdated"]
    ).replace(microsecond=0)


async def test_format_counts_before_accept(start: Start) -> None:
    async with start() as gateway:
        xml = {"Accept": "application/fhir+xml"}
        form = {"patient.identifier": f"{SYSTEM}|{EXAMPLE_IHI}", "_format": "json"}
        asked = [
            await gateway.consumer.ask("POST", SEARCH, data=form, headers=xml),
            await gateway.consumer.ask("GET", "/fhir/ImagingStudy?_id=x&_format=json", headers=xml),
            await gateway.consumer.ask("GET", "/fhir/metadata?_format=json&mode=full", headers=xml),
            await gateway.consumer.ask("GET", "/fhir/ImagingStudy?_id=x&_format=xml"),
            await gateway.consumer.ask("GET", "/fhir/ImagingStudy?_id=x", headers=xml),
        ]
    assert [answer.status_code for answer in asked] == [200, 200, 200, 406, 406]


async def test_a_next_page_takes_what_stock_clients_add_and_keeps_its_filters(start: Start) -> None:
    """HAPI and Firely add `_format`, medplum `_count`; the accession number is in no link and still counts."""
    async with start() as gateway:
        number = "A26-00417"
        await multiply(gateway.rooms, 5, accession=number)
        asked = {"_count": "2", "basedon:identifier": number}
        first = (await gateway.consumer.search(**asked)).json()
        links = {link["relation"]: link["url"] for link in first["link"]}
        assert number not in json.dumps(links)
        path = links["next"].removeprefix(gateway.url)
        for more, shown in (("", 2), ("&_count=1000", 3), ("&_format=json&_pretty=true", 2)):
            page = (await gateway.consumer.ask("GET", path + more)).json()
            assert (page["total"], [one["search"]["mode"] for one in page["entry"]].count("match")) == (5, shown), more
        for more in ("&modality=CT", "&_page=x", "&patient=x", "&_format=xml"):
            assert (await gateway.consumer.ask("GET", path + more)).status_code in (400, 406)
        none = (await gateway.consumer.search(_count="2", **{"basedon:identifier": "another"})).json()
        assert none["total"] == 0


async def test_a_page_has_100_studies_however_many_are_asked_for_and_all_pages_have_each_once(start: Start) -> None:
    """G9 and C7: 231 studies of one patient; the link to the next page is of no use to somebody else."""
    async with start() as gateway:
        await multiply(gateway.rooms, 230)
        answer = await gateway.consumer.search(_count="1000000000")
        sizes, found = [], []
        while True:
            assert answer.status_code == 200, answer.text
            bundle = answer.json()
            matches = [one["resource"]["id"] for one in bundle["entry"] if one["search"]["mode"] == "match"]
            assert bundle["total"] == 231
            sizes.append(len(matches))
            found += matches
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            assert str(EXAMPLE_IHI) not in json.dumps(links)
            if "next" not in links:
                break
            path = links["next"].removeprefix(gateway.url)
            of_patients = await gateway.consumer.ask("GET", path.replace("/ImagingStudy?", "/Patient?"))
            assert of_patients.status_code == 404
            other = await gateway.new_consumer("other")
            for refused in (await other.ask("GET", path), await gateway.consumer.ask("GET", path, ihi=OTHER)):
                assert refused.status_code == 404, refused.text
                assert not set(matches) & set(refused.text.split('"'))
            answer = await gateway.consumer.ask("GET", path + "&_count=1000000000")
        assert sizes == [100, 100, 31]
        assert len(set(found)) == 231
        for wrong in ("-1", "a"):
            assert (await gateway.consumer.search(_count=wrong)).status_code == 400


async def test_the_challenge_names_the_document_of_this_resource(start: Start) -> None:
    """RFC 9728 3.1, 3.3 and 5.1: the document is found by the address of the resource, and names it."""
    async with start() as gateway:
        refused = await gateway.consumer.http.get(f"{gateway.url}/fhir/ImagingStudy")
        place = f"{gateway.url}/.well-known/oauth-protected-resource/fhir"
        assert refused.headers["www-authenticate"] == f'DPoP algs="ES256", resource_metadata="{place}"'
        document = (await gateway.consumer.http.get(place)).json()
        assert document["resource"] == f"{gateway.url}/fhir"


@pytest.mark.parametrize("kind", ["ImagingStudy", "Patient", "Endpoint"])
async def test_hidden_and_absent_are_read_alike(start: Start, kind: str) -> None:
    """C2: another patient's resource answers as a random id does."""
    async with start() as gateway:
        bundle = (await gateway.consumer.search(_include="ImagingStudy:patient")).json()
        ids = {"ImagingStudy": bundle["entry"][0]["resource"]["id"], "Patient": bundle["entry"][1]["resource"]["id"]}
        ids["Endpoint"] = ids["ImagingStudy"]
        texts = set()
        for id_ in (ids[kind], "01JV3W8ZC0D2E4F6G8H0J2K4M6", "not_an_id", "a" * 65):
            answer = await gateway.consumer.ask("GET", f"/fhir/{kind}/{id_}", ihi=OTHER)
            assert answer.status_code == 404
            texts.add(answer.text.replace(answer.headers["x-request-id"], ""))
        assert len(texts) == 1


@pytest.mark.parametrize(
    ("asked", "body", "status", "code"),
    [
        (("GET", f"/fhir/ImagingStudy?patient.identifier={SYSTEM}|{EXAMPLE_IHI}"), None, 400, "not-supported"),
        (("GET", f"/fhir/ImagingStudy?patient={EXAMPLE_IHI}"), None, 400, "not-supported"),
        (("POST", f"{SEARCH}?patient.identifier={SYSTEM}|{OTHER}"), f"{WHO}", 400, "not-supported"),
        (("POST", SEARCH), "modality=CT", 400, "required"),
        (("POST", SEARCH), f"patient.identifier={SYSTEM}|8003608833357362", 400, "value"),
        (("POST", SEARCH), f"{WHO}&patient.name=x", 400, "not-supported"),
        (("POST", SEARCH), f"{WHO}&access_token=x", 400, "invalid"),
        (("POST", SEARCH), f"{WHO}&x=%ff", 400, "invalid"),
        (("GET", "/fhir/ImagingStudy?access_token=abc"), None, 400, "invalid"),
        (("GET", "/fhir/ImagingStudy?_page=abc"), None, 404, "not-found"),
        (("PUT", "/fhir/ImagingStudy/x"), "{}", 405, "not-supported"),
        (("PATCH", "/fhir/Patient/x"), "{}", 405, "not-supported"),
        (("POST", "/fhir/Patient/_search"), WHO, 400, "not-supported"),
        (("POST", "/fhir/Patient/_search"), "family=Phantom", 400, "not-supported"),
        (("POST", "/fhir/Patient/_search"), "_count=1", 400, "required"),
        (("GET", "/fhir/Patient?_page=abc"), None, 404, "not-found"),
        (("POST", "/fhir/Endpoint/_search"), "patient=x", 404, "not-found"),
        (("POST", f"/fhir/Patient/_search?identifier={EXAMPLE_IHI}"), "x=y", 400, "not-supported"),
        (("PUT", f"/fhir/Patient/{EXAMPLE_IHI}"), "{}", 400, "not-supported"),
        (("GET", "/fhir/ImagingStudy?patient=x&basedon:identifier=A26"), None, 400, "not-supported"),
        (("GET", "/fhir/metadata?mode=terminology"), None, 400, "not-supported"),
        (("GET", "/fhir/Patient/$everything"), None, 404, "not-found"),
        (("GET", "/fhir/$export"), None, 404, "not-found"),
        (("GET", "/metrics"), None, 404, "not-found"),
        (("GET", "/docs"), None, 404, "not-found"),
        (("GET", "/fhir/ImagingStudy/x?foo=1"), None, 400, "not-supported"),
        (("GET", "/fhir//ImagingStudy"), None, 400, "invalid"),
        (("GET", "/fhir/%2e%2e/metadata"), None, 400, "invalid"),
    ],
)
async def test_bad_requests_have_their_exact_answers(
    start: Start, asked: tuple[str, str], body: str | None, status: int, code: str
) -> None:
    async with start() as gateway:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        answer = await gateway.consumer.ask(*asked, headers=headers, content=body)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (status, code), answer.text
        assert "7361" not in answer.text
        records = await gateway.records(answer.headers["x-request-id"])
        assert len(records) == 1
        assert records[0]["outcome"] == "4"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/fhir+json", 200),
        ("application/fhir+json; fhirVersion=4.0", 200),
        ("text/html, application/json;q=0.5", 200),
        ("*/*", 200),
        ("application/fhir+xml", 406),
        ("application/fhir+json; fhirVersion=5.0", 406),
        ("application/json;q=0", 406),
    ],
)
async def test_accept_admits_json_or_gets_406(start: Start, accept: str, status: int) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.url}/fhir/metadata", headers={"Accept": accept})
        assert answer.status_code == status


async def test_the_statement_promises_what_answers_and_nothing_else(start: Start) -> None:
    async with start() as gateway:
        statement = (await gateway.consumer.http.get(f"{gateway.url}/fhir/metadata")).json()
        types = {one["type"]: {i["code"] for i in one["interaction"]} for one in statement["rest"][0]["resource"]}
        assert types == {
            "ImagingStudy": {"read", "search-type", "vread"},
            "Patient": {"read", "search-type"},
            "Endpoint": {"read"},
        }
        for type_ in (*types, "DiagnosticReport", "ServiceRequest", "Observation"):
            searched = await gateway.consumer.ask("GET", f"/fhir/{type_}?_count=1")
            assert (searched.status_code in (200, 400)) == ("search-type" in types.get(type_, ())), type_
            created = await gateway.consumer.ask("POST", f"/fhir/{type_}", json={})
            assert created.status_code in (404, 405)


@pytest.mark.parametrize("off", ["discovery", "retrieval"])
async def test_what_is_switched_off_is_not_there(start: Start, off: str) -> None:
    async with start(capabilities={off: False}) as gateway:
        statement = (await gateway.consumer.http.get(f"{gateway.url}/fhir/metadata")).json()
        types = {one["type"] for one in statement["rest"][0]["resource"]}
        assert "Endpoint" not in types
        for document in ("oauth-protected-resource", "smart-configuration"):
            told = (await gateway.consumer.http.get(f"{gateway.url}/.well-known/{document}")).json()
            assert not {*SCOPES[off], *SCOPES["subscription"]} & set(told["scopes_supported"])
            assert told["scopes_supported"]
        if off == "discovery":
            assert types == set()
            assert (await gateway.consumer.search()).status_code == 404
        else:
            study = (await gateway.consumer.search()).json()["entry"][0]["resource"]
            assert "endpoint" not in study
            answer = await gateway.consumer.ask("GET", "/api/jmix?studyInstanceUid=1.2.3")
            assert answer.status_code == 404


async def test_included_resources_need_their_own_scope(start: Start) -> None:
    async with start() as gateway:
        form = {"patient.identifier": f"{SYSTEM}|{EXAMPLE_IHI}", "_include": "ImagingStudy:patient"}
        answer = await gateway.consumer.ask("POST", SEARCH, scopes=("system/ImagingStudy.rs",), data=form)
        assert [entry["search"]["mode"] for entry in answer.json()["entry"]] == ["match"]


async def test_patients_are_found_by_their_person_and_then_by_their_ids(start: Start) -> None:
    async with start() as gateway:
        form = {"identifier": f"{SYSTEM}|{EXAMPLE_IHI}"}
        answer = await gateway.consumer.ask("POST", "/fhir/Patient/_search", data=form)
        bundle = answer.json()
        assert (answer.status_code, bundle["total"]) == (200, 1)
        patient = bundle["entry"][0]["resource"]
        assert patient["identifier"][0]["value"] == str(EXAMPLE_IHI)
        assert patient == (await gateway.consumer.ask("GET", f"/fhir/Patient/{patient['id']}")).json()
        (link,) = (link["url"] for link in bundle["link"])
        assert link == f"{gateway.url}/fhir/Patient?_id={patient['id']}"
        again = await gateway.consumer.ask("GET", link.removeprefix(gateway.url))
        assert again.json()["entry"] == bundle["entry"]
        (event,) = await gateway.records(answer.headers["x-request-id"])
        assert (event["outcome"], event["type"]["code"]) == ("0", "rest")
        of_studies = await gateway.consumer.ask(
            "POST", "/fhir/Patient/_search", data=form, scopes=("system/ImagingStudy.rs",)
        )
        assert of_studies.status_code == 403
        of_another = await gateway.consumer.ask("POST", "/fhir/Patient/_search", data=form, ihi=OTHER)
        assert of_another.status_code == 403
        unknown = await gateway.consumer.ask("GET", f"/fhir/Patient?_id={patient['id']}", ihi=OTHER)
        assert (unknown.status_code, unknown.json()["total"]) == (200, 0)


async def test_scope_of_another_type_is_insufficient(start: Start) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.ask("GET", "/fhir/ImagingStudy?_id=x", scopes=("system/Patient.rs",))
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_a_count_has_no_entries(start: Start) -> None:
    async with start() as gateway:
        bundle = (await gateway.consumer.search(_summary="count")).json()
        assert bundle["total"] == 1
        assert "entry" not in bundle


async def test_the_record_of_a_search_holds_its_query_its_patient_and_the_verdict(start: Start) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.search(modality="CT")
        (event,) = await gateway.records(answer.headers["x-request-id"])
        assert event["outcome"] == "0"
        queries = [base64.b64decode(e["query"]) for e in event["entity"] if "query" in e]
        assert b"patient.identifier=" in queries[0]
        assert str(EXAMPLE_IHI) in json.dumps(event["entity"])


async def test_no_log_and_no_metric_names_the_patient(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    """K2, K3: the log has the path template, never the path."""
    async with start() as gateway:
        study = (await gateway.consumer.search()).json()["entry"][0]["resource"]
        await gateway.consumer.ask("GET", f"/fhir/ImagingStudy/{study['id']}")
        await gateway.consumer.ask("GET", f"/fhir/ImagingStudy?patient.identifier={SYSTEM}|{EXAMPLE_IHI}")
        metrics = (await gateway.consumer.http.get(f"{gateway.admin}/metrics")).text
        logged = "".join(capfd.readouterr())
        for text in (logged, metrics):
            assert "/fhir/ImagingStudy/{id}" in text
            assert not any(secret in text for secret in (str(EXAMPLE_IHI), study["id"], "DEMO-0001", "PHANTOM"))
