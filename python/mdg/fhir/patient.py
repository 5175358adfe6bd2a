"""Patient: who a study is about, as AU Core Patient 2.0.0 asks: identifier, name, gender, birthDate at least once each.

What the DICOM header does not say carries the data-absent-reason extension, so that a reader sees "not known here" and
not "not sent". The local number leaves only under a system scoped to the custodian (fhir-au 1.4).
"""

from __future__ import annotations

from urllib.parse import quote

from mdg.fhir import CODE_SYSTEM_IDENTIFIER_TYPE, DATA_ABSENT, Json
from mdg.model.identity import MEDICAL_RECORD_SYSTEM, HpiO, Ihi, LocalId
from mdg.model.imaging import Patient

PROFILE = "http://hl7.org.au/fhir/core/StructureDefinition/au-core-patient"
GENDERS = {"M": "male", "F": "female", "O": "other"}
_ABSENT = {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}


def patient(who: Patient, ihi: Ihi, custodian: HpiO, default_issuer: str) -> Json:
    """The Patient of `who`, known nationally as `ihi`; ids of `default_issuer` are the custodian's own numbers."""
    names = {"family": who.family, "given": list(who.given)}
    resource: Json = {
        "resourceType": "Patient",
        "id": who.id,
        "meta": {"profile": [PROFILE]},
        "identifier": [ihi_identifier(ihi), _record_number(who, custodian, default_issuer)],
        "name": [{name: value for name, value in names.items() if value} | ({} if who.family else _ABSENT)],
        "gender": GENDERS.get(who.sex or "", "unknown"),
    }
    if who.birth_date is None:
        resource["_birthDate"] = _ABSENT
    else:
        resource["birthDate"] = who.birth_date
    return resource


def ihi_identifier(ihi: Ihi) -> Json:
    """The IHI as AU Base `au-ihi` writes it."""
    return {
        "type": {
            "coding": [
                {
                    "system": CODE_SYSTEM_IDENTIFIER_TYPE,
                    "code": "NI",
                    "display": "National unique individual identifier",
                }
            ],
            "text": "IHI",
        },
        "system": Ihi.system,
        "value": str(ihi),
    }


def record_system(local: LocalId, custodian: HpiO, default_issuer: str) -> str:
    """The system of a local number. An id of another issuer than the custodian's own keeps that issuer in its system,
    so that equal numbers never meet (IEF DC1)."""
    scope = f"{MEDICAL_RECORD_SYSTEM}/{custodian}"
    return scope if local.issuer == default_issuer else f"{scope}/{quote(local.issuer, safe='')}"


def _record_number(who: Patient, custodian: HpiO, default_issuer: str) -> Json:
    return {
        "type": {"coding": [{"system": CODE_SYSTEM_IDENTIFIER_TYPE, "code": "MR", "display": "Medical record number"}]},
        "system": record_system(who.local, custodian, default_issuer),
        "value": who.local.value,
        "assigner": {"display": who.local.issuer},
    }
