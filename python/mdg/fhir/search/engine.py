"""The engine of searches: what a resource type can be searched by is read by its table, strictly.

Several parameters are AND, a comma inside one is OR. A parameter or modifier that is not in the table is refused, never
ignored: an ignored filter is a disclosure. No message repeats a value, since any value may be a person's number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mdg.errors import Invalid, NotAcceptable, NotSupported, Required
from mdg.fhir.search import values
from mdg.fhir.search.person import names_person, person_in_url
from mdg.fhir.search.values import Terms
from mdg.model.query import Detail, Filter, Query, Sort

Pairs: TypeAlias = Sequence[tuple[str, str]]

FORMATS = frozenset({"json", "application/json", "application/fhir+json"})
ONCE = frozenset({"_count", "_sort", "_format", "_summary", "_total"})
"""Parameters that stand once; a second one with another value is refused."""
TOTALS = ("none", "estimate", "accurate")
LONGEST = 1024
"""Characters of one value."""
DEFAULT_COUNT = 50
MAX_COUNT = 100

Read: TypeAlias = "Callable[[Search, str, Terms], Search]"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its FHIR type, what a reader of the CapabilityStatement should know, and how it is read.

    `read` gives the search so far, narrowed by one value. A value of a parameter with `person` identifies a person: it
    stands in the body of a POST only, and in no link. A parameter with `whose` says whose resources are searched; links
    name them by logical id in its place. A search may consist of one parameter with `alone` and no patient.
    """

    type: str
    documentation: str
    read: Read
    person: bool = False
    whose: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """How one resource type is searched.

    `includes` are the values of `_include` and what each adds to the answer, `sorts` those of `_sort`. `patient` is the
    parameter by which a link names patients, `patient_form` a value of it. `example` is a body that names one patient.
    """

    type: str
    own: Mapping[str, Parameter]
    patient: str
    patient_form: str
    example: str
    includes: Mapping[str, Detail] = field(default_factory=dict)
    sorts: Mapping[str, Sort] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """All parameters, in the order of the documentation."""
        every = dict(self.own)
        if self.includes:
            included = "An allow-list; included resources pass the same decision."
            every["_include"] = Parameter("special", included, _include)
        if self.sorts:
            every["_sort"] = Parameter("special", "One of " + ", ".join(self.sorts) + ".", _sort)
        return {**every, **_RESULT}


@dataclass(frozen=True, slots=True)
class Search:
    """A search of `table`, understood. `asked` are the parameters as they came, without those that say whose."""

    table: Table
    query: Query = field(default_factory=lambda: Query(count=DEFAULT_COUNT))
    asked: tuple[tuple[str, str], ...] = ()

    def also(self, filter_: Filter) -> Search:
        """The search, narrowed by one more filter."""
        return replace(self, query=replace(self.query, filters=(*self.query.filters, filter_)))

    def of(self, patients: frozenset[str]) -> list[tuple[str, str]]:
        """The search as parameters that say whose it is by the logical ids of `patients`: for a sealed cursor only."""
        ids = ",".join(self.table.patient_form.format(id=id_) for id_ in sorted(patients))
        return [*([(self.table.patient, ids)] if ids else []), *self.asked]

    def link(self, patients: frozenset[str]) -> list[tuple[str, str]]:
        """The same without any value that identifies a person: what the link of an answer may carry."""
        known = self.table.parameters
        return [(name, value) for name, value in self.of(patients) if name not in known or not known[name].person]


def parse(table: Table, url: Pairs, body: Pairs, terms: Terms) -> Search:
    """The search of both, the URL's parameters merged with the body's (hapifhir/hapi-fhir#7567).

    Raises `NotSupported`, `Invalid`, `Required`, `NotAcceptable` or `ValueOfIdentifier`.
    """
    parameters = table.parameters
    refuse_person_in_url(table, url, terms)
    search = Search(table)
    once: dict[str, str] = {}
    for name, value in (*url, *body):
        if name in ONCE and once.setdefault(name, value) != value:
            raise Invalid(f"{name} stands twice with different values")
        if name in ("_format", "_pretty"):
            check_format(name, value)
            continue
        parameter = parameters.get(name)
        if parameter is None:
            raise NotSupported("a parameter or modifier is not supported; supported: " + ", ".join(parameters))
        if len(value) > LONGEST:
            raise Invalid(f"a parameter is longer than {LONGEST} characters")
        if not value:
            raise Invalid(f"{name} has no value")
        search = parameter.read(search, value, terms)
        if not parameter.whose:
            search = replace(search, asked=(*search.asked, (name, value)))
    named = [parameters[name] for name, _ in (*url, *body) if name in parameters]
    if not any(one.whose or one.alone for one in named):
        raise Required(f"one patient is required: {table.example} in the body of a POST to _search")
    return search


def refuse_person_in_url(table: Table, url: Pairs, terms: Terms) -> None:
    """`NotSupported` if a parameter of a URL, of any name, holds an identifier of a person."""
    person = {name for name, parameter in table.parameters.items() if parameter.person}
    for name, value in url:
        hidden = name.endswith((".identifier", ":identifier")) or names_person(value) or names_person(name)
        if hidden or name in person:
            raise person_in_url(terms.fhir, table.type, table.example)


def check_format(name: str, value: str) -> None:
    """`NotAcceptable` unless `_format` is JSON; `_pretty` is taken and has no effect."""
    if name == "_format" and value not in FORMATS:
        raise NotAcceptable("only application/fhir+json is offered")


def person(search: Search, value: str, _terms: Terms) -> Search:
    """Narrows a search to the person whom `value` names; two different people are refused."""
    ihi = values.person(value)
    if search.query.person not in (None, ihi):
        raise Invalid("two different patients in one search")
    return replace(search, query=replace(search.query, person=ihi))


def _include(search: Search, value: str, _terms: Terms) -> Search:
    includes = search.table.includes
    if value not in includes:
        raise NotSupported("_include is one of " + ", ".join(includes))
    return replace(search, query=replace(search.query, details=search.query.details | {includes[value]}))


def _sort(search: Search, value: str, _terms: Terms) -> Search:
    sorts = search.table.sorts
    if value not in sorts:
        raise NotSupported("_sort is one of " + ", ".join(sorts))
    return replace(search, query=replace(search.query, sort=sorts[value]))


def _count(search: Search, value: str, _terms: Terms) -> Search:
    if not re.fullmatch(r"\d{1,20}", value, re.ASCII):
        raise Invalid("_count is a whole number")
    return replace(search, query=replace(search.query, count=min(int(value), MAX_COUNT)))


def _summary(search: Search, value: str, _terms: Terms) -> Search:
    if value not in ("count", "false"):
        raise NotSupported("_summary is count or false")
    return replace(search, query=replace(search.query, count=0)) if value == "count" else search


def _total(search: Search, value: str, _terms: Terms) -> Search:
    if value not in TOTALS:
        raise NotSupported("_total is one of " + ", ".join(TOTALS))
    return search  # the total is always given, and exact


_RESULT: Mapping[str, Parameter] = {
    "_count": Parameter("special", f"Default {DEFAULT_COUNT}, at most {MAX_COUNT}, 0 = only the count.", _count),
    "_summary": Parameter("special", "count or false.", _summary),
    "_total": Parameter("special", "Taken, without effect: the total is always given, and exact.", _total),
}
"""The parameters that every search has."""
