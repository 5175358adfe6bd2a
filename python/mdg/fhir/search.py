"""The search parameters of ImagingStudy: what each means, read strictly (fhir-au 1.3).

Several parameters are AND, a comma inside one is OR. A parameter or modifier that is not in `PARAMETERS` is refused,
never ignored: an ignored filter is a disclosure. An identifier of a person may stand in the body of a POST only; in a
URL it is refused with the request that works. No message repeats a value, since any value may be a person's number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import NamedTuple, TypeAlias

from mdg.errors import Invalid, NotAcceptable, NotSupported, Problem, Required
from mdg.fhir import CODE_SYSTEM_DCM
from mdg.fhir.dates import DateFilter
from mdg.fhir.imaging_study import BODY_SITES, SNOMED, UID, UID_SYSTEM, accession_system
from mdg.model.identity import IHI_SYSTEM_JMIX_ALIAS, Ihi
from mdg.model.imaging import Study

Pairs: TypeAlias = Sequence[tuple[str, str]]

STATUSES = frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"})
INCLUDES = ("ImagingStudy:endpoint", "ImagingStudy:patient")
SORTS = ("started", "-started", "_lastUpdated", "-_lastUpdated")
FORMATS = frozenset({"json", "application/json", "application/fhir+json"})
DEFAULT_COUNT = 50
MAX_COUNT = 100
_PERSON = re.compile(r"8[\s-]*0[\s-]*0[\s-]*3[\s-]*6[\s-]*0([\s-]*\d){10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImagingStudySearch:
    """A search, understood. `ihi` or `patient_ids` says whose studies; both may be absent when `_id` or `identifier`
    names the study, and then the token says whose. `filters` are the other criteria, all of which must hold."""

    ihi: Ihi | None = None
    patient_ids: frozenset[str] = frozenset()
    filters: tuple[Callable[[Study], bool], ...] = ()
    statuses: frozenset[str] = frozenset({"registered", "available", "unknown"})
    include: frozenset[str] = frozenset()
    sort: str = "-started"
    count: int = DEFAULT_COUNT
    shareable: tuple[tuple[str, str], ...] = ()
    """The parameters that a link may carry: everything but an identifier of a person and the patient."""

    def matches(self, study: Study) -> bool:
        """Whether `study`, already known to be of the patient, is what is searched."""
        if "available" not in self.statuses or (self.patient_ids and study.patient_id not in self.patient_ids):
            return False
        return all(holds(study) for holds in self.filters)

    def sort_key(self, study: Study) -> str:
        """What `_sort` compares; equal keys are ordered by logical id."""
        return study.updated.isoformat() if self.sort.endswith("_lastUpdated") else study.started or ""

    def ordered(self, studies: Sequence[Study]) -> list[Study]:
        """In the order of `_sort`, then by logical id, so that the order is total."""
        by_id = sorted(studies, key=lambda study: study.id)
        return sorted(by_id, key=self.sort_key, reverse=self.sort.startswith("-"))


class Parameter(NamedTuple):
    """One parameter: its FHIR type, what a reader of the CapabilityStatement should know, and how it is read.

    `read` takes the search so far, the raw value and the zone of dates without offset.
    """

    type: str
    documentation: str
    read: Callable[[ImagingStudySearch, str, tzinfo], ImagingStudySearch]
    person: bool = False
    """Its value identifies a person: in the body of a POST only."""


def parse(url: Pairs, body: Pairs, zone: tzinfo, fhir: str) -> ImagingStudySearch:
    """The search of both, the URL's parameters merged with the body's (hapifhir/hapi-fhir#7567).

    Raises `NotSupported`, `Invalid`, `Required`, `NotAcceptable` or `ValueOfIdentifier`.
    """
    refuse_person_in_url(url, fhir)
    search = ImagingStudySearch()
    for name, value in (*url, *body):
        if name in ("_format", "_pretty"):
            check_format(name, value)
            continue
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise NotSupported("a parameter or modifier is not supported; supported: " + ", ".join(PARAMETERS))
        if len(value) > 1024:
            raise Invalid("a parameter is longer than 1024 characters")
        search = parameter.read(search, value, zone)
        if not parameter.person and name not in ("patient", "subject"):
            search = replace(search, shareable=(*search.shareable, (name, value)))
    names = {name for name, _ in (*url, *body)}
    if search.ihi is None and not search.patient_ids and not names & {"_id", "identifier"}:
        raise Required("one patient is required: patient.identifier=<system>|<value> in the body of a POST to _search")
    return search


def refuse_person_in_url(url: Pairs, fhir: str) -> None:
    """`NotSupported` when a URL holds an identifier of a person, whatever parameter it hides in."""
    for name, value in url:
        parameter = PARAMETERS.get(name)
        named = (parameter is not None and parameter.person) or name.endswith((".identifier", ":identifier"))
        if (named and name != "basedon:identifier") or names_person(value) or names_person(name):
            raise person_in_url(fhir)


def names_person(text: str) -> bool:
    """Whether something that looks like an IHI stands in `text`, with or without blanks and hyphens."""
    return _PERSON.search(text) is not None


def person_in_url(fhir: str) -> NotSupported:
    """The refusal of a URL that identifies a person; it names the request that works."""
    return NotSupported(
        f"an identifier of a person may not stand in a URL; send POST {fhir}/ImagingStudy/_search with "
        "Content-Type: application/x-www-form-urlencoded and body patient.identifier=<system>|<value>",
        reason="identifier-in-url",
    )


def check_format(name: str, value: str) -> None:
    """`NotAcceptable` unless `_format` is JSON; `_pretty` is taken and has no effect."""
    if name == "_format" and value not in FORMATS:
        raise NotAcceptable("only application/fhir+json is offered")


class ValueOfIdentifier(Problem):
    """An IHI that fails structure or check digit."""

    status = 400
    issue = "value"


def _split(value: str, on: str) -> list[str]:
    r"""The parts between unescaped `on`; `\,` `\|` `\$` `\\` stand for themselves (FHIR search 3.1.1.4.0.1)."""
    parts, current, escaped = [], "", False
    for char in value:
        if escaped:
            current += char if char == on or (char in ",|$\\" and on == "|") else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == on:
            parts.append(current)
            current = ""
        else:
            current += char
    return [*parts, current]


def _tokens(value: str) -> list[tuple[str | None, str]]:
    """(system or None, code) of each alternative; an empty code is refused."""
    tokens: list[tuple[str | None, str]] = []
    for part in _split(value, ","):
        pieces = _split(part, "|")
        if len(pieces) > 2 or not pieces[-1]:
            raise Invalid("a token is written code, |code or system|code")
        tokens.append((pieces[0] if len(pieces) == 2 else None, pieces[-1]))
    return tokens


def _also(search: ImagingStudySearch, holds: Callable[[Study], bool]) -> ImagingStudySearch:
    return replace(search, filters=(*search.filters, holds))


def _ihi(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    tokens = _tokens(value)
    if len(tokens) != 1 or tokens[0][0] is None:
        raise Invalid("exactly one patient is searched: <system>|<value>")
    system, digits = tokens[0]
    if system not in (Ihi.system, IHI_SYSTEM_JMIX_ALIAS):
        raise NotSupported(f"patients are searched by {Ihi.system} only")
    try:
        ihi = Ihi.parse(digits)
    except ValueError:
        raise ValueOfIdentifier("the value is not a valid IHI: 16 digits, prefix 800360, check digit") from None
    if search.ihi not in (None, ihi):
        raise Invalid("two different patients in one search")
    return replace(search, ihi=ihi)


def _patient(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    ids = frozenset(part.removeprefix("Patient/") for part in _split(value, ","))
    if not all(LOGICAL_ID.fullmatch(id_) for id_ in ids):
        raise Invalid("a patient is written <id> or Patient/<id>")
    return replace(search, patient_ids=search.patient_ids & ids if search.patient_ids else ids)


def _id(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    ids = frozenset(_split(value, ","))
    return _also(search, lambda study: study.id in ids)


def _identifier(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    uids = set()
    for system, text in _tokens(value):
        uid = text.removeprefix("urn:oid:")
        if system not in (None, UID_SYSTEM) or not UID.match(uid):
            raise Invalid(f"an identifier is written {UID_SYSTEM}|urn:oid:<StudyInstanceUID>")
        uids.add(uid)
    return _also(search, lambda study: study.key.uid in uids)


def _started(search: ImagingStudySearch, value: str, zone: tzinfo) -> ImagingStudySearch:
    dates = [DateFilter.parse(part, zone) for part in _split(value, ",")]
    return _also(search, lambda study: any(date.holds(study.started, zone) for date in dates))


def _last_updated(search: ImagingStudySearch, value: str, zone: tzinfo) -> ImagingStudySearch:
    dates = [DateFilter.parse(part, zone) for part in _split(value, ",")]
    return _also(search, lambda study: any(date.holds(study.updated.isoformat(), zone) for date in dates))


def _coded(value: str, system: str) -> frozenset[str]:
    """Codes of one system; a token of another system matches nothing."""
    return frozenset(code for given, code in _tokens(value) if given in (None, system))


def _modality(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    codes = _coded(value, CODE_SYSTEM_DCM)
    return _also(search, lambda study: not codes.isdisjoint(series.modality for series in study.series))


def _body_site(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    codes = _coded(value, SNOMED)
    words = {word for word, (code, _) in BODY_SITES.items() if code in codes}
    return _also(search, lambda study: any((one.body_part or "").strip().upper() in words for one in study.series))


def _series(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    uids = frozenset(uid.removeprefix("urn:oid:") for _, uid in _tokens(value))
    return _also(search, lambda study: any(one.uid in uids for one in study.series))


def _based_on(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    tokens = _tokens(value)
    return _also(
        search,
        lambda study: any(
            study.accession == number and system in (None, accession_system(study)) for system, number in tokens
        ),
    )


def _status(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    statuses = frozenset(code for _, code in _tokens(value))
    if not statuses <= STATUSES:
        raise Invalid("status is one of " + ", ".join(sorted(STATUSES)))
    return replace(search, statuses=statuses)


def _include(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    if value not in INCLUDES:
        raise NotSupported("_include is one of " + ", ".join(INCLUDES))
    return replace(search, include=search.include | {value})


def _sort(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    if value not in SORTS:
        raise NotSupported("_sort is one of " + ", ".join(SORTS))
    return replace(search, sort=value)


def _count(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    if not re.fullmatch(r"\d{1,20}", value, re.ASCII):
        raise Invalid("_count is a whole number")
    return replace(search, count=min(int(value), MAX_COUNT))


def _summary(search: ImagingStudySearch, value: str, _zone: tzinfo) -> ImagingStudySearch:
    if value not in ("count", "false"):
        raise NotSupported("_summary is count or false")
    return replace(search, count=0) if value == "count" else search


LOGICAL_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
"""FHIR `id`."""

PARAMETERS: Mapping[str, Parameter] = {
    "patient": Parameter("reference", "Patient/<id> as an earlier answer gave it.", _patient),
    "patient.identifier": Parameter("token", "The IHI, system and value; body of a POST only.", _ihi, person=True),
    "patient:identifier": Parameter("token", "The same as patient.identifier.", _ihi, person=True),
    "subject": Parameter("reference", "The same as patient.", _patient),
    "subject:Patient.identifier": Parameter("token", "The same as patient.identifier.", _ihi, person=True),
    "_id": Parameter("token", "Logical id; within the token's patient.", _id),
    "identifier": Parameter("token", "urn:dicom:uid|urn:oid:<uid>; within the token's patient.", _identifier),
    "started": Parameter("date", "Prefixes eq ne gt lt ge le sa eb.", _started),
    "modality": Parameter("token", "Any series of this DICOM modality.", _modality),
    "bodysite": Parameter("token", "SNOMED CT code of any series; no modifiers.", _body_site),
    "series": Parameter("token", "SeriesInstanceUID.", _series),
    "basedon:identifier": Parameter("token", "Accession number, with its system or without.", _based_on),
    "status": Parameter("token", "Without it, cancelled and entered-in-error are left out.", _status),
    "_lastUpdated": Parameter("date", "Prefixes as of started.", _last_updated),
    "_include": Parameter("special", "An allow-list; included resources pass the same decision.", _include),
    "_sort": Parameter("special", "One of " + ", ".join(SORTS) + ".", _sort),
    "_count": Parameter("special", f"Default {DEFAULT_COUNT}, at most {MAX_COUNT}, 0 = only the count.", _count),
    "_summary": Parameter("special", "count or false.", _summary),
}
