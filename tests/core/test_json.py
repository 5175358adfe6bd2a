"""The strict JSON of seg/1 3.1 and RFC 8785 bytes."""

from __future__ import annotations

import json
import random
from typing import Any

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


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(4 if depth > 4 else 6)
    if kind == 4:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {_text(chance): _value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return [None, chance.random() < 0.5, chance.randrange(2**53), _text(chance)][kind]


def _text(chance: random.Random) -> str:
    return "".join(chance.choice('ab"\\/\b\n\u007f\u00e9\u20ac\ufb33\U0001f602') for _ in range(chance.randrange(6)))


def _one_value(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), "a duplicate key came through"
    return dict(pairs)


def _whole(text: str) -> int:
    assert text.isdigit(), f"the number {text} came through"
    assert int(text) < 2**53
    return int(text)


def _never(text: str) -> float:
    raise AssertionError(f"the number {text} came through")


def _canonical_or_refused(text: bytes) -> bytes | None:
    try:
        return _core.canonical_json(text)
    except Refused as refused:
        answer = refused
    assert answer.code == "E_JSON"
    assert answer.at is not None
    assert answer.at <= len(text)
    return None


def test_what_is_accepted_has_one_meaning_and_one_canonical_form() -> None:
    """Random documents with random damage: what passes is read alike by another parser, which asserts the rules."""
    chance = random.Random(20261124)
    passed = refused = 0
    for _ in range(4000):
        value = _value(chance)
        text = json.dumps(value, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()
        assert json.loads(_core.canonical_json(text)) == value
        damaged = bytearray(text)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged) + 1)
            damaged[at : at + chance.randrange(2)] = chance.choice(
                [b"", b"0", b"-", b".", b"e", b'"', b"\\", b",", b"{", b"}", b"[", b"]", b"\xff", b"\\ud800", b"a"]
            )
        canonical = _canonical_or_refused(bytes(damaged))
        if canonical is None:
            refused += 1
            continue
        passed += 1
        read = json.loads(
            bytes(damaged), object_pairs_hook=_one_value, parse_int=_whole, parse_float=_never, parse_constant=_never
        )
        read_again = json.dumps(read, ensure_ascii=False).encode()  # a lone surrogate would not encode
        assert _core.canonical_json(canonical) == canonical == _core.canonical_json(read_again)
    assert passed > 200
    assert refused > 1000
