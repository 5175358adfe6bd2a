"""The strict JSON of seg/1 3.1 and RFC 8785 bytes."""

from __future__ import annotations

import json

import pytest

from mdg import _core
from mdg.errors import Refused


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (b"\xef\xbb\xbf{}", 0),
        (b'{"a":1,"a":1}', None),
        (b'{"a":1,"\\u0061":1}', None),
        (b'"\\ud800"', None),
        (b"[-1]", None),
        (b"[1.0]", None),
        (b"[9007199254740992]", None),
        (b"{} {}", 3),
        (b"[" * 33 + b"]" * 33, None),
        (b'"\xff"', None),
        (b"", None),
    ],
)
def test_what_two_readers_might_read_differently_is_refused(text: bytes, at: int | None) -> None:
    for check in (_core.check_json, _core.canonical_json):
        with pytest.raises(Refused) as refused:
            check(text)
        assert refused.value.code == "E_JSON"
        assert refused.value.at is not None
        assert at is None or refused.value.at == at


def test_the_message_never_repeats_the_document() -> None:
    with pytest.raises(Refused) as refused:
        _core.check_json(b'{"CITIZEN^JANE":1,"CITIZEN^JANE":2}')
    assert "CITIZEN" not in str(refused.value)


def test_canonical_bytes_are_those_of_rfc_8785() -> None:
    text = b' {"\\u20ac":"\\u00e9\\/\\n","b":[9007199254740991, true, null ],"\\ud83d\\ude02":1,"\\ufb33":{}} '
    expected = '{"b":[9007199254740991,true,null],"\u20ac":"\u00e9/\\n","\U0001f602":1,"\ufb33":{}}'
    assert _core.canonical_json(text).decode() == expected
    assert json.loads(_core.canonical_json(text)) == json.loads(text)


def test_canonical_bytes_are_a_fixed_point() -> None:
    once = _core.canonical_json(b'{"z":{"y":[1,2],"x":"\\u001f"},"a":[]}')
    assert _core.canonical_json(once) == once
