"""A cursor works for its holder, its kind of search and its time, and says nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mdg.errors import NotFound
from mdg.model.identity import HpiO, Ihi
from mdg.model.query import Position
from mdg.model.request import Requester
from mdg.web.cursor import Cursors

NOW = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)
HOLDER = Requester(
    issuer="https://as.example",
    subject="subject",
    client_id="client",
    organisation=HpiO("8003626566707032"),
    practitioner=None,
    purposes=("TREAT",),
    patient=Ihi("8003608833357361"),
    scopes=frozenset(),
    jkt="key",
    token_id="token",
    expires=NOW,
)
ASKED = [("patient", "Patient/a"), ("modality", "CT")]
LAST = Position("st-1", "2026-05-01")


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize("kind", ["ImagingStudy", "Patient", "studies of DICOMweb"])
def test_each_kind_of_search_has_cursors_and_no_other_kind_takes_them(kind: str) -> None:
    cursors = Cursors(Clock())
    cursor = cursors.seal(HOLDER, kind, ASKED, LAST)
    assert cursors.open(cursor, HOLDER, kind) == (ASKED, LAST)
    with pytest.raises(NotFound):
        cursors.open(cursor, HOLDER, "DocumentReference")


@pytest.mark.parametrize("changed", [{"client_id": "x"}, {"subject": "x"}, {"issuer": "x"}, {"patient": None}])
def test_nobody_else_can_use_a_cursor(changed: dict[str, Any]) -> None:
    cursors = Cursors(Clock())
    cursor = cursors.seal(HOLDER, "ImagingStudy", ASKED, LAST)
    assert cursors.open(cursor, replace(HOLDER, token_id="the next token"), "ImagingStudy")
    with pytest.raises(NotFound):
        cursors.open(cursor, replace(HOLDER, **changed), "ImagingStudy")


def test_a_changed_cursor_is_none() -> None:
    cursors = Cursors(Clock())
    cursor = cursors.seal(HOLDER, "ImagingStudy", ASKED, LAST)
    for text in (cursor[:-2], cursor + "AA", "", "A", "%", cursor.swapcase()):
        with pytest.raises(NotFound):
            cursors.open(text, HOLDER, "ImagingStudy")
    with pytest.raises(NotFound):
        Cursors(Clock()).open(cursor, HOLDER, "ImagingStudy")  # another process


def test_a_cursor_ends_after_fifteen_minutes() -> None:
    clock = Clock()
    cursors = Cursors(clock)
    cursor = cursors.seal(HOLDER, "ImagingStudy", ASKED, LAST)
    clock.now += timedelta(minutes=14)
    assert cursors.open(cursor, HOLDER, "ImagingStudy")
    clock.now += timedelta(minutes=2)
    with pytest.raises(NotFound):
        cursors.open(cursor, HOLDER, "ImagingStudy")
