"""Tickets: for one recipe, one token, one key, until one moment, in one spelling."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.access.test_decide import NOW, SUBJECT

from mdg.access import Tickets
from mdg.access.ticket import from_query
from mdg.errors import Forbidden
from mdg.keys import Ed25519Key

RECIPE = "01JV3W8ZC0D2E4F6G8H0J2K4M6"
TICKETS = Tickets(Ed25519Key.generate())
TICKET = TICKETS.issue(RECIPE, SUBJECT, NOW)


def refused(ticket: str, recipe: str = RECIPE, method: str = "GET", **changes: str) -> str:
    with pytest.raises(Forbidden) as error:
        TICKETS.check(ticket, recipe, replace(SUBJECT, **changes), method, NOW)  # type: ignore[arg-type]  # text fields only
    return error.value.reason


def test_a_ticket_serves_get_and_head_until_it_expires() -> None:
    for method in ("GET", "HEAD"):
        TICKETS.check(TICKET, RECIPE, SUBJECT, method, NOW)
        TICKETS.check(TICKET, RECIPE, SUBJECT, method, NOW + timedelta(minutes=15, seconds=-1))
    with pytest.raises(Forbidden, match="not permitted") as error:
        TICKETS.check(TICKET, RECIPE, SUBJECT, "GET", NOW + timedelta(minutes=15))
    assert error.value.reason == "ticket-expired"
    assert TICKETS.expires(TICKET) == int((NOW + timedelta(minutes=15)).timestamp())


def test_a_ticket_is_bound_to_recipe_token_key_and_method() -> None:
    assert refused(TICKET, recipe="01JV3W8ZC0D2E4F6G8H0J2K4M7") == "ticket-code"
    assert refused(TICKET, token_id="token-2") == "ticket-code"
    assert refused(TICKET, jkt="another") == "ticket-code"
    assert refused(TICKET, method="POST") == "ticket-form"


def test_a_ticket_of_another_gateway_or_with_another_expiry_is_refused() -> None:
    assert refused(Tickets(Ed25519Key.generate()).issue(RECIPE, SUBJECT, NOW)) == "ticket-code"
    expiry, _, code = TICKET.partition(".")
    assert refused(f"{int(expiry) + 1}.{code}") == "ticket-code"
    assert refused(f"9999999999.{code}") == "ticket-code"


@given(st.integers(0, len(TICKET) - 1), st.sampled_from("0123456789ABCyz_-."))
def test_any_other_character_anywhere_is_refused(at: int, other: str) -> None:
    changed = TICKET[:at] + other + TICKET[at + 1 :]
    if changed != TICKET:
        assert refused(changed) in ("ticket-form", "ticket-code")


@pytest.mark.parametrize(
    "ticket",
    ["", ".", TICKET + "=", TICKET + "\n", " " + TICKET, TICKET.upper(), TICKET[:-1]],
    ids=["empty", "dot", "padded", "line end", "space", "upper case", "short"],
)
def test_other_forms_are_refused(ticket: str) -> None:
    assert refused(ticket) in ("ticket-form", "ticket-code")


def test_the_query_has_one_form() -> None:
    assert from_query(f"t={TICKET}".encode()) == TICKET
    for query in (
        "",
        "t=",
        f"t={TICKET}&x=1",
        f"x=1&t={TICKET}",
        f"t={TICKET}&t={TICKET}",
        f"T={TICKET}",
        f"t=%30{TICKET}",
    ):
        with pytest.raises(Forbidden):
            from_query(query.encode())
