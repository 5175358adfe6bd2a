"""What `If-Match` and `If-None-Match` ask of a release, by RFC 9110 13.1.1, 13.1.2 and 13.2.2."""

from __future__ import annotations

import pytest

from mdg.errors import PreconditionFailed
from mdg.exchange.preconditions import not_modified

TAG = '"abc"'


@pytest.mark.parametrize("if_match", [None, "*", TAG, f'"x", {TAG}', f'W/"abc" ,\t{TAG}', f', {TAG},,"a,b"'])
def test_if_match_lets_the_representation_pass_that_it_names(if_match: str | None) -> None:
    assert not_modified(if_match, None, TAG) is False


@pytest.mark.parametrize("if_match", ['"x"', 'W/"abc"', "abc", "", '"abc', f"{TAG} {TAG}", f"*, {TAG}", f'"x{TAG}"'])
def test_if_match_fails_for_another_a_weak_or_a_malformed_tag(if_match: str) -> None:
    with pytest.raises(PreconditionFailed):
        not_modified(if_match, None, TAG)


@pytest.mark.parametrize(
    ("if_none_match", "expected"),
    [
        (TAG, True),
        ('W/"abc"', True),  # a weak comparison (RFC 9110 13.1.2)
        (f'"x", {TAG}', True),
        ("*", True),
        ('"x"', False),
        ('"ABC"', False),
        ("abc", False),
        (f"{TAG} x", False),
    ],
)
def test_if_none_match_asks_only_for_what_the_caller_lacks(if_none_match: str, *, expected: bool) -> None:
    assert not_modified(None, if_none_match, TAG) is expected


def test_if_match_is_judged_before_if_none_match() -> None:
    with pytest.raises(PreconditionFailed):
        not_modified('"x"', TAG, TAG)
    assert not_modified(TAG, TAG, TAG) is True
