"""The one form of a token, and everything beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdg.access.jwt import SIZE_LIMIT, Malformed, UnverifiedToken, decode, encode, strict_object


@given(st.binary(min_size=1, max_size=200))
def test_base64url_has_one_spelling(data: bytes) -> None:
    assert decode(encode(data)) == data
    for other in (encode(data) + "=", " " + encode(data), encode(data) + "\n"):
        with pytest.raises(Malformed):
            decode(other)


@pytest.mark.parametrize("segment", ["", "A", "AB", "A+", "A/", "QQ==", "QR", "é"])
def test_other_spellings_of_base64url_are_refused(segment: str) -> None:
    with pytest.raises(Malformed):
        decode(segment)


@pytest.mark.parametrize(
    "text",
    [
        b'{"aud":"a","aud":"b"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"exp":NaN}',
        b'{"exp":1e400}',
        b'{"exp":1.5}',
        b'{"exp":123456789012345678}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b"[]",
        b'{"a":1} x',
        b"",
        b'{"a":' + b"[" * 20 + b"]" * 20 + b"}",
        b"[" * 4000,
    ],
)
def test_json_that_two_readers_could_read_differently_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        strict_object(text)


@pytest.mark.parametrize("parts", [1, 2, 4, 5])
def test_a_token_has_three_segments(parts: int) -> None:
    with pytest.raises(Malformed, match="segments"):
        UnverifiedToken.parse(".".join(["e30"] * parts))


def test_a_token_has_a_size() -> None:
    with pytest.raises(Malformed, match="too-long"):
        UnverifiedToken.parse("e30.e30." + "A" * SIZE_LIMIT)
