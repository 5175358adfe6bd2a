"""A query is data, and means the same wherever it is evaluated."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import Series, Study, StudyKey
from mdg.model.period import Period
from mdg.model.query import (
    Accession,
    Compared,
    Comparison,
    During,
    Field,
    Filter,
    Moment,
    OneOf,
    Ordered,
    Position,
    Query,
    Sort,
    matches,
    select,
)

SYDNEY = ZoneInfo("Australia/Sydney")
ADA = LocalId("DEMO-0001", "DEMO")
STUDY = Study(
    key=StudyKey(HpiO("8003621566684455"), "1.2.36.1.99.1", 3),
    id="study-a",
    patient=ADA,
    patient_id="patient-a",
    started="2026-05-01T09:12:33+10:00",
    description=None,
    accession="A26-00417",
    accession_issuer="urn:example:ris",
    modalities=("CT", "OT"),
    series=(
        Series("1.2.36.1.99.1.1", "CT", 2, "Axial", " chest ", None, 119),
        Series("1.2.36.1.99.1.2", "OT", None, None, None, None, 1),
    ),
    instances=120,
    bytes=63_000_000,
    updated=datetime(2026, 5, 2, 1, 10, tzinfo=UTC),
)
BARE = replace(STUDY, id="study-b", started=None, accession=None, series=())


def one_of(field: Field, *values: str) -> OneOf:
    return OneOf(field, frozenset(values))


def compared(comparison: str, text: str, moment: Moment = Moment.STARTED) -> During:
    return During(moment, (Compared(Comparison(comparison), Period.parse(text, SYDNEY)),), SYDNEY)


def accession(number: str | None, *issuers: str | None) -> Ordered:
    return Ordered((Accession(number, frozenset(issuers) if issuers else None),))


def of_ada(*filters: Filter) -> Query:
    return Query(patients=(ADA,), filters=filters)


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        (one_of(Field.LOGICAL_ID, "study-a", "x"), one_of(Field.LOGICAL_ID, "study")),
        (one_of(Field.PATIENT_ID, "patient-a"), one_of(Field.PATIENT_ID, "DEMO-0001")),
        (one_of(Field.STUDY_UID, "1.2.36.1.99.1"), one_of(Field.STUDY_UID, "1.2.36.1.99.1.1")),
        (one_of(Field.SERIES_UID, "1.2.36.1.99.1.2"), one_of(Field.SERIES_UID)),
        (one_of(Field.MODALITY, "MR", "OT"), one_of(Field.MODALITY, "MR")),
        (OneOf(Field.MODALITY, None), one_of(Field.MODALITY)),
        (one_of(Field.BODY_PART, "CHEST"), one_of(Field.BODY_PART, "HEAD")),
        (one_of(Field.STATUS, "available"), one_of(Field.STATUS, "cancelled")),
        (accession("A26-00417"), accession("A26")),
        (accession("A26-00417", None, "urn:example:ris"), accession("A26-00417", None)),
        (accession(None, "urn:example:ris"), accession(None, "urn:example:other")),
        (compared("eq", "2026-05"), compared("eq", "2026-06")),
        (compared("eq", "2026-05-02", Moment.UPDATED), compared("gt", "2026-05-02", Moment.UPDATED)),
    ],
)
def test_each_filter_selects_and_leaves_out(yes: Filter, no: Filter) -> None:
    assert matches(of_ada(yes), STUDY)
    assert not matches(of_ada(no), STUDY)
    assert not matches(of_ada(yes, no), STUDY)


@pytest.mark.parametrize(
    "unknown",
    [compared("ne", "2020"), accession(None), OneOf(Field.SERIES_UID, None), OneOf(Field.BODY_PART, None)],
)
def test_what_a_study_does_not_say_satisfies_no_filter(unknown: Filter) -> None:
    assert matches(of_ada(), BARE)
    assert not matches(of_ada(unknown), BARE)
    assert not matches(of_ada(compared("ne", "2020")), replace(BARE, started="not a date"))


@pytest.mark.parametrize(
    ("comparison", "before", "same", "after", "overlaps"),
    [
        ("eq", False, True, False, False),
        ("ne", True, False, True, True),
        ("gt", False, False, True, True),
        ("lt", True, False, False, True),
        ("ge", False, True, True, True),
        ("le", True, True, False, True),
        ("sa", False, False, True, False),
        ("eb", True, False, False, False),
    ],
)
def test_a_comparison_is_of_whole_periods(
    comparison: str, before: bool, same: bool, after: bool, overlaps: bool
) -> None:
    """The four ways in which a day can lie to another, and a year that holds the day (FHIR R4 search 3.1.1.5.8)."""
    wanted = compared(comparison, "2026-05-01")
    for started, expected in (
        ("2026-04-30", before),
        ("2026-05-01T23:59:59+10:00", same),
        ("2026-05-02", after),
        ("2026", overlaps),
    ):
        assert wanted.holds(replace(STUDY, started=started)) is expected, started


def test_a_query_that_names_nobody_finds_nothing() -> None:
    assert not matches(Query(), STUDY)
    assert not matches(Query(person=Ihi("8003608833357361")), STUDY)
    assert not matches(Query(patients=(LocalId("DEMO-0001", "OTHER"),)), STUDY)


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("by", list(Moment))
@pytest.mark.parametrize("count", [1, 2, 3, 10, 11, 12])
def test_pages_hold_each_study_once_and_in_order(by: Moment, descending: bool, count: int) -> None:
    studies = [
        replace(
            STUDY,
            id=f"s{n:02d}",
            started=f"2026-05-{1 + n % 3:02d}" if n else None,
            updated=datetime(2026, 5, 1 + n % 4, tzinfo=UTC),
        )
        for n in range(11)
    ]
    query = replace(of_ada(), sort=Sort(by, descending), count=count)
    page = select(query, studies)
    seen = [*page.studies]
    while page.cursor is not None:
        page = select(replace(query, after=page.cursor), studies)
        assert page.total == 11
        seen += page.studies
    assert sorted(study.id for study in seen) == [study.id for study in studies]
    times = [(study.started or "") if by is Moment.STARTED else study.updated.isoformat() for study in seen]
    assert times == sorted(times, reverse=descending)
    assert all(a.id < b.id for (a, b), (s, t) in zip(pairwise(seen), pairwise(times), strict=True) if s == t)


def test_a_page_continues_where_its_last_study_was_even_if_that_is_gone() -> None:
    studies = [replace(STUDY, id=id_) for id_ in ("a", "b", "c", "d")]
    first = select(replace(of_ada(), count=2), studies)
    assert first.cursor == Position("b", "2026-05-01T09:12:33+10:00")
    rest = select(replace(of_ada(), after=first.cursor), [one for one in studies if one.id != "b"])
    assert [one.id for one in rest.studies] == ["c", "d"]
    assert (rest.total, rest.cursor) == (3, None)


def test_a_count_of_zero_asks_for_the_number_only() -> None:
    page = select(replace(of_ada(), count=0), [STUDY, BARE])
    assert (page.studies, page.total, page.cursor) == ((), 2, None)


def test_a_query_is_data_that_can_be_compared_kept_and_sent() -> None:
    query = of_ada(one_of(Field.MODALITY, "CT"), compared("ge", "2026-05-01"), accession("A26-00417", None))
    assert pickle.loads(pickle.dumps(query)) == query  # noqa: S301 -- its own bytes; a function inside could not be sent
    assert len({query, of_ada(*query.filters)}) == 1
