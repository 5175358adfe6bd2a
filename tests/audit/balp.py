"""What the profiles of IHE BALP 1.1 (https://profiles.ihe.net/ITI/BALP) and FHIR R4 AuditEvent ask of a record, as a
table of our own, and a checker of it. A profile is a list of fixed values and of slices: members of a list that are
told by the code of their `type`, with how many there are and what each must, may and must not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]
Code = tuple[str, str]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
REST = ("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest")
SOURCE, DESTINATION = (DCM, "110153"), (DCM, "110152")
INTERACTION = "http://hl7.org/fhir/restful-interaction"
DISCLOSE = ("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose")
PERSON, SYSTEM_OBJECT = (("http://terminology.hl7.org/CodeSystem/audit-entity-type", code) for code in ("1", "2"))
ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
TRANSACTION = ("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId")
BASE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
MANY = 1000


@dataclass(frozen=True)
class Slice:
    """Members of `agent` or `entity` whose type is one of `types`."""

    types: frozenset[Code]
    least: int
    most: int
    must: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    role: frozenset[str] = frozenset()
    fixed: Mapping[str, object] = field(default_factory=dict)
    recorder: bool = False
    """`who` is the recorder: equal to `source.observer` (invariant val-audit-source)."""


@dataclass(frozen=True)
class Profile:
    """One profile; `subtypes` are those of which a record has at least one."""

    type: Code
    subtypes: frozenset[Code]
    action: str
    agents: Mapping[str, Slice]
    entities: Mapping[str, Slice]
    outcomes: frozenset[str] = frozenset({"0"})


def _end(type_: Code, *, recorder: bool = False) -> Slice:
    """One end of a connection."""
    return Slice(frozenset({type_}), 1, 1, frozenset({"who", "network"}), frozenset({"media"}), recorder=recorder)


def _ends(client: Code, server: Code, users: frozenset[str]) -> dict[str, Slice]:
    types = frozenset((PARTICIPATION, code) for code in users)
    user = Slice(types, 0, 1, frozenset({"who"}), frozenset({"media", "network"}), fixed={"requestor": True})
    return {"client": _end(client), "server": _end(server), "user": user}


_PATIENT = Slice(frozenset({PERSON}), 1, 1, frozenset({"what"}), role=frozenset({"1"}))
_TRANSACTION = Slice(frozenset({TRANSACTION}), 0, 1, frozenset({"what"}))
_QUERY = Slice(
    frozenset({SYSTEM_OBJECT}),
    1,
    1,
    frozenset({"query"}),
    frozenset({"what", "lifecycle", "detail"}),
    role=frozenset({"24"}),
)
_DATA = Slice(frozenset({SYSTEM_OBJECT}), 1, 1, frozenset({"what"}), role=frozenset({"3", "4", "20"}))
_DISCLOSED = {"patient": _PATIENT, "anything": Slice(frozenset(), 2, MANY)}


def _rest(action: str, interactions: tuple[str, ...], ends: dict[str, Slice], about: Slice) -> Profile:
    entities = {"transaction": _TRANSACTION, "patient": _PATIENT, "about": about}
    return Profile(REST, frozenset((INTERACTION, one) for one in interactions), action, ends, entities)


_RECIPIENT, _AUTHORS = frozenset({"IRCP"}), frozenset({"AUT", "INF", "CST"})
PROFILES: Mapping[str, Profile] = {
    f"{BASE}PatientQuery": _rest(
        "E", ("search", "search-type", "search-system"), _ends(SOURCE, DESTINATION, _RECIPIENT), _QUERY
    ),
    f"{BASE}PatientRead": _rest("R", ("read", "vread"), _ends(DESTINATION, SOURCE, _RECIPIENT), _DATA),
    f"{BASE}PatientCreate": _rest("C", ("create",), _ends(SOURCE, DESTINATION, _AUTHORS), _DATA),
    f"{BASE}PatientUpdate": _rest("U", ("update", "patch"), _ends(SOURCE, DESTINATION, _AUTHORS), _DATA),
    f"{BASE}PrivacyDisclosure.Source": Profile(
        (DCM, "110106"),
        frozenset({DISCLOSE}),
        "R",
        {"source": _end(SOURCE, recorder=True), "recipient": _end(DESTINATION)},
        _DISCLOSED,
        frozenset({"0", "4", "8", "12"}),
    ),
    f"{BASE}PrivacyDisclosure.Recipient": Profile(
        (DCM, "110107"),
        frozenset({DISCLOSE}),
        "C",
        {"source": _end(SOURCE), "recipient": _end(DESTINATION, recorder=True)},
        _DISCLOSED,
        frozenset({"0", "4", "8", "12"}),
    ),
}

ELEMENTS: Mapping[str, Mapping[str, str]] = {
    "AuditEvent": {
        "resourceType": "1..1 string",
        "meta": "0..1 Meta",
        "type": "1..1 Coding",
        "subtype": "0..* Coding",
        "action": "0..1 C|R|U|D|E",
        "recorded": "1..1 instant",
        "outcome": "0..1 0|4|8|12",
        "outcomeDesc": "0..1 string",
        "purposeOfEvent": "0..* CodeableConcept",
        "agent": "1..* Agent",
        "source": "1..1 Source",
        "entity": "0..* Entity",
    },
    "Meta": {"profile": "0..* string"},
    "Coding": {"system": "0..1 string", "code": "0..1 string", "display": "0..1 string"},
    "CodeableConcept": {"coding": "0..* Coding", "text": "0..1 string"},
    "Identifier": {"system": "0..1 string", "value": "0..1 string"},
    "Reference": {
        "reference": "0..1 string",
        "type": "0..1 string",
        "identifier": "0..1 Identifier",
        "display": "0..1 string",
    },
    "Agent": {
        "type": "0..1 CodeableConcept",
        "role": "0..* CodeableConcept",
        "who": "0..1 Reference",
        "altId": "0..1 string",
        "name": "0..1 string",
        "requestor": "1..1 boolean",
        "policy": "0..* string",
        "media": "0..1 Coding",
        "network": "0..1 Network",
        "purposeOfUse": "0..* CodeableConcept",
    },
    "Network": {"address": "0..1 string", "type": "0..1 1|2|3|4|5"},
    "Source": {"site": "0..1 string", "observer": "1..1 Reference", "type": "0..* Coding"},
    "Entity": {
        "what": "0..1 Reference",
        "type": "0..1 Coding",
        "role": "0..1 Coding",
        "lifecycle": "0..1 Coding",
        "securityLabel": "0..* Coding",
        "name": "0..1 string",
        "description": "0..1 string",
        "query": "0..1 string",
        "detail": "0..* Detail",
    },
    "Detail": {"type": "1..1 string", "valueString": "0..1 string", "valueBase64Binary": "0..1 string"},
}
"""R4 AuditEvent: cardinality and kind of each element that our records use; any other element is a fault."""


def faults(event: Json) -> list[str]:
    """What is wrong with a record, by R4 and by each profile that it claims."""
    found = list(_structure("AuditEvent", "AuditEvent", event))
    for claimed in event.get("meta", {}).get("profile", []):
        found += [f"{claimed}: {fault}" for fault in _profile(PROFILES[claimed], event)]
    return found


def _structure(kind: str, path: str, value: Any) -> Iterator[str]:
    elements = ELEMENTS[kind]
    if not isinstance(value, dict) or not value:
        yield f"{path}: it is an object with something in it (ele-1)"
        return
    yield from (f"{path}.{name}: R4 has no such element" for name in value if name not in elements)
    for name, said in elements.items():
        cardinality, type_ = said.split(" ")
        given = value.get(name)
        if given is None:
            if cardinality[0] != "0":
                yield f"{path}.{name}: it is required"
        elif cardinality.endswith("*"):
            if not isinstance(given, list) or not given:
                yield f"{path}.{name}: it is a list with something in it"
            else:
                for number, one in enumerate(given):
                    yield from _value(type_, f"{path}.{name}[{number}]", one)
        else:
            yield from _value(type_, f"{path}.{name}", given)
    if kind == "Entity" and "name" in value and "query" in value:
        yield f"{path}: a name or a query, not both (sev-1)"
    if kind == "Detail" and len(value) != 2:
        yield f"{path}: a detail has one value"


def _value(type_: str, path: str, value: Any) -> Iterator[str]:
    if type_ in ELEMENTS:
        yield from _structure(type_, path, value)
    elif type_ == "boolean":
        if not isinstance(value, bool):
            yield f"{path}: it is true or false"
    elif not isinstance(value, str) or not value.strip():
        yield f"{path}: it is a text with something in it"
    elif "|" in type_ and value not in type_.split("|"):
        yield f"{path}: it is one of {type_}"


def _profile(profile: Profile, event: Json) -> Iterator[str]:
    if _code(event.get("type", {})) != profile.type:
        yield "type"
    if profile.subtypes.isdisjoint(_code(subtype) for subtype in event.get("subtype", [])):
        yield "subtype"
    if event.get("action") != profile.action:
        yield "action"
    if event.get("outcome") not in profile.outcomes:
        yield "outcome"
    if "modifierExtension" in event:
        yield "modifierExtension"
    for name, slice_ in profile.agents.items():
        members = [one for one in event.get("agent", []) if slice_.types & _codes(one)]
        yield from (f"agent[{name}]: {fault}" for fault in _slice(slice_, members, event))
    for name, slice_ in profile.entities.items():
        members = [
            one for one in event.get("entity", []) if not slice_.types or _code(one.get("type", {})) in slice_.types
        ]
        yield from (f"entity[{name}]: {fault}" for fault in _slice(slice_, members, event))


def _slice(slice_: Slice, members: list[Json], event: Json) -> Iterator[str]:
    if not slice_.least <= len(members) <= slice_.most:
        yield f"there are {len(members)}"
    for member in members:
        yield from (f"no {name}" for name in sorted(slice_.must - member.keys()))
        yield from (f"{name} is there" for name in sorted(slice_.never & member.keys()))
        yield from (f"{name} is not {value}" for name, value in slice_.fixed.items() if member.get(name) != value)
        if slice_.role and (member.get("role", {}).get("system"), member.get("role", {}).get("code")) not in {
            (ROLE, code) for code in slice_.role
        }:
            yield "role"
        if slice_.recorder and member.get("who") != event.get("source", {}).get("observer"):
            yield "who is not the observer of source (val-audit-source)"
        if slice_.types == {PERSON} and member.get("what", {}).get("type", "Patient") != "Patient":
            yield "what is no Patient"
        if slice_.types == {TRANSACTION} and not member.get("what", {}).get("identifier", {}).get("value"):
            yield "no what.identifier.value"


def _codes(agent: Json) -> set[Code]:
    return {_code(coding) for coding in agent.get("type", {}).get("coding", [])}


def _code(coding: Json) -> Code:
    return coding.get("system", ""), coding.get("code", "")
