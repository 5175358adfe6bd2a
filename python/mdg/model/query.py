"""A search for studies, as data that any source can read: a folder's index, a PACS, another gateway.

A source may use the filters in its own language (SQL, QIDO-RS, C-FIND) and may give more than matches. `matches` and
`select` are the meaning of a query; the gateway applies them to the answers of all sources together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import TypeAlias

from mdg.model.identity import Ihi, LocalId
from mdg.model.imaging import Study
from mdg.model.period import Period

AVAILABLE = "available"
"""The status of every study that a source finds (ImagingStudy.status): instances that are not here are not indexed."""


class Field(StrEnum):
    """What a study can be selected by, where a value is equal or not."""

    LOGICAL_ID = "logical-id"
    PATIENT_ID = "patient-id"
    """The logical id of the Patient, not a PatientID."""
    STUDY_UID = "study-uid"
    SERIES_UID = "series-uid"
    MODALITY = "modality"
    BODY_PART = "body-part"
    """A defined term of Body Part Examined (PS3.16 Annex L), in capitals."""
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The study, or one of its series, has one of these `values` in `field`; None stands for any value."""

    field: Field
    values: frozenset[str] | None

    def holds(self, study: Study) -> bool:
        """Whether `study` satisfies the filter."""
        present = values_of(study, self.field)
        return bool(present) if self.values is None else not self.values.isdisjoint(present)


class Comparison(StrEnum):
    """How the time of a study is compared with a wanted period: the prefixes of FHIR R4 search 3.1.1.5.8."""

    EQUAL = "eq"
    NOT_EQUAL = "ne"
    GREATER = "gt"
    LESS = "lt"
    GREATER_OR_EQUAL = "ge"
    LESS_OR_EQUAL = "le"
    STARTS_AFTER = "sa"
    ENDS_BEFORE = "eb"


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison with one wanted period."""

    comparison: Comparison
    wanted: Period

    def holds(self, has: Period) -> bool:
        """Whether the period `has` compares so."""
        inside = self.wanted.start <= has.start and has.end <= self.wanted.end
        compares = {
            Comparison.EQUAL: inside,
            Comparison.NOT_EQUAL: not inside,
            Comparison.GREATER: has.end > self.wanted.end,
            Comparison.LESS: has.start < self.wanted.start,
            Comparison.GREATER_OR_EQUAL: inside or has.end > self.wanted.end,
            Comparison.LESS_OR_EQUAL: inside or has.start < self.wanted.start,
            Comparison.STARTS_AFTER: has.start >= self.wanted.end,
            Comparison.ENDS_BEFORE: has.end <= self.wanted.start,
        }
        return compares[self.comparison]


class Moment(StrEnum):
    """A time of a study: when it was done (`Study.started`), or when its content last changed (`Study.updated`)."""

    STARTED = "started"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class During:
    """The time of the study satisfies one of `alternatives`. A time that is not known satisfies none. `zone` is the
    place whose time a stored date without an offset means."""

    moment: Moment
    alternatives: tuple[Compared, ...]
    zone: tzinfo

    def holds(self, study: Study) -> bool:
        """Whether `study` satisfies the filter."""
        text = _time_of(study, self.moment)
        try:
            has = Period.parse(text, self.zone) if text else None
        except (ValueError, OverflowError):
            has = None
        return has is not None and any(one.holds(has) for one in self.alternatives)


@dataclass(frozen=True, slots=True)
class Accession:
    """An AccessionNumber of one of `issuers`, where None stands for a number without an issuer of its own. `number`
    None stands for any number, `issuers` None for any issuer."""

    number: str | None
    issuers: frozenset[str | None] | None


@dataclass(frozen=True, slots=True)
class Ordered:
    """The study was ordered under one of these accession numbers; a study without one satisfies none."""

    alternatives: tuple[Accession, ...]

    def holds(self, study: Study) -> bool:
        """Whether `study` satisfies the filter."""
        return study.accession is not None and any(
            one.number in (None, study.accession) and (one.issuers is None or study.accession_issuer in one.issuers)
            for one in self.alternatives
        )


Filter: TypeAlias = OneOf | During | Ordered


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of an answer; studies with the same time are ordered by logical id. A study without a time is the
    oldest."""

    by: Moment = Moment.STARTED
    descending: bool = True


@dataclass(frozen=True, slots=True)
class Position:
    """The last entry of the page before: its logical id, and the text that the order compares."""

    id: str
    key: str


class Detail(StrEnum):
    """What an answer can say besides the studies."""

    PATIENT = "patient"
    ADDRESS = "address"
    """Where the study can be retrieved."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search for the studies of one person.

    `person` is whom the search names, None if it names a study only; `patients` are the local ids of that person, and a
    query without any matches nothing. All `filters` must hold. `count` is the most studies of one answer, 0 if only
    their number is wanted; `after` is where a page continues; `details` are wanted beside the studies.
    """

    person: Ihi | None = None
    patients: tuple[LocalId, ...] = ()
    filters: tuple[Filter, ...] = ()
    sort: Sort = Sort()
    count: int = 50
    after: Position | None = None
    details: frozenset[Detail] = frozenset()


@dataclass(frozen=True, slots=True)
class Selected:
    """One page of an answer: `studies` in order, `total` on all pages, and `cursor` if there is a next page."""

    studies: tuple[Study, ...]
    total: int
    cursor: Position | None


def matches(query: Query, study: Study) -> bool:
    """Whether `study` is of the query's patients and satisfies all its filters."""
    return study.patient in query.patients and all(one.holds(study) for one in query.filters)


def select(query: Query, studies: Iterable[Study]) -> Selected:
    """The page of `studies` that the query asks for. The page continues after `query.after`, even when that study is
    gone."""
    found = sorted((study for study in studies if matches(query, study)), key=lambda study: study.id)
    found.sort(key=lambda study: _key(study, query.sort), reverse=query.sort.descending)
    rest = [study for study in found if query.after is None or _is_after(study, query.after, query.sort)]
    page = rest[: query.count]
    more = len(rest) > len(page) > 0
    return Selected(tuple(page), len(found), Position(page[-1].id, _key(page[-1], query.sort)) if more else None)


def values_of(study: Study, field: Field) -> frozenset[str]:
    """The values that `study` has in `field`, those of its series included."""
    values: dict[Field, Iterable[str]] = {
        Field.LOGICAL_ID: (study.id,),
        Field.PATIENT_ID: (study.patient_id,),
        Field.STUDY_UID: (study.key.uid,),
        Field.SERIES_UID: (series.uid for series in study.series),
        Field.MODALITY: (series.modality for series in study.series),
        Field.BODY_PART: (part for series in study.series if (part := (series.body_part or "").strip().upper())),
        Field.STATUS: (AVAILABLE,),
    }
    return frozenset(values[field])


def _time_of(study: Study, moment: Moment) -> str:
    return study.updated.isoformat() if moment is Moment.UPDATED else study.started or ""


def _key(study: Study, sort: Sort) -> str:
    return _time_of(study, sort.by)


def _is_after(study: Study, position: Position, sort: Sort) -> bool:
    key = _key(study, sort)
    if key == position.key:
        return study.id > position.id
    return (key < position.key) if sort.descending else (key > position.key)
