"""Byte ranges as seg/1 10.5 answers them."""

from __future__ import annotations

import pytest

from mdg.errors import RangeInvalid
from mdg.exchange.ranges import Span, select

ETAG = '"abc"'
N = 1000
WHOLE = Span(0, N, partial=False)


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        (None, WHOLE),
        ("bytes=0-0", Span(0, 1, True)),
        ("bytes=999-", Span(999, 1000, True)),
        ("bytes=0-999", Span(0, 1000, True)),
        ("bytes=0-1000", Span(0, 1000, True)),
        ("bytes=-1", Span(999, 1000, True)),
        ("bytes=-5000", Span(0, 1000, True)),
        ("bytes= 1-2 , 3-4", Span(1, 5, True)),
        ("bytes=3-4,1-2", Span(1, 5, True)),
        ("bytes=1-5,3-4", Span(1, 6, True)),
        ("bytes=1-2,4-5", WHOLE),
        ("bytes=1-2,5000-", Span(1, 3, True)),
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=2-1", WHOLE),
        ("bytes=1", WHOLE),
        ("bytes=٣-4", WHOLE),
        ("bytes=0x1-2", WHOLE),
        ("Bytes=0-1", WHOLE),
        ("bytes=1-2,", WHOLE),
        ("bytes=" + "9" * 40 + "-", WHOLE),
    ],
)
def test_each_range_has_one_answer(range_: str | None, expected: Span) -> None:
    assert select(range_, None, ETAG, N) == expected


@pytest.mark.parametrize("range_", ["bytes=1000-", "bytes=-0", "bytes=5000-6000,7000-", "bytes=0-0,2-2,4-4"])
def test_what_cannot_be_satisfied_names_the_length(range_: str) -> None:
    with pytest.raises(RangeInvalid) as caught:
        select(range_, None, ETAG, N)
    assert caught.value.headers == {"Content-Range": "bytes */1000"}


@pytest.mark.parametrize(("if_range", "partial"), [(ETAG, True), ('W/"abc"', False), ('"ABC"', False), ("", False)])
def test_if_range_compares_strongly(if_range: str, partial: bool) -> None:
    assert select("bytes=0-1", if_range, ETAG, N).partial is partial
