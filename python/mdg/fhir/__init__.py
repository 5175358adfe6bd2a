"""FHIR R4 (4.0.1) resources as JSON: one file per resource, pure, no I/O; rules in docs/spec/fhir.md.

A builder takes model values and gives a `dict` ready for JSON; `search` turns parameters into model values. Who may see
a resource is decided elsewhere: what reaches a builder is shown.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A FHIR resource or element; its values are what JSON can hold."""

FHIR_JSON = "application/fhir+json"
FHIR_VERSION = "4.0.1"
CODE_SYSTEM_DCM = "http://dicom.nema.org/resources/ontology/DCM"
CODE_SYSTEM_IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
