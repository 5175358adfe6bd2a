"""Times as FHIR writes them, and the dates of searches (FHIR R4 search 3.1.1.5.8)."""

from __future__ import annotations

from datetime import datetime, tzinfo

from mdg.errors import Invalid, NotSupported
from mdg.model.period import Period
from mdg.model.query import Compared, Comparison


def instant(time: datetime) -> str:
    """A UTC time as FHIR `instant`, which requires an offset, in whole milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compared(value: str, zone: tzinfo) -> Compared:
    """One value of a date parameter: a prefix, `eq` if there is none, and a date, which is of `zone` if it has no
    offset. Raises `NotSupported` for the prefix `ap`, `Invalid` for anything else that is not a date."""
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    if prefix == "ap":
        raise NotSupported("the prefix ap is not supported")
    if prefix not in set(Comparison):
        raise Invalid("a date begins with a year or one of " + " ".join(Comparison))
    try:
        return Compared(Comparison(prefix), Period.parse(text, zone))
    except (ValueError, OverflowError):
        raise Invalid("a date is YYYY, YYYY-MM, YYYY-MM-DD or has a time") from None
