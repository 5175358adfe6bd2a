"""Cardinality, kind and required bindings of FHIR R4 for every resource that discovery gives, as a table of our own. An
element that is not in the table is a fault, so a new one is looked up in R4 before it is written here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.fhir.conftest import IHI, NUMBERS

from mdg.errors import Forbidden
from mdg.fhir.bundle import searchset
from mdg.fhir.endpoint import jmix_endpoint
from mdg.fhir.imaging_study import imaging_study
from mdg.fhir.operation_outcome import operation_outcome, partial_outcome
from mdg.fhir.patient import patient as patient_resource
from mdg.model.identity import LocalId
from mdg.model.imaging import Patient, Study

BASE = "https://mdg.example.org/fhir"
PRIMITIVES: Mapping[str, str] = {
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "string": r"[\s\S]*\S[\s\S]*",
    "uri": r"[a-z][a-z0-9+.-]*:\S+",
    "code": r"[^\s]+( [^\s]+)*",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date": r"\d{4}(-\d\d(-\d\d)?)?",
    "dateTime": r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?",
}
ELEMENTS: Mapping[str, str] = {
    "ImagingStudy": "id:0..1:id meta:0..1:Meta identifier:0..*:Identifier "
    "status:1..1:=registered|available|cancelled|entered-in-error|unknown modality:0..*:Coding subject:1..1:Reference "
    "started:0..1:dateTime basedOn:0..*:Reference endpoint:0..*:Reference numberOfSeries:0..1:unsignedInt "
    "numberOfInstances:0..1:unsignedInt description:0..1:string series:0..*:Series",
    "Series": "uid:1..1:id number:0..1:unsignedInt modality:1..1:Coding description:0..1:string "
    "numberOfInstances:0..1:unsignedInt bodySite:0..1:Coding laterality:0..1:Coding",
    "Patient": "id:0..1:id meta:0..1:Meta identifier:0..*:Identifier name:0..*:HumanName "
    "gender:0..1:=male|female|other|unknown birthDate:0..1:date _birthDate:0..1:Element",
    "HumanName": "extension:0..*:Extension family:0..1:string given:0..*:string prefix:0..*:string suffix:0..*:string",
    "Endpoint": "id:0..1:id status:1..1:=active|suspended|error|off|entered-in-error|test connectionType:1..1:Coding "
    "managingOrganization:0..1:Reference payloadType:1..*:CodeableConcept payloadMimeType:0..*:code address:1..1:uri",
    "OperationOutcome": "issue:1..*:Issue",
    "Issue": "severity:1..1:=fatal|error|warning|information "
    "code:1..1:=forbidden|timeout|incomplete|informational diagnostics:0..1:string",
    "Bundle": "type:1..1:=searchset total:0..1:unsignedInt link:0..*:Link entry:0..*:Entry",
    "Link": "relation:1..1:string url:1..1:uri",
    "Entry": "fullUrl:0..1:uri resource:0..1:Resource search:0..1:Search",
    "Search": "mode:0..1:=match|include|outcome",
    "Meta": "versionId:0..1:id lastUpdated:0..1:instant profile:0..*:uri security:0..*:Coding",
    "Identifier": "type:0..1:CodeableConcept system:0..1:uri value:0..1:string assigner:0..1:Reference",
    "Reference": "reference:0..1:string type:0..1:code identifier:0..1:Identifier display:0..1:string",
    "CodeableConcept": "coding:0..*:Coding text:0..1:string",
    "Coding": "system:0..1:uri code:0..1:code display:0..1:string",
    "Element": "extension:0..*:Extension",
    "Extension": "url:1..1:uri valueCode:0..1:code",
}


def faults(resource: Any) -> Iterator[str]:
    """What R4 says against a resource."""
    type_ = resource["resourceType"]
    members = {name: value for name, value in resource.items() if name != "resourceType"}
    yield from _structure(type_, type_, members)


def _structure(type_: str, path: str, value: Any) -> Iterator[str]:
    table = {name: (least, most, kind) for name, least, most, kind in map(_row, ELEMENTS[type_].split())}
    yield from (f"{path}.{name} is no element here" for name in value if name not in table)
    for name, (least, most, kind) in table.items():
        given = value.get(name)
        if given is None:
            if least == "1":
                yield f"{path}.{name} is missing"
            continue
        if isinstance(given, list) != (most == "*") or given == []:
            yield f"{path}.{name} is {least}..{most}"
            continue
        for one in given if isinstance(given, list) else [given]:
            yield from _value(kind, f"{path}.{name}", one)


def _value(kind: str, path: str, value: Any) -> Iterator[str]:
    if kind == "Resource":
        yield from (f"{path}.{fault}" for fault in faults(value))
    elif kind in ELEMENTS:
        yield from _structure(kind, path, value)
    elif kind == "unsignedInt":
        if type(value) is not int or not 0 <= value < 1 << 31:
            yield f"{path} is no unsignedInt"
    elif kind.startswith("="):
        if value not in kind[1:].split("|"):
            yield f"{path} is no code of the required value set"
    elif not isinstance(value, str) or not re.fullmatch(PRIMITIVES[kind], value):
        yield f"{path} is no {kind}"


def _row(text: str) -> tuple[str, str, str, str]:
    name, cardinality, kind = text.split(":", 2)
    least, most = cardinality.split("..")
    return name, least, most, kind


def test_each_resource_keeps_to_r4(study: Study, bare: Study, patient: Patient) -> None:
    unnamed = replace(patient, family=None, given=(), birth_date=None, sex=None, local=LocalId("1", "Elsewhere"))
    endpoint = jmix_endpoint(study, "https://mdg.example.org", "https://w3id.org/mdg")
    resources = [
        imaging_study(study, IHI, [study.id], NUMBERS),
        imaging_study(replace(study, accession_issuer="RIS"), IHI, [study.id], NUMBERS),
        imaging_study(bare, IHI, [], NUMBERS),
        patient_resource(replace(patient, prefix="Dr", suffix="AM"), IHI, NUMBERS),
        patient_resource(unnamed, IHI, NUMBERS),
        endpoint,
        operation_outcome(Forbidden(reason="x"), "r"),
    ]
    partial = [partial_outcome([("pacs", "timeout"), ("other", "incomplete")], "r")]
    whole = searchset(BASE, total=2, matches=resources[:3], included=[endpoint], outcomes=partial, self_url=f"{BASE}/x")
    for resource in (*resources, whole, searchset(BASE, total=0, matches=[], self_url=BASE)):
        assert list(faults(resource)) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"status": "ok"}, "ImagingStudy.status is no code of the required value set"),
        ({"subject": None}, "ImagingStudy.subject is missing"),
        ({"started": "2026-05-01T10:00:00"}, "ImagingStudy.started is no dateTime"),
        ({"modality": {"code": "CT"}}, "ImagingStudy.modality is 0..*"),
        ({"numberOfSeries": -1}, "ImagingStudy.numberOfSeries is no unsignedInt"),
        ({"accession": "1"}, "ImagingStudy.accession is no element here"),
    ],
)
def test_the_check_finds_what_is_wrong(study: Study, changed: dict[str, Any], fault: str) -> None:
    assert list(faults(imaging_study(study, IHI, [], NUMBERS) | changed)) == [fault]
