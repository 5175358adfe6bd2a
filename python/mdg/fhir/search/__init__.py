"""Searches: an engine (`engine`), readers of values (`values`), and one table of parameters for each resource type.

A table is the only place that knows the parameters of its type: the engine parses by it, the CapabilityStatement and
OpenAPI are made from it, and a test compares it with `docs/reference/endpoints.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdg.fhir.search.engine import Pairs, Parameter, Search, Table, check_format, parse, refuse_person_in_url
from mdg.fhir.search.imaging_study import IMAGING_STUDY
from mdg.fhir.search.patient import PATIENT
from mdg.fhir.search.person import names_person, person_in_url
from mdg.fhir.search.values import LOGICAL_ID, Terms

SEARCHES: Mapping[str, Table] = {table.type: table for table in (IMAGING_STUDY, PATIENT)}
"""The tables, by resource type."""

__all__ = [
    "IMAGING_STUDY",
    "LOGICAL_ID",
    "PATIENT",
    "SEARCHES",
    "Pairs",
    "Parameter",
    "Search",
    "Table",
    "Terms",
    "check_format",
    "names_person",
    "parse",
    "person_in_url",
    "refuse_person_in_url",
]
