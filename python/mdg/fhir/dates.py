"""Times as FHIR writes them, and dates in searches: a stored value and a parameter are both half-open ranges of time
(FHIR search 3.1.1.5.8).

A date without offset is read in the service's zone, which is a required setting: `2026-05-01` is a day of that place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple, Self

from mdg.errors import Invalid, NotSupported

_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)(T(?P<time>\d\d:\d\d(:\d\d(\.\d{1,6})?)?)(?P<offset>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
_PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")


def instant(time: datetime) -> str:
    """A UTC time as FHIR `instant`, which requires an offset, in whole milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Period(NamedTuple):
    """[start, end), both with an offset."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Period:
        """The time that a FHIR date or dateTime covers; `ValueError` when it is none."""
        found = _DATE.fullmatch(text)
        if found is None:
            raise ValueError("not a date")
        year, month, day = int(found["year"]), int(found["month"] or 1), int(found["day"] or 1)
        if found["time"]:
            start = datetime.fromisoformat(f"{text[:10]}T{found['time']}{found['offset'] or ''}".replace("Z", "+00:00"))
            start = start if start.tzinfo else start.replace(tzinfo=zone)
            return cls(start, start + _precision(found["time"]))
        start = datetime(year, month, day, tzinfo=zone)
        if found["day"]:
            return cls(start, _local_midnight(start + timedelta(days=1), zone))
        if found["month"]:
            return cls(start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone))
        return cls(start, datetime(year + 1, 1, 1, tzinfo=zone))


def _precision(time: str) -> timedelta:
    """What the last written digit covers."""
    if "." in time:
        return timedelta(milliseconds=1)
    return timedelta(seconds=1) if time.count(":") == 2 else timedelta(minutes=1)


def _local_midnight(moment: datetime, zone: tzinfo) -> datetime:
    """A day is not always 24 hours: the end is the next local midnight."""
    return datetime(moment.year, moment.month, moment.day, tzinfo=zone)


@dataclass(frozen=True, slots=True)
class DateFilter:
    """One value of a date parameter."""

    prefix: str
    wanted: Period

    @classmethod
    def parse(cls, value: str, zone: tzinfo) -> Self:
        """`NotSupported` for `ap`, `Invalid` for what is no date."""
        prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
        if prefix == "ap":
            raise NotSupported("the prefix ap is not supported")
        if prefix not in _PREFIXES:
            raise Invalid("a date begins with a year or one of " + " ".join(_PREFIXES))
        try:
            return cls(prefix, Period.parse(text, zone))
        except (ValueError, OverflowError):
            raise Invalid("a date is YYYY, YYYY-MM, YYYY-MM-DD or has a time") from None

    def holds(self, stored: str | None, zone: tzinfo) -> bool:
        """Whether a stored date satisfies it; an unknown date satisfies nothing."""
        if stored is None:
            return False
        try:
            has = Period.parse(stored, zone)
        except (ValueError, OverflowError):
            return False
        inside = self.wanted.start <= has.start and has.end <= self.wanted.end
        verdicts = {
            "eq": inside,
            "ne": not inside,
            "gt": has.end > self.wanted.end,
            "lt": has.start < self.wanted.start,
            "ge": inside or has.end > self.wanted.end,
            "le": inside or has.start < self.wanted.start,
            "sa": has.start >= self.wanted.end,
            "eb": has.end <= self.wanted.start,
        }
        return verdicts[self.prefix]
