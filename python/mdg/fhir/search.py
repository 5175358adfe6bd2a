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
from mdg.fhir.dates import compared
from mdg.fhir.imaging_study import SNOMED, UID_SYSTEM, body_site
from mdg.fhir.local_numbers import LocalNumbers
from mdg.model.identity import IHI_SYSTEM_JMIX_ALIAS, Ihi
from mdg.model.imaging import Study
from mdg.model.query import During, Moment

Pairs: TypeAlias = Sequence[tuple[str, str]]

STATUSES = frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"})
SHOWN = frozenset({"registered", "available", "unknown"})
"""The statuses of a search that names none."""
STATUS_SYSTEM = "http://hl7.org/fhir/imagingstudy-status"
INCLUDES = ("ImagingStudy:endpoint", "ImagingStudy:patient", "ImagingStudy:subject")
SORTS = ("started", "-started", "_lastUpdated", "-_lastUpdated")
TOTALS = ("none", "estimate", "accurate")
FORMATS = frozenset({"json", "application/json", "application/fhir+json"})
ONCE = frozenset({"_count", "_sort", "_format", "_summary", "_total"})
"""Parameters that stand once; a second one with another value is refused."""
DEFAULT_COUNT = 50
MAX_COUNT = 100
_PERSON = re.compile(r"8[\s-]*0[\s-]*0[\s-]*3[\s-]*6[\s-]*0([\s-]*\d){10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImagingStudySearch:
    """A search, understood. `ihi` or `patient_ids` says whose studies; both may be None when `_id` or `identifier`
    names the study, and then the token says whose. `filters` are the other criteria, all of which must hold."""

    ihi: Ihi | None = None
    patient_ids: frozenset[str] | None = None
    filters: tuple[Callable[[Study], bool], ...] = ()
    statuses: frozenset[str] | None = None
    include: frozenset[str] = frozenset()
    sort: str = "-started"
    count: int = DEFAULT_COUNT
    asked: tuple[tuple[str, str], ...] = ()
    """The parameters as they came, without the patient."""

    @property
    def shareable(self) -> list[tuple[str, str]]:
        """The parameters that a link may carry: those of `asked` that identify nobody."""
        return [(name, value) for name, value in self.asked if name not in PARAMETERS or not PARAMETERS[name].person]

    def matches(self, study: Study) -> bool:
        """Whether `study`, already known to be of the patient, is what is searched."""
        if "available" not in (SHOWN if self.statuses is None else self.statuses):
            return False
        if self.patient_ids is not None and study.patient_id not in self.patient_ids:
            return False
        return all(holds(study) for holds in self.filters)

    def sort_key(self, study: Study) -> str:
        """What `_sort` compares; equal keys are ordered by logical id."""
        return study.updated.isoformat() if self.sort.endswith("_lastUpdated") else study.started or ""

    def ordered(self, studies: Sequence[Study]) -> list[Study]:
        """In the order of `_sort`, then by logical id, so that the order is total."""
        by_id = sorted(studies, key=lambda study: study.id)
        return sorted(by_id, key=self.sort_key, reverse=self.sort.startswith("-"))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a value is read by: the zone of dates without offset, the base of this server's own references, and the
    namespaces of local numbers."""

    zone: tzinfo
    fhir: str
    numbers: LocalNumbers


class Parameter(NamedTuple):
    """One parameter: its FHIR type, what a reader of the CapabilityStatement should know, and how it is read.

    `read` takes the search so far, the raw value, and the terms to read it by.
    """

    type: str
    documentation: str
    read: Callable[[ImagingStudySearch, str, Terms], ImagingStudySearch]
    person: bool = False
    """Its value identifies a person: in the body of a POST only, and in no link."""


def parse(url: Pairs, body: Pairs, terms: Terms) -> ImagingStudySearch:
    """The search of both, the URL's parameters merged with the body's (hapifhir/hapi-fhir#7567).

    Raises `NotSupported`, `Invalid`, `Required`, `NotAcceptable` or `ValueOfIdentifier`.
    """
    refuse_person_in_url(url, terms.fhir)
    search = ImagingStudySearch()
    once: dict[str, str] = {}
    for name, value in (*url, *body):
        if name in ONCE and once.setdefault(name, value) != value:
            raise Invalid(f"{name} stands twice with different values")
        if name in ("_format", "_pretty"):
            check_format(name, value)
            continue
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise NotSupported("a parameter or modifier is not supported; supported: " + ", ".join(PARAMETERS))
        if len(value) > 1024:
            raise Invalid("a parameter is longer than 1024 characters")
        if not value:
            raise Invalid(f"{name} has no value")
        search = parameter.read(search, value, terms)
        if parameter.read not in (_ihi, _patient):
            search = replace(search, asked=(*search.asked, (name, value)))
    names = {name for name, _ in (*url, *body)}
    if search.ihi is None and search.patient_ids is None and not names & {"_id", "identifier"}:
        raise Required("one patient is required: patient.identifier=<system>|<value> in the body of a POST to _search")
    return search


def refuse_person_in_url(url: Pairs, fhir: str) -> None:
    """`NotSupported` when a URL holds an identifier of a person, whatever parameter it hides in."""
    for name, value in url:
        if name.endswith((".identifier", ":identifier")) or names_person(value) or names_person(name):
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
    """The parts between those `on` that no backslash escapes; the parts keep their backslashes."""
    parts, escaped = [""], False
    for char in value:
        if char == on and not escaped:
            parts.append("")
        else:
            parts[-1] += char
        escaped = char == "\\" and not escaped
    return parts


def _plain(text: str) -> str:
    r"""The text that is meant: `\,` `\|` `\$` `\\` stand for the second character (FHIR R4 search, "Escaping Search
    Parameters"). Any other backslash stays, and so matches nothing."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def _alternatives(value: str) -> list[str]:
    """The values between commas, none of which is empty."""
    parts = _split(value, ",")
    if not all(parts):
        raise Invalid("one of the values between commas is empty")
    return parts


def _tokens(value: str) -> list[tuple[str | None, str | None]]:
    """(system, code) of each alternative: `code` has no system (None), `|code` the empty one, `system|` no code."""
    tokens: list[tuple[str | None, str | None]] = []
    for part in _alternatives(value):
        pieces = [_plain(piece) for piece in _split(part, "|")]
        if len(pieces) > 2 or not any(pieces):
            raise Invalid("a token is written code, system|code, |code or system|")
        tokens.append((pieces[0] if len(pieces) == 2 else None, pieces[-1] or None))
    return tokens


def _references(value: str, type_: str, fhir: str) -> frozenset[str]:
    """The logical ids of the alternatives that may be resources of this type on this server. A reference to another
    type or to another server matches nothing here."""
    ids = set()
    for part in _alternatives(value):
        reference = _plain(part)
        if "://" in reference and not reference.startswith(f"{fhir}/"):
            continue
        kind, _, id_ = reference.removeprefix(f"{fhir}/").rpartition("/")
        if not LOGICAL_ID.fullmatch(id_) or not re.fullmatch("([A-Z][A-Za-z]{1,63})?", kind):
            raise Invalid(f"a reference is written <id>, {type_}/<id> or {fhir}/{type_}/<id>")
        if kind in ("", type_):
            ids.add(id_)
    return frozenset(ids)


def _also(search: ImagingStudySearch, holds: Callable[[Study], bool]) -> ImagingStudySearch:
    return replace(search, filters=(*search.filters, holds))


def _ihi(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    tokens = _tokens(value)
    system, digits = tokens[0]
    if len(tokens) != 1 or system is None or digits is None:
        raise Invalid("exactly one patient is searched: <system>|<value>")
    if system not in (Ihi.system, IHI_SYSTEM_JMIX_ALIAS):
        raise NotSupported(f"patients are searched by {Ihi.system} only")
    try:
        ihi = Ihi.parse(digits)
    except ValueError:
        raise ValueOfIdentifier("the value is not a valid IHI: 16 digits, prefix 800360, check digit") from None
    if search.ihi not in (None, ihi):
        raise Invalid("two different patients in one search")
    return replace(search, ihi=ihi)


def _patient(search: ImagingStudySearch, value: str, terms: Terms) -> ImagingStudySearch:
    ids = _references(value, "Patient", terms.fhir)
    return replace(search, patient_ids=ids if search.patient_ids is None else search.patient_ids & ids)


def _id(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    ids = frozenset(code for system, code in _tokens(value) if not system)
    return _also(search, lambda study: study.id in ids)


def _of_system(value: str, *systems: str) -> frozenset[str | None]:
    """The codes of the alternatives that are of these systems or of any; None stands for all codes of theirs."""
    return frozenset(code for system, code in _tokens(value) if system is None or system in systems)


def _uids(value: str) -> frozenset[str | None]:
    return frozenset(uid and uid.removeprefix("urn:oid:") for uid in _of_system(value, UID_SYSTEM))


def _identifier(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    uids = _uids(value)
    return _also(search, lambda study: not uids.isdisjoint((study.key.uid, None)))


def _during(moment: Moment, value: str, terms: Terms) -> During:
    return During(moment, tuple(compared(part, terms.zone) for part in _alternatives(value)), terms.zone)


def _started(search: ImagingStudySearch, value: str, terms: Terms) -> ImagingStudySearch:
    return _also(search, _during(Moment.STARTED, value, terms).holds)


def _last_updated(search: ImagingStudySearch, value: str, terms: Terms) -> ImagingStudySearch:
    return _also(search, _during(Moment.UPDATED, value, terms).holds)


def _modality(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    codes = _of_system(value, CODE_SYSTEM_DCM)
    return _also(search, lambda study: not codes.isdisjoint((*(series.modality for series in study.series), None)))


def _body_site(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    codes = _of_system(value, SNOMED)

    def holds(study: Study) -> bool:
        sites = [site.code for series in study.series if (site := body_site(series)) is not None]
        return not codes.isdisjoint((*sites, None)) if sites else False

    return _also(search, holds)


def _series(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    uids = _uids(value)
    return _also(search, lambda study: not uids.isdisjoint((*(one.uid for one in study.series), None)))


def _based_on(search: ImagingStudySearch, _value: str, _terms: Terms) -> ImagingStudySearch:
    return _also(search, lambda _study: False)  # no order is held here that a reference could mean


def _accession(search: ImagingStudySearch, value: str, terms: Terms) -> ImagingStudySearch:
    tokens = _tokens(value)

    def holds(study: Study) -> bool:
        own = terms.numbers.accession_system(study)
        return study.accession is not None and any(
            number in (None, study.accession) and system in (None, own) for system, number in tokens
        )

    return _also(search, holds)


def _status(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    statuses: frozenset[str] = frozenset()
    for system, code in _tokens(value):
        if code is not None and code not in STATUSES:
            raise Invalid("status is one of " + ", ".join(sorted(STATUSES)))
        if system in (None, STATUS_SYSTEM):
            statuses |= STATUSES if code is None else {code}
    return replace(search, statuses=statuses if search.statuses is None else search.statuses & statuses)


def _include(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    if value not in INCLUDES:
        raise NotSupported("_include is one of " + ", ".join(INCLUDES))
    return replace(search, include=search.include | {value.replace(":subject", ":patient")})


def _sort(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    if value not in SORTS:
        raise NotSupported("_sort is one of " + ", ".join(SORTS))
    return replace(search, sort=value)


def _count(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    if not re.fullmatch(r"\d{1,20}", value, re.ASCII):
        raise Invalid("_count is a whole number")
    return replace(search, count=min(int(value), MAX_COUNT))


def _summary(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    if value not in ("count", "false"):
        raise NotSupported("_summary is count or false")
    return replace(search, count=0) if value == "count" else search


def _total(search: ImagingStudySearch, value: str, _terms: Terms) -> ImagingStudySearch:
    if value not in TOTALS:
        raise NotSupported("_total is one of " + ", ".join(TOTALS))
    return search  # the total is always given, and exact


LOGICAL_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
"""FHIR `id`."""

PARAMETERS: Mapping[str, Parameter] = {
    "patient": Parameter("reference", "Patient/<id> as an earlier answer gave it.", _patient),
    "patient.identifier": Parameter("token", "The IHI, system and value; body of a POST only.", _ihi, person=True),
    "patient:identifier": Parameter("token", "The same as patient.identifier.", _ihi, person=True),
    "subject": Parameter("reference", "The same as patient.", _patient),
    "subject:Patient": Parameter("reference", "The same as patient.", _patient),
    "subject:Patient.identifier": Parameter("token", "The same as patient.identifier.", _ihi, person=True),
    "_id": Parameter("token", "Logical id; within the token's patient.", _id),
    "identifier": Parameter("token", "urn:dicom:uid|urn:oid:<uid>; within the token's patient.", _identifier),
    "started": Parameter("date", "Prefixes eq ne gt lt ge le sa eb.", _started),
    "modality": Parameter("token", "Any series of this DICOM modality.", _modality),
    "bodysite": Parameter("token", "SNOMED CT code of any series; no modifiers.", _body_site),
    "series": Parameter("token", "SeriesInstanceUID.", _series),
    "basedon": Parameter("reference", "Finds nothing: no order is held here that a reference could mean.", _based_on),
    "basedon:identifier": Parameter(
        "token", "Accession number, with its system or without; body of a POST only.", _accession, person=True
    ),
    "status": Parameter("token", "Without it, cancelled and entered-in-error are left out.", _status),
    "_lastUpdated": Parameter("date", "Prefixes as of started.", _last_updated),
    "_include": Parameter("special", "An allow-list; included resources pass the same decision.", _include),
    "_sort": Parameter("special", "One of " + ", ".join(SORTS) + ".", _sort),
    "_count": Parameter("special", f"Default {DEFAULT_COUNT}, at most {MAX_COUNT}, 0 = only the count.", _count),
    "_summary": Parameter("special", "count or false.", _summary),
    "_total": Parameter("special", "Taken, without effect: the total is always given, and exact.", _total),
}
