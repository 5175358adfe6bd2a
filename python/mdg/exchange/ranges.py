"""Byte ranges of a release: RFC 9110 14 under the rules of seg/1 10.5, where each odd request has one exact answer."""

from __future__ import annotations

import re
from typing import NamedTuple

from mdg.errors import RangeInvalid

_RANGES = re.compile(r"bytes=[ \t]*(?P<specs>[\d\-, \t]+)", re.ASCII)
_SPEC = re.compile(r"(\d{0,30})-(\d{0,30})", re.ASCII)


class Span(NamedTuple):
    """[start, end) of `length` bytes; `partial` when a range was asked for and is given."""

    start: int
    end: int
    partial: bool


def select(range_: str | None, if_range: str | None, etag: str, length: int) -> Span:
    """What to send of a release of `length` bytes.

    One range: that part. Two: one part when they touch or overlap, else the whole. More than two, or none that can be
    satisfied: `RangeInvalid`. A malformed one is ignored. `If-Range` compares strongly; another tag gives the whole.
    """
    whole = Span(0, length, partial=False)
    if range_ is None or (if_range is not None and if_range.strip() != etag):
        return whole
    specs = _parse(range_)
    if specs is None:
        return whole
    if len(specs) > 2:
        raise RangeInvalid("at most two ranges are read", headers={"Content-Range": f"bytes */{length}"})
    spans = sorted(span for first, last in specs if (span := _resolve(first, last, length)) is not None)
    if not spans:
        raise RangeInvalid("no such bytes", headers={"Content-Range": f"bytes */{length}"})
    if len(spans) == 2 and spans[0][1] < spans[1][0]:
        return whole
    return Span(spans[0][0], max(end for _, end in spans), partial=True)


def _parse(text: str) -> list[tuple[int | None, int | None]] | None:
    """(first, last) of each range, last included; None when the field is not of the form of RFC 9110 14.1.2."""
    found = _RANGES.fullmatch(text.strip())
    if found is None:
        return None
    specs: list[tuple[int | None, int | None]] = []
    for part in found["specs"].split(","):
        spec = _SPEC.fullmatch(part.strip())
        if spec is None or spec[0] == "-":
            return None
        first, last = (int(digits) if digits else None for digits in spec.groups())
        if first is not None and last is not None and first > last:
            return None
        specs.append((first, last))
    return specs


def _resolve(first: int | None, last: int | None, length: int) -> tuple[int, int] | None:
    """[start, end) inside the release, None when nothing of it is."""
    if first is None:
        suffix = min(last or 0, length)
        return (length - suffix, length) if suffix else None
    if first >= length:
        return None
    return first, length if last is None else min(last + 1, length)
