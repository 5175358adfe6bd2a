"""Values of search parameters (FHIR R4 search 3.1.1.4): tokens, references and dates, and what they mean to a query."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo

from mdg.errors import Invalid, NotSupported, Problem
from mdg.fhir.dates import compared
from mdg.model.identity import IHI_SYSTEM_JMIX_ALIAS, Ihi
from mdg.model.local_numbers import LocalNumbers
from mdg.model.query import During, Field, Moment, OneOf

LOGICAL_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
"""FHIR `id`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a value is read by: the zone of dates without offset, the base of this server's own references, and the
    namespaces of local numbers."""

    zone: tzinfo
    fhir: str
    numbers: LocalNumbers


class ValueOfIdentifier(Problem):
    """An IHI that fails structure or check digit."""

    status = 400
    issue = "value"


def alternatives(value: str) -> list[str]:
    """The values between commas, none of which is empty."""
    parts = _split(value, ",")
    if not all(parts):
        raise Invalid("one of the values between commas is empty")
    return parts


def tokens(value: str) -> list[tuple[str | None, str | None]]:
    """(system, code) of each alternative: `code` has no system (None), `|code` the empty one, `system|` no code."""
    found: list[tuple[str | None, str | None]] = []
    for part in alternatives(value):
        pieces = [_plain(piece) for piece in _split(part, "|")]
        if len(pieces) > 2 or not any(pieces):
            raise Invalid("a token is written code, system|code, |code or system|")
        found.append((pieces[0] if len(pieces) == 2 else None, pieces[-1] or None))
    return found


def codes(value: str, *systems: str) -> frozenset[str] | None:
    """The codes of the alternatives that are of one of `systems` or name none; None stands for all codes."""
    found = {code for system, code in tokens(value) if system is None or system in systems}
    return None if None in found else frozenset(code for code in found if code is not None)


def logical_ids(value: str, field: Field) -> OneOf:
    """The filter of `_id`: a token without a system."""
    return OneOf(field, frozenset(code for system, code in tokens(value) if not system and code))


def references(value: str, type_: str, fhir: str) -> frozenset[str]:
    """The logical ids of the alternatives that may be resources of this type on this server. A reference to another
    type or to another server matches nothing here."""
    ids = set()
    for part in alternatives(value):
        reference = _plain(part)
        if "://" in reference and not reference.startswith(f"{fhir}/"):
            continue
        kind, _, id_ = reference.removeprefix(f"{fhir}/").rpartition("/")
        if not LOGICAL_ID.fullmatch(id_) or not re.fullmatch("([A-Z][A-Za-z]{1,63})?", kind):
            raise Invalid(f"a reference is written <id>, {type_}/<id> or {fhir}/{type_}/<id>")
        if kind in ("", type_):
            ids.add(id_)
    return frozenset(ids)


def during(moment: Moment, value: str, terms: Terms) -> During:
    """The filter of a date parameter."""
    return During(moment, tuple(compared(part, terms.zone) for part in alternatives(value)), terms.zone)


def person(value: str) -> Ihi:
    """The one person that a token names by system and value. The IHI is the only identifier that is taken."""
    named = tokens(value)
    system, digits = named[0]
    if len(named) != 1 or system is None or digits is None:
        raise Invalid("exactly one patient is searched: <system>|<value>")
    if system not in (Ihi.system, IHI_SYSTEM_JMIX_ALIAS):
        raise NotSupported(f"patients are searched by {Ihi.system} only")
    try:
        return Ihi.parse(digits)
    except ValueError:
        raise ValueOfIdentifier("the value is not a valid IHI: 16 digits, prefix 800360, check digit") from None


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
