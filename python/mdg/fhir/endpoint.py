"""Endpoint: where a study's JMIX envelope is asked for (spec/fhir 4).

Its address holds no token, no signature and no IHI.
"""

from __future__ import annotations

from mdg.fhir import CODE_SYSTEM_DCM, Json
from mdg.model.imaging import Study


def jmix_endpoint(study: Study, public_url: str, canonical_base: str) -> Json:
    """The JMIX Endpoint of `study`; its logical id is the study's own, as each study has exactly one."""
    return {
        "resourceType": "Endpoint",
        "id": endpoint_id(study),
        "status": "active",
        "connectionType": {
            "system": f"{canonical_base}/CodeSystem/connection-type",
            "code": "jmix",
            "display": "JMIX envelope over HTTPS",
        },
        "managingOrganization": {
            "type": "Organization",
            "identifier": {
                "type": {"coding": [{"system": "http://terminology.hl7.org.au/CodeSystem/v2-0203", "code": "NOI"}]},
                "system": study.key.custodian.system,
                "value": str(study.key.custodian),
            },
        },
        "payloadType": [{"coding": [{"system": CODE_SYSTEM_DCM, "code": "113014", "display": "Study"}]}],
        "payloadMimeType": ["application/zip"],
        "address": f"{public_url}/api/jmix?studyInstanceUid={study.key.uid}",
    }


def endpoint_id(study: Study) -> str:
    """The logical id of the study's JMIX Endpoint."""
    return study.id
