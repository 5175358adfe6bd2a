"""A time that is known to a year, a month, a day or closer, as a half-open range (FHIR R4 search 3.1.1.5.8).

DICOM and FHIR write times with and without an offset. A time without one is read in a zone that the caller names:
`2026-05-01` is a day of that place.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)(T(?P<time>\d\d:\d\d(:\d\d(\.\d{1,6})?)?)(?P<offset>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


class Period(NamedTuple):
    """[start, end), both with an offset."""

    start: datetime
    end: datetime

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Period:
        """The time that a FHIR date or dateTime covers. Raises `ValueError` or `OverflowError` for other text."""
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
    """The length of time that the last written digit covers."""
    if "." in time:
        return timedelta(milliseconds=1)
    return timedelta(seconds=1) if time.count(":") == 2 else timedelta(minutes=1)


def _local_midnight(moment: datetime, zone: tzinfo) -> datetime:
    """A day is not always 24 hours: its end is the next local midnight."""
    return datetime(moment.year, moment.month, moment.day, tzinfo=zone)
