"""A record of a registry: the five fields of the framework (IEF RG4 to RG8) and the registry's own id and version.

What a registry answers is a stranger's text: it is read strictly, with a bound on everything, and a fault in it never
repeats what it said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mdg.model.identity import SERVICE_ID, Ihi

TYPE = "record"
"""The type of a record that names a service which holds something; the other, `registry`, names one to ask as well."""
RECORD_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
VERSIONS = 1 << 53  # the largest number that every JSON reader keeps
LISTED = 1000  # records of one person that are read


class Status(StrEnum):
    """Whether a service holds something now, held something, or has it in an archive."""

    ACTIVE = "active"
    REMOVED = "removed"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the registry gave it; `last_updated` (UTC) is on the registry's clock."""

    record_id: str
    version: int
    ihi: Ihi = field(repr=False)
    service_id: str
    status: Status
    type: str
    last_updated: datetime


def parse(value: object) -> Record:
    """The record in a JSON object; unknown members are ignored. `ValueError` names the member that is wrong."""
    if not isinstance(value, dict):
        raise ValueError("a record is an object")
    version = value.get("version")
    if type(version) is not int or not 0 < version < VERSIONS:
        raise ValueError("version")
    return Record(
        record_id=_text(value, "record_id", RECORD_ID),
        version=version,
        ihi=_ihi(value),
        service_id=_text(value, "service_id", SERVICE_ID),
        status=Status(_text(value, "status", re.compile("active|removed|archived"))),
        type=_text(value, "type", re.compile("record|registry")),
        last_updated=_time(value),
    )


def parse_all(value: Mapping[str, object]) -> list[Record]:
    """The records of a search. `ValueError` as above, or when there are more than 1000."""
    records = value.get("records")
    if not isinstance(records, list) or len(records) > LISTED:
        raise ValueError("records")
    return [parse(one) for one in records]


def _text(value: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not form.fullmatch(text):
        raise ValueError(name)
    return text


def _ihi(value: Mapping[str, Any]) -> Ihi:
    try:
        return Ihi.parse(_text(value, "ihi", re.compile("[0-9]{16}")))
    except ValueError:
        raise ValueError("ihi") from None


def _time(value: Mapping[str, Any]) -> datetime:
    text = _text(value, "last_updated", re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}\.[0-9]{3}Z"))
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ValueError("last_updated") from None
