"""CapabilityStatement: what this server answers, told from its routing table (spec/fhir 7.1).

The interactions are read off the (path, methods) pairs that are really routed, the parameters off the table that reads
them, so the statement cannot promise what is not there nor hide what is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from mdg.fhir import FHIR_JSON, FHIR_VERSION, Json
from mdg.fhir.search import SEARCHES, Table
from mdg.fhir.subscription import PROFILE, STATUS_OPERATION, TOPIC_EXTENSION, topic_canonical
from mdg.model.subscription import Topic

_TYPE_PATH = re.compile(r"/fhir/(?P<type>[A-Z][A-Za-z]+)(?P<rest>/_search|/\{id\}/_history/\{version\}|/\{id\}|)")
_INTERACTIONS = {
    ("", "GET"): "search-type",
    ("", "POST"): "create",
    ("/_search", "POST"): "search-type",
    ("/{id}", "GET"): "read",
    ("/{id}", "DELETE"): "delete",
    ("/{id}/_history/{version}", "GET"): "vread",
}
_PROFILES = {"Patient": "http://hl7.org.au/fhir/core/StructureDefinition/au-core-patient", "Subscription": PROFILE}


def interactions(routes: Iterable[tuple[str, frozenset[str]]]) -> Mapping[str, tuple[str, ...]]:
    """FHIR type -> interaction codes, from paths below `/fhir` and their methods."""
    found: dict[str, set[str]] = {}
    for path, methods in routes:
        match = _TYPE_PATH.fullmatch(path)
        if match is not None:
            codes = {_INTERACTIONS[match["rest"], one] for one in methods if (match["rest"], one) in _INTERACTIONS}
            found.setdefault(match["type"], set()).update(codes)
    return {type_: tuple(sorted(codes)) for type_, codes in found.items()}


def capability_statement(
    routes: Iterable[tuple[str, frozenset[str]]],
    *,
    fhir: str,
    canonical_base: str,
    version: str,
    published: datetime,
    issuers: Iterable[str],
) -> Json:
    """The statement of the server at `fhir`; `routes` are (path template, methods) of everything it serves."""
    names = ", ".join(issuers)
    return {
        "resourceType": "CapabilityStatement",
        "url": f"{fhir}/metadata",
        "version": version,
        "name": "MedicalDataGateway",
        "title": "Medical Data Gateway",
        "status": "active",
        "date": published.isoformat(timespec="seconds"),
        "kind": "instance",
        "instantiates": [f"{canonical_base}/CapabilityStatement/mdg-1"],
        "software": {"name": "mdg", "version": version},
        "implementation": {"description": "Imaging discovery", "url": fhir},
        "fhirVersion": FHIR_VERSION,
        "format": [FHIR_JSON],
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    "One patient per search. A parameter or modifier that is not listed is refused with 400, never "
                    "ignored. An identifier of a person may stand in the body of POST ImagingStudy/_search only."
                ),
                "security": {
                    "cors": False,
                    "service": [
                        {
                            "coding": [
                                {
                                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                                    "code": "SMART-on-FHIR",
                                }
                            ]
                        }
                    ],
                    "description": f"RFC 9068 access tokens bound by DPoP (RFC 9449), issued by: {names or 'nobody'}",
                },
                "resource": [
                    _resource(type_, codes, canonical_base) for type_, codes in sorted(interactions(routes).items())
                ],
            }
        ],
    }


def _resource(type_: str, codes: tuple[str, ...], canonical_base: str) -> Json:
    resource: Json = {
        "type": type_,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned" if type_ == "ImagingStudy" else "no-version",
        "readHistory": False,
    }
    if type_ in _PROFILES:
        resource["supportedProfile"] = [_PROFILES[type_]]
    if type_ == "Subscription":
        resource["extension"] = [
            {"url": TOPIC_EXTENSION, "valueCanonical": topic_canonical(topic, canonical_base)} for topic in Topic
        ]
        resource["operation"] = [{"name": "status", "definition": STATUS_OPERATION}]
    if "search-type" in codes:
        table = SEARCHES[type_]
        resource |= {"searchInclude": list(table.includes)} if table.includes else {}
        resource["searchParam"] = _parameters(table)
    return resource


def _parameters(table: Table) -> list[Json]:
    """R4 cannot state chains and modifiers, so they stand in the documentation of the parameter they belong to."""
    stated: dict[str, Json] = {}
    for name, parameter in table.parameters.items():
        base = re.split("[.:]", name)[0]
        if parameter.type == "special":
            continue
        entry = stated.setdefault(base, {"name": base, "type": parameter.type, "documentation": ""})
        entry["documentation"] = f"{entry['documentation']} {name}: {parameter.documentation}".strip()
    return list(stated.values())
