"""Identifiers of a person in a URL, which logs and proxies keep: they are refused with the request that works."""

from __future__ import annotations

import re

from mdg.errors import NotSupported

_PERSON = re.compile(r"8[\s-]*0[\s-]*0[\s-]*3[\s-]*6[\s-]*0([\s-]*\d){10}", re.ASCII)


def names_person(text: str) -> bool:
    """Whether something that looks like an IHI stands in `text`, with or without blanks and hyphens."""
    return _PERSON.search(text) is not None


def person_in_url(
    fhir: str, type_: str = "ImagingStudy", example: str = "patient.identifier=<system>|<value>"
) -> NotSupported:
    """The refusal of a URL that identifies a person. It names the request that works: the search of `type_` with the
    body `example`."""
    return NotSupported(
        f"an identifier of a person may not stand in a URL; send POST {fhir}/{type_}/_search with "
        f"Content-Type: application/x-www-form-urlencoded and body {example}",
        reason="identifier-in-url",
    )
