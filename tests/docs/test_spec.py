"""Numbers and lists of `docs/spec` are those of the code."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from mdg.access import dpop, issuer, jwt, requester, ticket
from mdg.access import request as signed_request
from mdg.access.rules import RULES
from mdg.access.rules.purpose_known import PURPOSES
from mdg.audit.event import DCM, SHAPES
from mdg.keys import directory
from mdg.model import retrieval
from mdg.outbound import client

SPEC = Path(__file__).resolve().parent.parent.parent / "docs" / "spec"


def section(page: str, number: str) -> str:
    """What stands under one heading, without the headings below it, on one line."""
    text = (SPEC / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(number)}\.? .+\n((?:(?!#).*\n?)*)", text, re.MULTILINE)
    assert found is not None, f"{page} {number}"
    return " ".join(found[1].split())


def seconds(length: float | timedelta) -> int:
    return int(length.total_seconds() if isinstance(length, timedelta) else length)


def minutes(length: float | timedelta) -> int:
    whole, rest = divmod(seconds(length), 60)
    assert rest == 0
    return whole


@pytest.mark.parametrize(
    ("page", "number", "said"),
    [
        ("access", "1.1", f"At most {jwt.SIZE_LIMIT // 1024} KiB"),
        ("access", "1.1", f"at most {jwt.DEPTH_LIMIT} levels deep"),
        ("access", "1.2", f"at most {issuer.KID_LIMIT} characters"),
        ("access", "1.2", f"at most {issuer.KEYS_MOST} keys"),
        ("access", "1.2", f"within {minutes(issuer.FRESH_LEAST)} and {minutes(issuer.FRESH_MOST)} minutes"),
        ("access", "1.2", f"or for {minutes(issuer.FRESH_DEFAULT)} minutes"),
        ("access", "1.3", f"at most {requester.LIFE_MOST} s apart; `exp` at most {requester.SKEW} s ago"),
        ("access", "1.3", f"at most {requester.AHEAD} s ahead"),
        ("access", "2", f"`iat` at most {seconds(dpop.AGE)} s from now"),
        ("access", "3.2", f"counts for {minutes(directory.FRESH)} minutes"),
        ("access", "3.2", f'"there is none" for {seconds(directory.ABSENT_FRESH)} s'),
        ("seg-1", "8.4", f"at most {seconds(retrieval.LIFE)} s after `iat`"),
        ("seg-1", "8.4", f"may differ by {seconds(signed_request.SKEW)} s"),
        ("seg-1", "10.1", f"expiry ({minutes(ticket.LIFE)} minutes)"),
        ("hostile-input", "1", f"{client.BODY_LIMIT >> 20} MiB, {seconds(client.TOTAL_TIME)} s, no redirect"),
    ],
)
def test_a_number_of_a_page_is_that_of_the_code(page: str, number: str, said: str) -> None:
    assert said in section(page, number)


def test_the_purposes_of_the_page_are_those_that_are_served() -> None:
    served, _, _ = section("access", "5").partition(" of v3-ActReason")
    assert set(re.findall(r"[A-Z]{5,}", served)) == PURPOSES


def test_the_page_gives_the_rules_in_their_order() -> None:
    words = {
        "scope_covers": "scope",
        "requester_verified": "requester",
        "purpose_known": "purpose",
        "patient_identified": "patient",
        "identity_verified": "identity",
        "not_quarantined": "quarantine",
        "consent_valid": "consent",
    }
    assert ", ".join(words[rule.name] for rule in RULES) in section("access", "6.1")


def test_each_kind_of_event_is_on_the_page_with_its_codes_and_profile() -> None:
    page = section("audit", "2")
    for kind, shape in SHAPES.items():
        codes = [code for system, code, _ in (shape.type, *shape.subtypes) if system == DCM]
        assert [code for code in codes if code not in page] == [], kind
        if shape.profile is not None:
            assert shape.profile.removeprefix("IHE.BasicAudit.") in page, kind


def test_each_page_is_listed() -> None:
    listed = re.findall(r"^\| \[([a-z0-9.-]+\.md)\]", (SPEC / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in SPEC.glob("*.md") if page.name != "README.md")
