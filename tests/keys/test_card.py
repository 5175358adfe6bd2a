"""Cards: they say what they say only while their own signature holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mdg.errors import InputOutput, Misuse, Refused
from mdg.keys import Card, Ed25519Key, Trust, X25519Key
from mdg.keys.card import read_public

SIGNER = Ed25519Key.generate()
CARD = Card.issue(
    id="http://ns.electronichealth.net.au/id/hi/hpio/1.0/8003621566684455",
    name="Ångström — imaging",
    contact="it@example.org",
    x25519=X25519Key.generate().public,
    signer=SIGNER,
)


def test_a_card_survives_writing_and_reading() -> None:
    assert Card.parse(json.dumps(CARD.to_json()).encode()) == CARD
    assert Card.parse(json.dumps(CARD.to_json(), indent=1, sort_keys=True).encode()) == CARD
    assert CARD.kid == SIGNER.kid
    assert CARD.entity == {"id": CARD.id, "name": CARD.name, "contact": CARD.contact}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("E_SIG_INVALID", {"name": "Somebody else"}),
        ("E_SIG_INVALID", {"x25519": CARD.to_json()["ed25519"]}),
        ("E_SIG_INVALID", {"ed25519": CARD.to_json()["x25519"]}),
        ("E_SIG_INVALID", {"signature": "A" * 86 + "=="}),
        ("E_SCHEMA", {"signature": "A" * 43 + "="}),
        ("E_SCHEMA", {"x25519": CARD.to_json()["x25519"].rstrip("=")}),
        ("E_SCHEMA", {"x25519": CARD.to_json()["x25519"][:-2] + "9="}),
        ("E_SCHEMA", {"id": ""}),
        ("E_SCHEMA", {"id": 7}),
        ("E_SCHEMA", {"name": "a\nb"}),
        ("E_SCHEMA", {"name": "a" * 1025}),
        ("E_SCHEMA", {"extra": "x"}),
    ],
)
def test_a_changed_card_is_refused(code: str, change: dict[str, Any]) -> None:
    changed = {**CARD.to_json(), **change}
    if changed == CARD.to_json():
        pytest.skip("this key happens to end in the same character")
    with pytest.raises(Refused) as refused:
        Card.parse(json.dumps(changed).encode())
    assert refused.value.code == code


def test_a_card_with_a_member_less_or_twice_is_refused() -> None:
    text = json.dumps(CARD.to_json())
    for wrong in (text[:-1] + ',"name":"x"}', json.dumps({"id": CARD.id}), "[]", "", text + " x", " " * 20000):
        with pytest.raises(Refused):
            Card.parse(wrong.encode())


def test_a_card_verifies_only_its_own_signatures() -> None:
    jws = SIGNER.sign_jws(b'{"a":1}', "x+jws")
    assert CARD.verify_jws(jws, "x+jws") == b'{"a":1}'
    for wrong, typ in ((jws, "y+jws"), (Ed25519Key.generate().sign_jws(b"{}", "x+jws"), "x+jws")):
        with pytest.raises(Refused):
            CARD.verify_jws(wrong, typ)


def test_trust_is_read_from_cards_and_raw_keys(tmp_path: Path) -> None:
    card, raw = tmp_path / "a.card.json", tmp_path / "a.ed25519.pub"
    card.write_text(json.dumps(CARD.to_json()))
    raw.write_bytes(SIGNER.public)
    assert Trust.read([card, raw]).pairs == ((CARD.id, SIGNER.public), (None, SIGNER.public))
    assert Trust.of([CARD]).pairs == ((CARD.id, SIGNER.public),)


def test_a_file_that_is_neither_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.pub"
    path.write_bytes(bytes(31))
    with pytest.raises(Misuse, match=r"x\.pub"):
        read_public(path, "x25519")
    with pytest.raises(InputOutput, match="missing"):
        read_public(tmp_path / "missing", "x25519")
