"""The resources are valid R4 and say what DICOM said, no more."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom.sr._concepts_dict import concepts
from tests.fhir.conftest import NUMBERS

from mdg.errors import Forbidden
from mdg.fhir.body_sites import BODY_SITES
from mdg.fhir.bundle import searchset
from mdg.fhir.endpoint import jmix_endpoint
from mdg.fhir.imaging_study import LATERALITY, UID, imaging_study
from mdg.fhir.operation_outcome import operation_outcome, partial_outcome
from mdg.fhir.patient import patient as patient_resource
from mdg.model.identity import ACCESSION_SYSTEM, HpiO, Ihi, LocalId
from mdg.model.imaging import Patient, Study
from mdg.sources.facts import MODALITIES, modality

CUSTODIAN = HpiO("8003621566684455")
IHI = Ihi("8003608833357361")


def test_imaging_study_is_the_example_of_the_specification(study: Study) -> None:
    resource = imaging_study(study, IHI, [study.id], NUMBERS)
    assert resource["identifier"][0]["system"] == "urn:dicom:uid"
    assert resource["identifier"][0]["value"] == "urn:oid:1.2.36.1.99.1"
    assert resource["subject"]["reference"] == "Patient/01JV3W8ZC0D2E4F6G8H0J2K4M7"
    assert resource["subject"]["identifier"]["system"] == "http://ns.electronichealth.net.au/id/hi/ihi/1.0"
    assert resource["started"] == "2026-05-01T09:12:33+10:00"
    assert resource["meta"]["versionId"] == "3"
    assert resource["meta"]["lastUpdated"] == "2026-05-02T01:10:00.000Z"
    assert resource["basedOn"][0]["identifier"]["system"] == (
        "http://ns.electronichealth.net.au/id/hpio-scoped/accessionnumber/1.0/8003621566684455"
    )
    assert resource["endpoint"] == [{"reference": f"Endpoint/{study.id}", "type": "Endpoint"}]
    assert (resource["numberOfSeries"], resource["numberOfInstances"]) == (2, 120)
    assert resource["series"][0]["bodySite"] == {
        "system": "http://snomed.info/sct",
        "code": "816094009",
        "display": "Chest",
    }
    assert resource["series"][1]["laterality"]["code"] == "7771000"


def test_an_unknown_body_part_is_left_out_not_invented(study: Study) -> None:
    assert "bodySite" not in imaging_study(study, IHI, [], NUMBERS)["series"][1]


def test_what_dicom_did_not_say_has_no_element(bare: Study) -> None:
    resource = imaging_study(bare, IHI, [], NUMBERS)
    assert {"started", "description", "basedOn", "endpoint"}.isdisjoint(resource)
    assert set(resource["series"][0]) == {"uid", "modality", "numberOfInstances"}


def test_no_resource_has_null_or_an_empty_list_or_object(study: Study, bare: Study, patient: Patient) -> None:
    def values(node: Any) -> Iterator[Any]:
        yield node
        children: Iterable[Any] = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        for child in children:
            yield from values(child)

    unnamed = replace(patient, family=None, given=(), birth_date=None, sex=None)
    resources = [
        imaging_study(study, IHI, [study.id], NUMBERS),
        imaging_study(bare, IHI, [], NUMBERS),
        patient_resource(patient, IHI, NUMBERS),
        patient_resource(unnamed, IHI, NUMBERS),
        jmix_endpoint(study, "https://mdg.example.org", "https://w3id.org/mdg"),
        operation_outcome(Forbidden(reason="x"), "r"),
        searchset("https://mdg.example.org/fhir", total=0, matches=[], self_url="https://mdg.example.org/fhir"),
    ]
    for resource in resources:
        assert all(value not in (None, [], {}, "") for value in values(resource)), resource


def test_body_sites_and_sides_are_codes_of_the_dicom_standard() -> None:
    codes = cast("list[dict[str, tuple[str, list[int]]]]", list(concepts["SCT"].values()))
    known = {(code, meaning) for one in codes for code, (meaning, _) in one.items()}
    assert {code for code, _ in LATERALITY.values()} <= {code for code, _ in known}
    assert {(code, meaning) for code, meaning in BODY_SITES.values()} <= known
    for word in ("SPINE", "CHESTABDPELVIS", "THIGH", "WHOLEBODY"):
        assert word in BODY_SITES


def test_every_modality_that_is_shown_is_a_defined_term_of_the_standard() -> None:
    known = {code for codes in cast("list[dict[str, object]]", list(concepts["DCM"].values())) for code in codes}
    younger = {"RTINTENT", "RTRAD", "RTSEGANN", "XAPROTOCOL"}  # than the edition that pydicom has
    assert known >= MODALITIES - younger
    for odd in ("XYZZY", "C", "ct", "", None):
        assert modality(odd) == "OT"


def test_an_organisation_has_the_type_that_au_base_asks_for(study: Study) -> None:
    owner = jmix_endpoint(study, "https://mdg.example.org", "https://w3id.org/mdg")["managingOrganization"]
    assert owner["identifier"]["type"] == {
        "coding": [{"system": "http://terminology.hl7.org.au/CodeSystem/v2-0203", "code": "NOI"}]
    }


@pytest.mark.parametrize(
    ("issuer", "system", "assigner"),
    [
        (None, f"{ACCESSION_SYSTEM}/8003621566684455", "Example Imaging"),
        ("urn:oid:1.2.36.1", "urn:oid:1.2.36.1", "urn:oid:1.2.36.1"),
        ("RIS 2", "https://w3id.org/mdg/NamingSystem/accession/8003621566684455/RIS%202", "RIS 2"),
    ],
)
def test_an_accession_number_has_the_namespace_and_the_name_of_its_assigner(
    study: Study, issuer: str | None, system: str, assigner: str
) -> None:
    order = imaging_study(replace(study, accession_issuer=issuer), IHI, [], NUMBERS)["basedOn"][0]["identifier"]
    assert (order["system"], order["assigner"]) == (system, {"display": assigner})


@pytest.mark.parametrize("value", [str(IHI), "8003 6088 3335 7361", "8003608166690503"])
@pytest.mark.parametrize("issuer", ["AUSHIC", "DEMO"])
def test_a_patient_id_that_is_an_ihi_is_no_medical_record_number(patient: Patient, value: str, issuer: str) -> None:
    resource = patient_resource(replace(patient, local=LocalId(value, issuer)), IHI, NUMBERS)
    assert [one["system"] for one in resource["identifier"]] == [Ihi.system]


def test_prefix_and_suffix_of_a_name_are_kept(patient: Patient) -> None:
    resource = patient_resource(replace(patient, prefix="Dr", suffix="AM"), IHI, NUMBERS)
    assert resource["name"] == [{"family": "Phantom", "given": ["Ada"], "prefix": ["Dr"], "suffix": ["AM"]}]


def test_patient_has_what_au_core_requires(patient: Patient) -> None:
    resource = patient_resource(patient, IHI, NUMBERS)
    assert resource["name"] == [{"family": "Phantom", "given": ["Ada"]}]
    assert (resource["gender"], resource["birthDate"]) == ("female", "1970-01-31")
    assert resource["identifier"][1]["system"] == (
        "http://ns.electronichealth.net.au/id/hpio-scoped/medicalrecord/1.0/8003621566684455"
    )


def test_patient_without_demographics_says_data_absent(patient: Patient) -> None:
    unnamed = replace(patient, family=None, given=(), birth_date=None, sex=None)
    resource = patient_resource(unnamed, IHI, NUMBERS)
    absent = [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    assert resource["name"][0]["extension"] == absent
    assert resource["_birthDate"]["extension"] == absent
    assert "birthDate" not in resource
    assert resource["gender"] == "unknown"


def test_equal_numbers_of_two_issuers_never_share_a_system(patient: Patient) -> None:
    other = replace(patient, local=LocalId("DEMO-0001", "Other Hospital"))
    mine, theirs = (patient_resource(one, IHI, NUMBERS)["identifier"][1] for one in (patient, other))
    assert mine["value"] == theirs["value"]
    assert mine["system"] != theirs["system"]
    assert theirs["system"] == "https://w3id.org/mdg/NamingSystem/local-id/8003621566684455/Other%20Hospital"


def test_endpoint_address_has_no_person_and_no_token(study: Study) -> None:
    endpoint = jmix_endpoint(study, "https://mdg.example.org", "https://w3id.org/mdg")
    assert endpoint["address"] == "https://mdg.example.org/api/jmix?studyInstanceUid=1.2.36.1.99.1"
    assert endpoint["connectionType"]["code"] == "jmix"
    assert endpoint["payloadMimeType"] == ["application/zip"]
    assert str(IHI) not in json.dumps(endpoint)


def test_outcome_names_cause_for_the_caller_and_not_for_the_log() -> None:
    outcome = operation_outcome(Forbidden(reason="another-patient"), "3f1c")
    assert outcome["issue"][0] == {"severity": "error", "code": "forbidden", "diagnostics": "access is not permitted"}
    assert outcome["issue"][1]["diagnostics"] == "X-Request-ID 3f1c"
    assert "another-patient" not in json.dumps(outcome)


def test_partial_outcome_names_each_source_that_gave_no_answer() -> None:
    issues = partial_outcome([("pacs-2", "timeout")], "3f1c")["issue"]
    assert issues[0]["severity"] == "warning"
    assert "pacs-2" in issues[0]["diagnostics"]


def test_uid_rule_is_that_of_the_standard() -> None:
    for good in ("1.2.3", "0", "2.25.0", "1." + "1" * 62):
        assert UID.match(good), good
    for bad in ("", "1.02", "1..2", ".1", "1.", "1.2\n", "1." + "1" * 63, "1.2/..", "\uff11.2"):
        assert not UID.match(bad), bad


REQUIRED_BY_AU_CORE = ("identifier", "name", "gender", "birthDate")


def test_required_elements_are_those_of_the_published_profile(shared_data: Path, patient: Patient) -> None:
    with tarfile.open(shared_data / "fhir" / "au-core-2.0.0.tgz") as archive:
        member = archive.extractfile("package/StructureDefinition-au-core-patient.json")
        assert member is not None
        profile = json.load(member)
    required = {
        e["path"].split(".")[1] for e in profile["snapshot"]["element"] if e["path"].count(".") == 1 and e["min"]
    }
    resource = patient_resource(replace(patient, birth_date=None), IHI, NUMBERS)
    assert required == set(REQUIRED_BY_AU_CORE)
    assert all(name in resource or f"_{name}" in resource for name in required)


@pytest.mark.parametrize("total", [0, 2])
def test_bundle_entries_say_how_they_came_in(study: Study, total: int) -> None:
    match = imaging_study(study, IHI, [study.id], NUMBERS)
    include = jmix_endpoint(study, "https://mdg.example.org", "https://w3id.org/mdg")
    bundle = searchset(
        "https://mdg.example.org/fhir",
        total=total,
        matches=[match] * total,
        included=[include] * total,
        self_url="https://mdg.example.org/fhir/ImagingStudy?patient=Patient/x",
    )
    assert bundle["total"] == total
    assert [entry["search"]["mode"] for entry in bundle.get("entry", [])] == ["match"] * total + ["include"] * total
