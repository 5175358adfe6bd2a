"""ImagingStudy: one study with its series, no instances (spec/fhir 1, 3; R4 `dicom` mappings; IHE MADO 4.3-1).

Series-level detail is the default: a list of a CT's instances would make one answer megabytes. Elements that DICOM
does not give validly are left out, never half written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mdg.fhir import CODE_SYSTEM_DCM, CODE_SYSTEM_IDENTIFIER_TYPE, Json
from mdg.fhir.body_sites import BODY_SITES, Site
from mdg.fhir.dates import instant
from mdg.fhir.patient import ihi_identifier
from mdg.model.identity import Ihi
from mdg.model.imaging import Series, Study
from mdg.model.local_numbers import LocalNumbers

UID_SYSTEM = "urn:dicom:uid"
UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9]\d*)(\.(0|[1-9]\d*))*\Z", re.ASCII)
"""PS3.5 9.1: digits and dots, no leading zero in a component, at most 64 characters."""

SNOMED = "http://snomed.info/sct"
LATERALITY = {"R": ("24028007", "Right"), "L": ("7771000", "Left"), "B": ("51440002", "Right and left")}


def imaging_study(study: Study, ihi: Ihi, endpoints: Sequence[str], numbers: LocalNumbers) -> Json:
    """The ImagingStudy of `study`, whose patient is `ihi`; `endpoints` are logical ids of Endpoints, JMIX first."""
    resource: Json = {
        "resourceType": "ImagingStudy",
        "id": study.id,
        "meta": {
            "versionId": str(study.key.version),
            "lastUpdated": instant(study.updated),
            "security": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": label}
                for label in study.labels
            ],
        },
        "identifier": [
            {
                "type": {"coding": [{"system": CODE_SYSTEM_DCM, "code": "110180", "display": "Study Instance UID"}]},
                "system": UID_SYSTEM,
                "value": f"urn:oid:{study.key.uid}",
            }
        ],
        "status": "available",
        "modality": [{"system": CODE_SYSTEM_DCM, "code": code} for code in study.modalities],
        "subject": {"reference": f"Patient/{study.patient_id}", "type": "Patient", "identifier": ihi_identifier(ihi)},
        "started": study.started,
        "basedOn": [_based_on(study, numbers)] if study.accession else None,
        "endpoint": [{"reference": f"Endpoint/{id_}", "type": "Endpoint"} for id_ in endpoints],
        "numberOfSeries": len(study.series),
        "numberOfInstances": study.instances,
        "description": study.description,
        "series": [_series(series) for series in study.series],
    }
    return {name: value for name, value in resource.items() if value not in (None, [])}


def _based_on(study: Study, numbers: LocalNumbers) -> Json:
    """The order as a logical reference: R6 moves the accession number here, and MADO has it here already."""
    return {
        "type": "ServiceRequest",
        "identifier": {
            "type": {
                "coding": [
                    {"system": CODE_SYSTEM_IDENTIFIER_TYPE, "code": "ACSN"},
                    {"system": CODE_SYSTEM_DCM, "code": "121022"},
                ]
            },
            "system": numbers.accession_system(study),
            "value": study.accession,
            "assigner": {"display": study.accession_issuer or numbers.name},
        },
    }


def body_site(series: Series) -> Site | None:
    """The part of the body that a series shows, as far as Body Part Examined is a defined term."""
    return BODY_SITES.get((series.body_part or "").strip().upper())


def _series(series: Series) -> Json:
    site = body_site(series)
    side = LATERALITY.get((series.laterality or "").strip().upper())
    element: Json = {
        "uid": series.uid,
        "number": series.number,
        "modality": {"system": CODE_SYSTEM_DCM, "code": series.modality},
        "description": series.description,
        "numberOfInstances": series.instances,
        "bodySite": {"system": SNOMED, "code": site.code, "display": site.display} if site else None,
        "laterality": {"system": SNOMED, "code": side[0], "display": side[1]} if side else None,
    }
    return {name: value for name, value in element.items() if value is not None}
