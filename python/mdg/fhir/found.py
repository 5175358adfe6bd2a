"""What discovery found, as FHIR resources and searchset Bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from mdg.fhir import Json
from mdg.fhir.bundle import searchset
from mdg.fhir.endpoint import endpoint_id, jmix_endpoint
from mdg.fhir.imaging_study import imaging_study
from mdg.fhir.operation_outcome import partial_outcome
from mdg.fhir.patient import patient
from mdg.fhir.search import Pairs, Search
from mdg.model.found import Found, FoundPatient, FoundPatients, FoundStudy
from mdg.model.local_numbers import LocalNumbers


@dataclass(frozen=True, slots=True)
class Server:
    """What resources say of the server that shows them. `public_url` is its address without a path, `canonical_base`
    that of the definitions that it uses."""

    public_url: str
    canonical_base: str
    numbers: LocalNumbers

    @property
    def fhir(self) -> str:
        """The base of all resources."""
        return f"{self.public_url}/fhir"


@dataclass(frozen=True, slots=True)
class Page:
    """Which search a Bundle answers: its `search`, the request, and the `_page` of the next page, if there is one."""

    search: Search
    request_id: str
    next: str | None


def study_resource(found: FoundStudy, server: Server) -> Json:
    """The ImagingStudy."""
    endpoints = [endpoint_id(found.study)] if found.retrievable else []
    return imaging_study(found.study, found.ihi, endpoints, server.numbers)


def address_resource(found: FoundStudy, server: Server) -> Json:
    """The Endpoint at which the study is retrieved."""
    return jmix_endpoint(found.study, server.public_url, server.canonical_base)


def patient_resource(found: FoundPatient, server: Server) -> Json:
    """The Patient."""
    return patient(found.patient, found.ihi, server.numbers)


def study_bundle(found: Found, page: Page, server: Server) -> Json:
    """The searchset of ImagingStudies, with their Patients and Endpoints as far as these were found."""
    patients = {one.patient.id: FoundPatient(one.patient, one.ihi) for one in found.studies if one.patient}
    included = [
        *(patient_resource(one, server) for one in patients.values()),
        *(address_resource(one, server) for one in found.studies if one.address),
    ]
    return _bundle(found, page, server, [study_resource(one, server) for one in found.studies], included)


def patient_bundle(found: FoundPatients, page: Page, server: Server) -> Json:
    """The searchset of Patients."""
    return _bundle(found, page, server, [patient_resource(one, server) for one in found.patients], [])


def _bundle(
    found: Found | FoundPatients, page: Page, server: Server, matches: Sequence[Json], included: Sequence[Json]
) -> Json:
    address = f"{server.fhir}/{page.search.table.type}"
    return searchset(
        server.fhir,
        total=found.total,
        matches=matches,
        included=included,
        outcomes=[partial_outcome(found.unanswered, page.request_id)] if found.unanswered else [],
        self_url=_url(address, page.search.link(found.patient_ids)),
        next_url=None if page.next is None else _url(address, [("_page", page.next)]),
    )


def _url(address: str, parameters: Pairs) -> str:
    query = urlencode(parameters, safe="/:|,")
    return address + (f"?{query}" if query else "")
