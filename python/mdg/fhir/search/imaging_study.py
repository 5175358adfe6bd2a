"""The search parameters of ImagingStudy (FHIR R4; `docs/reference/endpoints.md`, "Search parameters")."""

from __future__ import annotations

from mdg.errors import Invalid
from mdg.fhir import CODE_SYSTEM_DCM
from mdg.fhir.body_sites import BODY_SITES
from mdg.fhir.imaging_study import SNOMED, UID_SYSTEM
from mdg.fhir.search import values
from mdg.fhir.search.engine import Parameter, Search, Table, person
from mdg.fhir.search.values import Terms
from mdg.model.query import Accession, Detail, Field, Moment, OneOf, Ordered, Sort

STATUSES = frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"})
STATUS_SYSTEM = "http://hl7.org/fhir/imagingstudy-status"
NOTHING = OneOf(Field.LOGICAL_ID, frozenset())


def _patient(search: Search, value: str, terms: Terms) -> Search:
    return search.also(OneOf(Field.PATIENT_ID, values.references(value, "Patient", terms.fhir)))


def _id(search: Search, value: str, _terms: Terms) -> Search:
    return search.also(values.logical_ids(value, Field.LOGICAL_ID))


def _identifier(search: Search, value: str, _terms: Terms) -> Search:
    return search.also(_uids(Field.STUDY_UID, value))


def _started(search: Search, value: str, terms: Terms) -> Search:
    return search.also(values.during(Moment.STARTED, value, terms))


def _last_updated(search: Search, value: str, terms: Terms) -> Search:
    return search.also(values.during(Moment.UPDATED, value, terms))


def _modality(search: Search, value: str, _terms: Terms) -> Search:
    return search.also(OneOf(Field.MODALITY, values.codes(value, CODE_SYSTEM_DCM)))


def _body_site(search: Search, value: str, _terms: Terms) -> Search:
    """A site is known by its code here and by Body Part Examined in a source, where several terms may mean one site."""
    codes = values.codes(value, SNOMED)
    parts = frozenset(part for part, site in BODY_SITES.items() if codes is None or site.code in codes)
    return search.also(OneOf(Field.BODY_PART, parts))


def _series(search: Search, value: str, _terms: Terms) -> Search:
    return search.also(_uids(Field.SERIES_UID, value))


def _based_on(search: Search, _value: str, _terms: Terms) -> Search:
    return search.also(NOTHING)  # no order is held here that a reference could mean


def _accession(search: Search, value: str, terms: Terms) -> Search:
    def accession(system: str | None, number: str | None) -> Accession:
        return Accession(number, None if system is None else terms.numbers.accession_issuers(system))

    return search.also(Ordered(tuple(accession(system, number) for system, number in values.tokens(value))))


def _status(search: Search, value: str, _terms: Terms) -> Search:
    statuses: frozenset[str] = frozenset()
    for system, code in values.tokens(value):
        if code is not None and code not in STATUSES:
            raise Invalid("status is one of " + ", ".join(sorted(STATUSES)))
        if system in (None, STATUS_SYSTEM):
            statuses |= STATUSES if code is None else {code}
    return search.also(OneOf(Field.STATUS, statuses))


def _uids(field: Field, value: str) -> OneOf:
    uids = values.codes(value, UID_SYSTEM)
    return OneOf(field, None if uids is None else frozenset(uid.removeprefix("urn:oid:") for uid in uids))


IMAGING_STUDY = Table(
    "ImagingStudy",
    patient="patient",
    patient_form="Patient/{id}",
    example="patient.identifier=<system>|<value>",
    own={
        "patient": Parameter("reference", "Patient/<id> as an earlier answer gave it.", _patient, whose=True),
        "patient.identifier": Parameter(
            "token", "The IHI, system and value; body of a POST only.", person, person=True, whose=True
        ),
        "patient:identifier": Parameter("token", "The same as patient.identifier.", person, person=True, whose=True),
        "subject": Parameter("reference", "The same as patient.", _patient, whose=True),
        "subject:Patient": Parameter("reference", "The same as patient.", _patient, whose=True),
        "subject:Patient.identifier": Parameter(
            "token", "The same as patient.identifier.", person, person=True, whose=True
        ),
        "_id": Parameter("token", "Logical id; within the token's patient.", _id, alone=True),
        "identifier": Parameter(
            "token", "urn:dicom:uid|urn:oid:<uid>; within the token's patient.", _identifier, alone=True
        ),
        "started": Parameter("date", "Prefixes eq ne gt lt ge le sa eb.", _started),
        "modality": Parameter("token", "Any series of this DICOM modality.", _modality),
        "bodysite": Parameter("token", "SNOMED CT code of any series; no modifiers.", _body_site),
        "series": Parameter("token", "SeriesInstanceUID.", _series),
        "basedon": Parameter(
            "reference", "Finds nothing: no order is held here that a reference could mean.", _based_on
        ),
        "basedon:identifier": Parameter(
            "token", "Accession number, with its system or without; body of a POST only.", _accession, person=True
        ),
        "status": Parameter("token", "Without it, cancelled and entered-in-error are left out.", _status),
        "_lastUpdated": Parameter("date", "Prefixes as of started.", _last_updated),
    },
    includes={
        "ImagingStudy:endpoint": Detail.ADDRESS,
        "ImagingStudy:patient": Detail.PATIENT,
        "ImagingStudy:subject": Detail.PATIENT,
    },
    sorts={
        "started": Sort(Moment.STARTED, descending=False),
        "-started": Sort(Moment.STARTED),
        "_lastUpdated": Sort(Moment.UPDATED, descending=False),
        "-_lastUpdated": Sort(Moment.UPDATED),
    },
)
