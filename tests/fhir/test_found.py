"""What discovery found, as Bundles: who is where, what the links say, and what is missing."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.fhir.conftest import IHI, NUMBERS
from tests.fhir.test_search import TERMS, WHO

from mdg.fhir import Json
from mdg.fhir.found import Page, Server, patient_bundle, study_bundle
from mdg.fhir.search import IMAGING_STUDY, PATIENT, parse
from mdg.model.found import Found, FoundPatient, FoundPatients, FoundStudy
from mdg.model.imaging import Patient, Study

SERVER = Server("https://mdg.example.org", "https://w3id.org/mdg", NUMBERS)


def links(bundle: Json) -> dict[str, str]:
    return {link["relation"]: link["url"] for link in bundle["link"]}


def test_matches_included_resources_and_what_is_missing_stand_in_this_order(study: Study, patient: Patient) -> None:
    search = parse(IMAGING_STUDY, (), (WHO, ("modality", "CT")), TERMS)
    first = FoundStudy(study, IHI, retrievable=True, patient=patient, address=True)
    second = replace(first, study=replace(study, id="second"), address=False)
    found = Found((first, second), 7, frozenset({patient.id}), unanswered=(("pacs", "timeout"),))
    bundle = study_bundle(found, Page(search, "request", "sealed"), SERVER)
    entries = [
        (entry["search"]["mode"], entry["resource"]["resourceType"], entry["resource"].get("id"))
        for entry in bundle["entry"]
    ]
    assert entries == [
        ("match", "ImagingStudy", study.id),
        ("match", "ImagingStudy", "second"),
        ("include", "Patient", patient.id),
        ("include", "Endpoint", study.id),
        ("outcome", "OperationOutcome", None),
    ]
    assert bundle["total"] == 7
    assert "pacs" in bundle["entry"][-1]["resource"]["issue"][0]["diagnostics"]
    assert links(bundle) == {
        "self": f"https://mdg.example.org/fhir/ImagingStudy?patient=Patient/{patient.id}&modality=CT",
        "next": "https://mdg.example.org/fhir/ImagingStudy?_page=sealed",
    }
    assert str(IHI) not in json.dumps(bundle["link"])


def test_a_study_that_cannot_be_retrieved_has_no_endpoint(study: Study) -> None:
    search = parse(IMAGING_STUDY, (), (WHO,), TERMS)
    found = Found((FoundStudy(study, IHI, retrievable=False),), 1, frozenset())
    bundle = study_bundle(found, Page(search, "request", None), SERVER)
    assert "endpoint" not in bundle["entry"][0]["resource"]
    assert links(bundle) == {"self": "https://mdg.example.org/fhir/ImagingStudy"}


def test_patients_are_matches_of_their_own_search(patient: Patient) -> None:
    search = parse(PATIENT, (), (("identifier", WHO[1]),), TERMS)
    found = FoundPatients((FoundPatient(patient, IHI),), 1, frozenset({patient.id}))
    bundle = patient_bundle(found, Page(search, "request", None), SERVER)
    (entry,) = bundle["entry"]
    assert (entry["fullUrl"], entry["search"]) == (
        f"https://mdg.example.org/fhir/Patient/{patient.id}",
        {"mode": "match"},
    )
    assert links(bundle) == {"self": f"https://mdg.example.org/fhir/Patient?_id={patient.id}"}
