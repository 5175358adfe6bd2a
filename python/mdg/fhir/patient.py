"""Patient: who a study is about, as AU Core Patient 2.0.0 asks: identifier, name, gender, birthDate at least once each.

What the DICOM header does not say carries the data-absent-reason extension, so that a reader sees "not known here" and
not "not sent". The local number leaves only under a system scoped to the custodian (`mdg.model.local_numbers`).
"""

from __future__ import annotations

from mdg.fhir import CODE_SYSTEM_IDENTIFIER_TYPE, DATA_ABSENT, Json
from mdg.model.identity import Ihi, LocalId
from mdg.model.imaging import Patient
from mdg.model.local_numbers import LocalNumbers

PROFILE = "http://hl7.org.au/fhir/core/StructureDefinition/au-core-patient"
GENDERS = {"M": "male", "F": "female", "O": "other"}
_ABSENT = {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}


def patient(who: Patient, ihi: Ihi, numbers: LocalNumbers) -> Json:
    """The Patient of `who`, known nationally as `ihi`."""
    prefix, suffix = ([part] if part else [] for part in (who.prefix, who.suffix))
    names = {"family": who.family, "given": list(who.given), "prefix": prefix, "suffix": suffix}
    resource: Json = {
        "resourceType": "Patient",
        "id": who.id,
        "meta": {"profile": [PROFILE]},
        "identifier": [ihi_identifier(ihi), *_record_numbers(who.local, numbers)],
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


def _record_numbers(local: LocalId, numbers: LocalNumbers) -> list[Json]:
    system = numbers.record_system(local)
    if system is None:
        return []
    coding = {"system": CODE_SYSTEM_IDENTIFIER_TYPE, "code": "MR", "display": "Medical record number"}
    assigner = {"display": local.issuer}
    return [{"type": {"coding": [coding]}, "system": system, "value": local.value, "assigner": assigner}]
