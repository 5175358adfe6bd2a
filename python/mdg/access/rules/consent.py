"""What the consent records of a patient say about one request (spec/access 7; FHIR R4 Consent).

Each criterion of a provision matches, does not match, or cannot be told from what is known here. What cannot be told
counts as a match in a deny and as none in a permit. A record that is not understood denies everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum

from mdg.access.rules.rule import Request
from mdg.model.identity import HPII_SYSTEM, HPIO_SYSTEM, IHI_SYSTEM, HpiO, Ihi
from mdg.model.request import Action, Consent, Requester, Resource

ACTIONS = {Action.DISCOVER: "access", Action.DISCLOSE: "disclose", Action.DEPOSIT: "collect"}
ACTION_SYSTEM = "http://terminology.hl7.org/CodeSystem/consentaction"
SCOPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/consentscope"
PURPOSE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
LABEL_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
TYPE_SYSTEM = "http://hl7.org/fhir/resource-types"
RECIPIENT_ROLES = frozenset({"IRCP", "PRCP", "CST"})
PARENT = {
    "ETREAT": "TREAT",
    "CLINTRCH": "HRESCH",
    "FAMRQT": "PATRQT",
    "PWATRNY": "PATRQT",
    "COVERAGE": "HPAYMT",
    "HQUALIMP": "HOPERAT",
    "HLEGAL": "HOPERAT",
    "HSYSADMIN": "HOPERAT",
    "DISASTER": "PUBHLTH",
}
"""v3-ActReason, the part that is served here. BTG has no parent: only a provision that names it speaks of it."""
DEPTH = 3
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d))?)?)?", re.ASCII)
"""FHIR date and dateTime."""
_NAME = re.compile("[A-Za-z_]{1,40}", re.ASCII)
"""A name of an element that may be repeated in an answer."""
WITHOUT_EFFECT = frozenset({"rejected", "inactive", "entered-in-error", "draft", "proposed"})
ELEMENTS = frozenset(
    {
        "resourceType",
        "id",
        "meta",
        "language",
        "text",
        "contained",
        "extension",
        "identifier",
        "status",
        "scope",
        "category",
        "patient",
        "dateTime",
        "performer",
        "organization",
        "sourceAttachment",
        "sourceReference",
        "policy",
        "policyRule",
        "verification",
        "provision",
    }
)
PROVISION = frozenset(
    {
        "id",
        "extension",
        "type",
        "period",
        "actor",
        "action",
        "securityLabel",
        "purpose",
        "class",
        "code",
        "dataPeriod",
        "data",
        "provision",
    }
)


class Effect(Enum):
    """What one record, or all of them, say."""

    PERMIT = "permit"
    DENY = "deny"
    NONE = "not-applicable"


class NotUnderstood(Exception):
    """Something in a record that this engine cannot read. `where` is the path of the element: `provision.actor`."""

    def __init__(self, *where: str) -> None:
        super().__init__("this element of the Consent is not understood")
        self.path = list(where)

    @property
    def where(self) -> str:
        """The path of the element from the record down; empty for the record itself."""
        return ".".join(self.path)


@contextmanager
def _element(name: str) -> Iterator[None]:
    """A fault inside is reported with `name` in its path."""
    try:
        yield
    except NotUnderstood as error:
        error.path.insert(0, name)
        raise
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        raise NotUnderstood(name) from None


def evaluate(request: Request) -> tuple[Effect, str]:
    """All records of `request.consents` together: deny beats permit. The reason names records by their id."""
    effects = [(consent.id, _effect(consent, request)) for consent in request.consents]
    for wanted in (Effect.DENY, Effect.PERMIT):
        said = [id_ for id_, effect in effects if effect is wanted]
        if said:
            return wanted, f"{wanted.value} by consent {', '.join(said)}"
    return Effect.NONE, "no consent applies"


def patient_of(content: Mapping[str, object]) -> Ihi:
    """Whose record it is, by the IHI in `patient.identifier`, when every element of it is understood. `NotUnderstood`
    otherwise, so that a record that would deny everything is refused before it is kept."""
    with _element("patient"):
        identifier = _object(_object(content["patient"])["identifier"])
        if identifier.get("system") != IHI_SYSTEM:
            raise NotUnderstood("identifier.system")
        ihi = Ihi.parse(_optional_text(identifier["value"]) or "")
        if ihi != identifier["value"]:  # each decision compares digits
            raise NotUnderstood("identifier.value")
    with _element("status"):
        if content["status"] not in WITHOUT_EFFECT | {"active"}:
            raise NotUnderstood
    with _element("dateTime"):
        if "dateTime" in content:
            _instant(content["dateTime"])
    now = datetime.now(UTC)
    nobody = Requester("", "", "", HpiO(""), None, ("HRESCH",), ihi, frozenset(), "", "", now)
    probe = Request(nobody, Action.DISCOVER, Resource("ImagingStudy", ihi), "HRESCH", (), now)
    _record({**content, "status": "active", "dateTime": "1970"}, probe)
    with _element("scope"):
        if not {"patient-privacy", "research"}.intersection(_codes([content["scope"]], SCOPE_SYSTEM)):
            raise NotUnderstood
    return ihi


def _effect(consent: Consent, request: Request) -> Effect:
    try:
        return _record(consent.content, request)
    except (NotUnderstood, TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return Effect.DENY


def _record(content: Mapping[str, object], request: Request) -> Effect:
    if content.get("resourceType") != "Consent":
        raise NotUnderstood("resourceType")
    _only(ELEMENTS, content)
    with _element("status"):
        if content["status"] in WITHOUT_EFFECT:
            return Effect.NONE
        if content["status"] != "active":
            raise NotUnderstood
    with _element("scope"):
        scopes = {code for code in _codes([content["scope"]], SCOPE_SYSTEM) if code is not None}
        if not scopes:
            raise NotUnderstood
    if "patient-privacy" not in scopes and not (request.purpose == "HRESCH" and "research" in scopes):
        return Effect.NONE
    with _element("dateTime"):
        if "dateTime" in content and _instant(content["dateTime"]) > request.now:
            return Effect.NONE
    with _element("patient"):
        if _of_another_patient(content["patient"], request):
            return Effect.NONE
    with _element("policyRule"):
        rules = {code for code in _codes([content.get("policyRule", {})]) if code is not None}
    default = {"OPTIN": Effect.PERMIT, "OPTOUT": Effect.DENY}.get(rules.pop()) if len(rules) == 1 else None
    with _element("provision"):
        if "provision" in content:
            return _provision(_object(content["provision"]), request, default, 1)
        if default is None:
            raise NotUnderstood
        return default


def _provision(provision: Mapping[str, object], request: Request, default: Effect | None, depth: int) -> Effect:
    if depth > DEPTH:
        raise NotUnderstood
    _only(PROVISION, provision)
    with _element("type"):
        own = {"permit": Effect.PERMIT, "deny": Effect.DENY, None: default}.get(_optional_text(provision.get("type")))
        if own is None:
            raise NotUnderstood
    nested = []
    for number, inner in enumerate(_list(provision.get("provision", []))):
        with _element(f"provision[{number}]"):
            nested.append(_provision(_object(inner), request, None, depth + 1))
    matches = _matches(provision, request)
    if matches is False or (matches is None and own is Effect.PERMIT):
        return Effect.NONE
    for exception in (Effect.DENY, Effect.PERMIT):
        if exception in nested and not (matches is None and exception is Effect.PERMIT):
            return exception
    return own


def _only(known: frozenset[str], found: Mapping[str, object]) -> None:
    for name in found:
        if name not in known:
            raise NotUnderstood(*([name] if _NAME.fullmatch(name) else []))


def _matches(provision: Mapping[str, object], request: Request) -> bool | None:
    """True, False, or None when it cannot be told; an absent criterion matches."""
    told = []
    for name, criterion in CRITERIA.items():
        if name in provision:
            with _element(name):
                told.append(criterion(provision[name], request))
    if False in told:
        return False
    return None if None in told else True


def _any(found: Iterable[bool | None]) -> bool | None:
    told = list(found)
    if not told:
        raise NotUnderstood
    if True in told:
        return True
    return None if None in told else False


def _period(value: object, request: Request) -> bool | None:
    period = _object(value)
    if not {"start", "end"}.issuperset(period):
        return None
    begun = "start" not in period or _instant(period["start"]) <= request.now
    lasting = "end" not in period or request.now < _end(period["end"])
    return begun and lasting


def _actor(value: object, request: Request) -> bool | None:
    return _any(_one_actor(_object(actor), request) for actor in _list(value))


def _one_actor(actor: Mapping[str, object], request: Request) -> bool | None:
    roles = {code for code in _codes([actor["role"]]) if code is not None}
    identifier = _object(actor["reference"]).get("identifier")
    if not roles or not RECIPIENT_ROLES.issuperset(roles) or not isinstance(identifier, Mapping):
        return None
    holders = {HPIO_SYSTEM: request.subject.organisation, HPII_SYSTEM: request.subject.practitioner}
    system = identifier.get("system")
    if system not in holders:
        return None
    return identifier.get("value") == holders[str(system)]


def _action(value: object, request: Request) -> bool | None:
    return _any(
        None if code is None else code == ACTIONS[request.action] for code in _codes(_list(value), ACTION_SYSTEM)
    )


def _purpose(value: object, request: Request) -> bool | None:
    covered = {request.purpose, PARENT.get(request.purpose, request.purpose)}
    return _any(None if code is None else code in covered for code in _coding(_list(value), PURPOSE_SYSTEM))


def _label(value: object, request: Request) -> bool | None:
    return _any(
        None if code is None else code in request.resource.labels for code in _coding(_list(value), LABEL_SYSTEM)
    )


def _class(value: object, request: Request) -> bool | None:
    shown = request.resource.scope_type
    kind = "ImagingStudy" if shown in ("payload", "Subscription") else shown  # what a subscription tells of
    return _any(None if code is None else code == kind for code in _coding(_list(value), TYPE_SYSTEM))


def _data(value: object, request: Request) -> bool | None:
    return _any(_one_datum(_object(datum), request) for datum in _list(value))


def _one_datum(datum: Mapping[str, object], request: Request) -> bool | None:
    identifier = _object(datum["reference"]).get("identifier")
    if datum.get("meaning") != "instance" or request.resource.study is None or not isinstance(identifier, Mapping):
        return None
    if identifier.get("system") != "urn:dicom:uid":
        return None
    return identifier.get("value") == f"urn:oid:{request.resource.study.uid}"


def _untold(value: object, request: Request) -> bool | None:
    """`code` and `dataPeriod` speak of facts that a decision does not see yet."""
    return None


CRITERIA: Mapping[str, Callable[[object, Request], bool | None]] = {
    "period": _period,
    "actor": _actor,
    "action": _action,
    "purpose": _purpose,
    "securityLabel": _label,
    "class": _class,
    "data": _data,
    "code": _untold,
    "dataPeriod": _untold,
}


def _of_another_patient(value: object, request: Request) -> bool:
    identifier = _object(value).get("identifier")
    if not isinstance(identifier, Mapping) or identifier.get("system") != IHI_SYSTEM:
        return False  # a literal reference: the records were collected by it
    with _element("identifier"):
        value = _optional_text(identifier["value"])
        return Ihi.parse(value or "") != request.resource.patient


def _codes(concepts: Sequence[object], system: str | None = None) -> Iterable[str | None]:
    """The codes of CodeableConcepts: None for one of another system or without a code."""
    for concept in concepts:
        codings = _list(_object(concept).get("coding", []))
        yield from _coding(codings, system) if codings else [None]


def _coding(codings: Sequence[object], system: str | None) -> Iterable[str | None]:
    for value in codings:
        coding = _object(value)
        code = coding.get("code")
        yield code if isinstance(code, str) and system in (None, coding.get("system")) else None


def _instant(value: object) -> datetime:
    """The first instant of a FHIR date or dateTime, in UTC."""
    text = _optional_text(value)
    if text is None or not _DATE.fullmatch(text):
        raise NotUnderstood
    padded = text + "-01-01"[: 10 - len(text)] if len(text) == 4 else text + "-01" if len(text) == 7 else text
    found = datetime.fromisoformat(padded)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _end(value: object) -> datetime:
    """The first instant after a FHIR date or dateTime."""
    start = _instant(value)
    match len(str(value)):
        case 4:
            return start.replace(year=start.year + 1)
        case 7:
            return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
        case 10:
            return start + timedelta(days=1)
        case _:
            return start


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or "modifierExtension" in value:
        raise NotUnderstood
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise NotUnderstood
    return value


def _optional_text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise NotUnderstood
    return value
