"""The search parameters: what is read, what is refused, and that no refusal repeats a value."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from tests.fhir.conftest import NUMBERS

from mdg.errors import Invalid, NotAcceptable, NotSupported, Problem, Required
from mdg.fhir.capability_statement import capability_statement, interactions
from mdg.fhir.search import IMAGING_STUDY, PATIENT, SEARCHES, Search, Table, Terms, parse
from mdg.fhir.search.values import ValueOfIdentifier
from mdg.model.identity import ACCESSION_SYSTEM, IHI_SYSTEM_JMIX_ALIAS, Ihi
from mdg.model.imaging import Study
from mdg.model.query import matches, select

IHI = Ihi("8003608833357361")
SYSTEM = "http://ns.electronichealth.net.au/id/hi/ihi/1.0"
FHIR = "https://mdg.example.org/fhir"
ACCESSION = f"{ACCESSION_SYSTEM}/8003621566684455"
SYDNEY = ZoneInfo("Australia/Sydney")
TERMS = Terms(SYDNEY, FHIR, NUMBERS)
WHO = ("patient.identifier", f"{SYSTEM}|{IHI}")


def search(*body: tuple[str, str], url: tuple[tuple[str, str], ...] = (), table: Table = IMAGING_STUDY) -> Search:
    return parse(table, url, body, TERMS)


def finds(search: Search, study: Study) -> bool:
    return matches(replace(search.query, patients=(study.patient,)), study)


@pytest.mark.parametrize("name", ["patient.identifier", "patient:identifier", "subject:Patient.identifier"])
@pytest.mark.parametrize(
    "value", [f"{SYSTEM}|{IHI}", f"{SYSTEM}|8003 6088 3335 7361", f"{IHI_SYSTEM_JMIX_ALIAS}|{IHI}"]
)
def test_three_spellings_of_the_patient_are_equal(name: str, value: str) -> None:
    assert search((name, value)).query.person == IHI


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ([("patient.identifier", f"{SYSTEM}|8003608833357362")], ValueOfIdentifier),
        ([("patient.identifier", f"{SYSTEM}|800360883335736")], ValueOfIdentifier),
        ([("patient.identifier", f"{SYSTEM}|80036088333573ab")], ValueOfIdentifier),
        ([("patient.identifier", str(IHI))], Invalid),
        ([("patient.identifier", f"urn:other|{IHI}")], NotSupported),
        ([WHO, ("patient.identifier", f"{SYSTEM}|8003601243017905")], Problem),
        ([("patient.identifier", f"{SYSTEM}|{IHI},{SYSTEM}|{IHI}")], Invalid),
        ([("modality", "CT")], Required),
        ([], Required),
        ([WHO, ("patient.name", "x")], NotSupported),
        ([WHO, ("_has:Observation:patient:code", "x")], NotSupported),
        ([WHO, ("_include", "ImagingStudy:basedon")], NotSupported),
        ([WHO, ("_include", "*")], NotSupported),
        ([WHO, ("_include:iterate", "ImagingStudy:patient")], NotSupported),
        ([WHO, ("_revinclude", "Provenance:target")], NotSupported),
        ([WHO, ("modality:text", "CT")], NotSupported),
        ([WHO, ("_count", "-1")], Invalid),
        ([WHO, ("_count", "a")], Invalid),
        ([WHO, ("_count", "٣")], Invalid),
        ([WHO, ("_sort", "patient")], NotSupported),
        ([WHO, ("started", "2026-02-30")], Invalid),
        ([WHO, ("started", "ap2026")], NotSupported),
        ([WHO, ("started", "zz2026")], Invalid),
        ([WHO, ("started", "2026-05-01T25:00")], Invalid),
        ([WHO, ("started", "9999-12-31")], Invalid),
        ([WHO, ("status", "nonsense")], Invalid),
        ([WHO, ("_id", "")], Invalid),
        ([WHO, ("modality", "CT,")], Invalid),
        ([WHO, ("modality", "|")], Invalid),
        ([WHO, ("_total", "all")], NotSupported),
        ([WHO, ("_count", "1"), ("_count", "2")], Invalid),
        ([WHO, ("_sort", "started"), ("_sort", "-started")], Invalid),
        ([WHO, ("_format", "json"), ("_format", "application/json")], Invalid),
        ([WHO, ("subject:Patient", "a b")], Invalid),
        ([WHO, ("_format", "xml")], NotAcceptable),
        ([WHO, ("access_token", "abc")], NotSupported),
        ([WHO, ("modality", "C" * 1025)], Invalid),
        ([("patient", "Patient/../x")], Invalid),
    ],
)
def test_refusals_name_their_kind_and_repeat_no_value(body: list[tuple[str, str]], kind: type[Problem]) -> None:
    with pytest.raises(kind) as caught:
        search(*body)
    assert not any(value in caught.value.diagnostics for _, value in body if len(value) > 4 and value != "9999-12-31")


@pytest.mark.parametrize(
    "url",
    [
        (WHO,),
        (("patient:identifier", f"{SYSTEM}|{IHI}"),),
        (("patient", str(IHI)),),
        (("_id", "8003-6088-3335-7361"),),
        (("identifier", "x 8003 6088 3335 7361"),),
        ((str(IHI), "x"),),
        (("practitioner.identifier", "x"),),
        (("basedon:identifier", "A26-00417"),),
    ],
)
def test_identifier_of_a_person_in_a_url_names_the_post_that_works(url: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(NotSupported) as caught:
        search(("patient", "x"), url=url)
    assert f"POST {FHIR}/ImagingStudy/_search" in caught.value.diagnostics
    assert "7361" not in caught.value.diagnostics


def test_parameters_of_url_and_body_are_merged(study: Study) -> None:
    merged = search(WHO, url=(("modality", "MR"),))
    assert not finds(merged, study)
    assert finds(search(WHO, url=(("modality", "CT"),)), study)


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [
        ("identifier", "urn:dicom:uid|urn:oid:1.2.36.1.99.1", "urn:dicom:uid|urn:oid:1.2.36.1.99"),
        ("identifier", "urn:dicom:uid|1.2.36.1.99.1", "1.2.36.1.99.11"),
        ("identifier", "1.2.3,1.2.36.1.99.1", "1.2.3"),
        ("_id", "01JV3W8ZC0D2E4F6G8H0J2K4M6", "01JV3W8ZC0D2E4F6G8H0J2K4M7"),
        ("modality", "CT", "MR"),
        ("modality", "http://dicom.nema.org/resources/ontology/DCM|OT", "urn:other|CT"),
        ("modality", "http://dicom.nema.org/resources/ontology/DCM|", "urn:other|"),
        ("modality", "MR,CT", "|CT"),
        ("modality", "CT", "CT\\"),
        ("modality", "CT", "C\\T"),
        ("bodysite", "816094009", "69536005"),
        ("bodysite", "http://snomed.info/sct|", "urn:other|816094009"),
        ("identifier", "urn:dicom:uid|", "urn:x|1.2.36.1.99.1"),
        ("identifier", "1.2.36.1.99.1", "../../etc"),
        ("series", "urn:dicom:uid|urn:oid:1.2.36.1.99.1.2", "urn:x|1.2.36.1.99.1.2"),
        ("status", "http://hl7.org/fhir/imagingstudy-status|available", "urn:other|available"),
        ("basedon:identifier", f"{ACCESSION}|", "urn:other|"),
        ("subject:Patient", f"{FHIR}/Patient/01JV3W8ZC0D2E4F6G8H0J2K4M7", "https://elsewhere.example/Patient/x"),
        ("patient", "Patient/x,01JV3W8ZC0D2E4F6G8H0J2K4M7", "Device/01JV3W8ZC0D2E4F6G8H0J2K4M7"),
        ("series", "1.2.36.1.99.1.2", "1.2.36.1.99.1.3"),
        ("status", "available", "registered"),
        ("basedon:identifier", "A26-00417", "A26"),
        ("basedon:identifier", f"{ACCESSION}|A26-00417", "urn:other|A26-00417"),
        ("started", "2026-05-01", "2026-05-02"),
        ("started", "2026", "2025"),
        ("started", "2026-05", "2026-04"),
        ("started", "2026-04-30T23:12:33Z", "2026-04-30T23:12:34Z"),
        ("started", "ge2026-05-01", "gt2026-05-01"),
        ("started", "le2026-05-01", "lt2026-05-01"),
        ("started", "sa2026-04-30", "sa2026-05-01"),
        ("started", "eb2026-05-02", "eb2026-05-01"),
        ("started", "ne2026-05-02", "ne2026-05-01"),
        ("_lastUpdated", "2026-05-02", "gt2026-05-02"),
        ("subject", "01JV3W8ZC0D2E4F6G8H0J2K4M7", "01JV3W8ZC0D2E4F6G8H0J2K4M8"),
        ("patient", "Patient/01JV3W8ZC0D2E4F6G8H0J2K4M7", "Patient/another"),
    ],
)
def test_each_parameter_selects_and_leaves_out(study: Study, name: str, yes: str, no: str) -> None:
    assert finds(search(WHO, (name, yes)), study)
    assert not finds(search(WHO, (name, no)), study)


def test_a_date_without_offset_is_a_day_of_the_services_place(study: Study) -> None:
    late = replace(study, started="2026-05-01T23:30:00+10:00")
    assert finds(search(WHO, ("started", "2026-05-01")), late)
    whole_day = replace(study, started="2026-05-01")
    assert finds(search(WHO, ("started", "2026-05-01")), whole_day)
    assert not finds(search(WHO, ("started", "2026-05-01T10:00")), whole_day)


def test_the_day_that_clocks_change_has_its_own_length(study: Study) -> None:
    """Sydney left summer time on 2026-04-05 at 03:00: the day has 25 hours."""
    last = replace(study, started="2026-04-05T23:59:00+10:00")
    assert finds(search(WHO, ("started", "2026-04-05")), last)


def test_an_unknown_date_satisfies_no_date(bare: Study) -> None:
    assert not finds(search(WHO, ("started", "ne2020")), bare)


def test_links_carry_neither_patient_nor_person() -> None:
    found = search(WHO, ("patient", "pt-1"), ("modality", "CT"), ("basedon:identifier", "A26-00417"), ("_count", "5"))
    assert found.link(frozenset({"pt-1"})) == [("patient", "Patient/pt-1"), ("modality", "CT"), ("_count", "5")]
    assert found.link(frozenset()) == [("modality", "CT"), ("_count", "5")]
    assert ("basedon:identifier", "A26-00417") in found.of(frozenset())
    assert str(IHI) not in str(found.asked)


def test_a_parameter_that_is_repeated_narrows_the_search(study: Study) -> None:
    mine, other = ("patient", study.patient_id), ("patient", "another")
    for pair in ((mine, other), (other, mine), (other, ("patient", "x"))):
        assert not finds(search(WHO, *pair), study)
    assert finds(search(WHO, mine, ("subject", f"Patient/{study.patient_id},x")), study)
    assert not finds(search(WHO, ("status", "cancelled"), ("status", "available")), study)
    assert finds(search(WHO, ("status", "cancelled,available"), ("status", "available")), study)
    assert search(WHO, ("_count", "7"), ("_count", "7")).query.count == 7


def test_a_reference_to_an_order_finds_nothing(study: Study) -> None:
    assert not finds(search(WHO, ("basedon", "ServiceRequest/1")), study)


def test_an_escaped_character_stands_for_itself(study: Study) -> None:
    odd = replace(study, accession="A,1|2\\$")
    assert finds(search(WHO, ("basedon:identifier", "A\\,1\\|2\\\\\\$")), odd)
    assert not finds(search(WHO, ("basedon:identifier", "A,1")), odd)


def test_count_is_capped_not_refused() -> None:
    assert search(WHO, ("_count", "1000000000")).query.count == 100
    assert search(WHO, ("_count", "0")).query.count == 0
    assert search(WHO, ("_summary", "count")).query.count == 0


def test_order_is_total_and_newest_first(study: Study, bare: Study) -> None:
    older = replace(study, id="A", started="2020-01-01")
    same = replace(study, id="0")

    def ordered(asked: Search, *studies: Study) -> list[Study]:
        return [*select(replace(asked.query, patients=(study.patient,)), studies).studies]

    assert ordered(search(WHO), older, study, bare, same) == [same, study, older, bare]
    assert ordered(search(WHO, ("_sort", "started")), study, older)[0] is older


def test_a_study_alone_may_be_asked_for_without_its_patient() -> None:
    assert search(("identifier", "1.2.3")).query.person is None
    assert search(("_id", "x")).query.person is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ([], Required),
        ([("_count", "1")], Required),
        ([("identifier", "urn:other|8003608833357361")], NotSupported),
        ([("identifier", f"{SYSTEM}|8003608833357362")], ValueOfIdentifier),
        ([("identifier", f"{SYSTEM}|{IHI}"), ("family", "Phantom")], NotSupported),
        ([("identifier", f"{SYSTEM}|{IHI}"), ("_include", "Patient:organization")], NotSupported),
        ([("identifier", f"{SYSTEM}|{IHI}"), ("_sort", "_id")], NotSupported),
        ([("identifier", f"{SYSTEM}|{IHI}"), ("modality", "CT")], NotSupported),
    ],
)
def test_patients_are_searched_by_the_same_engine_under_a_table_of_their_own(
    body: list[tuple[str, str]], kind: type[Problem]
) -> None:
    with pytest.raises(kind):
        search(*body, table=PATIENT)


def test_a_search_for_patients_names_them_by_their_own_ids(study: Study) -> None:
    found = search(("identifier", f"{SYSTEM}|{IHI}"), ("_count", "5"), table=PATIENT)
    assert (found.query.person, found.query.count) == (IHI, 5)
    assert found.link(frozenset({"b", "a"})) == [("_id", "a,b"), ("_count", "5")]
    assert finds(search(("_id", f"x,{study.patient_id}"), table=PATIENT), study)
    assert not finds(search(("_id", study.id), table=PATIENT), study)
    with pytest.raises(NotSupported) as refused:
        search(url=(("identifier", "8003608833357361"),), table=PATIENT)
    assert f"POST {FHIR}/Patient/_search" in refused.value.diagnostics


def test_the_refusal_of_a_parameter_names_those_of_its_table_only() -> None:
    with pytest.raises(NotSupported) as refused:
        search(("family", "x"), table=PATIENT)
    assert refused.value.diagnostics.endswith("supported: _id, identifier, _count, _summary, _total")


@pytest.mark.parametrize("table", SEARCHES.values(), ids=SEARCHES)
def test_each_table_says_what_its_links_and_refusals_need(table: Table) -> None:
    assert table.patient in table.parameters
    assert not table.parameters[table.patient].person
    example = table.parameters[table.example.partition("=")[0]]
    assert (example.person, example.whose) == (True, True)
    assert all(parameter.documentation for parameter in table.parameters.values())


def test_an_accession_system_leads_back_to_its_issuers(study: Study) -> None:
    issuers = (None, "RIS", "a/b c", "urn:oid:1.2.3", "https://ris.example", f"{ACCESSION}", "ä%2F")
    by_system: dict[str, set[str | None]] = {}
    for issuer in issuers:
        by_system.setdefault(NUMBERS.accession_system(replace(study, accession_issuer=issuer)), set()).add(issuer)
    for system, expected in by_system.items():
        assert NUMBERS.accession_issuers(system) >= expected
        assert NUMBERS.accession_issuers(system).isdisjoint(set(issuers) - expected)
    assert NUMBERS.accession_issuers("urn:other") == {"urn:other"}
    assert NUMBERS.accession_issuers("no address") == NUMBERS.accession_issuers("") == frozenset()


def test_statement_is_told_from_the_routes() -> None:
    routes = [
        ("/fhir/metadata", frozenset({"GET"})),
        ("/fhir/ImagingStudy", frozenset({"GET"})),
        ("/fhir/ImagingStudy/_search", frozenset({"POST"})),
        ("/fhir/ImagingStudy/{id}", frozenset({"GET", "HEAD"})),
        ("/fhir/Endpoint/{id}", frozenset({"GET"})),
        ("/fhir/Patient/_search", frozenset({"POST"})),
        ("/api/jmix", frozenset({"GET"})),
    ]
    assert interactions(routes) == {
        "ImagingStudy": ("read", "search-type"),
        "Endpoint": ("read",),
        "Patient": ("search-type",),
    }
    statement = capability_statement(
        routes,
        fhir=FHIR,
        canonical_base="https://w3id.org/mdg",
        version="1.0.0",
        published=datetime(2026, 5, 1, tzinfo=UTC),
        issuers=["https://as.example.gov.au"],
    )
    assert (statement["kind"], statement["fhirVersion"], statement["format"]) == (
        "instance",
        "4.0.1",
        ["application/fhir+json"],
    )
    types = {resource["type"]: resource for resource in statement["rest"][0]["resource"]}
    stated = {parameter["name"] for parameter in types["ImagingStudy"]["searchParam"]}
    assert stated == {
        name.split(".")[0].split(":")[0] for name, p in IMAGING_STUDY.parameters.items() if p.type != "special"
    }
    assert types["ImagingStudy"]["searchInclude"] == [*IMAGING_STUDY.includes]
    assert "searchParam" not in types["Endpoint"]
    assert [one["name"] for one in types["Patient"]["searchParam"]] == ["_id", "identifier"]
    assert "searchInclude" not in types["Patient"]
