"""An event as a FHIR R4 AuditEvent, in the roles and codes of IHE BALP 1.1 (IEF OI9).

A query flows from the client (Source) to the server (Destination), a read or a release the other way round. The
token's claims follow BALP's OAuth mapping: `sub` and `iss` name the user, `jti` is the policy, `client_id` the
client. A record claims a profile of BALP only if it holds all that the profile asks for (`Shape.needs`): a refusal, and
a call whose caller's address nobody knows, claim none. People are named by identifiers only. AuditEvent is FHIR JSON
of its own: the room `fhir` holds what is shown to callers.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HPII_SYSTEM, HPIO_SYSTEM, IHI_SYSTEM, HpiO
from mdg.model.request import Requester

DCM = "http://dicom.nema.org/resources/ontology/DCM"
AUDIT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CLASS = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
BALP = "https://profiles.ihe.net/ITI/BALP"
BALP_ENTITY = f"{BALP}/CodeSystem/BasicAuditEntityType"
URI_SYSTEM = "urn:ietf:rfc:3986"
NETWORK_IP, NETWORK_URI = "2", "5"
"""Codes of http://hl7.org/fhir/network-type."""
OAUTH_JTI = "urn:ietf:params:oauth:jti:"

Coding = tuple[str, str, str]
Json = dict[str, object]

APPLICATION: Coding = (DCM, "110150", "Application")
SOURCE: Coding = (DCM, "110153", "Source Role ID")
DESTINATION: Coding = (DCM, "110152", "Destination Role ID")
RECIPIENT: Coding = (PARTICIPATION, "IRCP", "information recipient")
AUTHOR: Coding = (PARTICIPATION, "AUT", "author (originator)")
REST: Coding = (AUDIT_TYPE, "rest", "Restful Operation")
EXPORT: Coding = (DCM, "110106", "Export")
IMPORT: Coding = (DCM, "110107", "Import")
ACTIVITY: Coding = (DCM, "110100", "Application Activity")


@dataclass(frozen=True, slots=True)
class Agent:
    """The software that writes the record: `name` and `version` of the product, `public_url` it answers under."""

    name: str
    version: str
    public_url: str


@dataclass(frozen=True, slots=True)
class Shape:
    """How one kind of event is written: its codes, which way data flows, the role of the user, and the profile that a
    record fits when it has all that the profile `needs`."""

    type: Coding
    subtypes: tuple[Coding, ...]
    action: str
    client: Coding
    profile: str | None = None
    needs: frozenset[str] = frozenset()
    user: Coding = RECIPIENT

    @property
    def server(self) -> Coding:
        """The role opposite to the client's."""
        return DESTINATION if self.client is SOURCE else SOURCE


_SEARCH: Coding = (INTERACTION, "search-type", "search-type")
_READ: Coding = (INTERACTION, "read", "read")
_CREATE: Coding = (INTERACTION, "create", "create")
_DISCLOSE: Coding = (LIFECYCLE, "disclose", "Disclose Record Lifecycle Event")
_OPERATION: Coding = (INTERACTION, "operation", "operation")
_SECURITY_ALERT: Coding = (DCM, "110113", "Security Alert")
_QUERY = frozenset({"patient", "query"})
_DATA = frozenset({"patient", "data"})

SHAPES: Mapping[Kind, Shape] = {
    Kind.SEARCH: Shape(REST, (_SEARCH,), "E", SOURCE, "IHE.BasicAudit.PatientQuery", _QUERY),
    Kind.READ: Shape(REST, (_READ,), "R", DESTINATION, "IHE.BasicAudit.PatientRead", _DATA),
    Kind.GRANT: Shape(
        EXPORT,
        (_DISCLOSE,),
        "R",
        DESTINATION,
        "IHE.BasicAudit.PrivacyDisclosure.Source",
        frozenset({"patient", "study_uid"}),
    ),
    Kind.RELEASE: Shape(EXPORT, ((DCM, "110102", "Begin Transferring DICOM Instances"),), "R", DESTINATION),
    Kind.RELEASE_END: Shape(EXPORT, ((DCM, "110104", "DICOM Instances Transferred"),), "R", DESTINATION),
    Kind.IMPORT: Shape(
        IMPORT,
        (_DISCLOSE, (LIFECYCLE, "receive", "Receive/Retain Record Lifecycle Event")),
        "C",
        DESTINATION,
        "IHE.BasicAudit.PrivacyDisclosure.Recipient",
        frozenset({"patient", "study_uid"}),
    ),
    Kind.QUERY_SENT: Shape(REST, (_SEARCH,), "E", SOURCE, "IHE.BasicAudit.PatientQuery", _QUERY),
    Kind.RETRIEVAL_SENT: Shape(IMPORT, ((DCM, "110103", "DICOM Instances Accessed"),), "E", DESTINATION),
    Kind.SUBSCRIPTION_CREATED: Shape(REST, (_CREATE,), "C", SOURCE, "IHE.BasicAudit.PatientCreate", _DATA, user=AUTHOR),
    Kind.SUBSCRIPTION_DELETED: Shape(REST, ((INTERACTION, "delete", "delete"),), "D", SOURCE),
    Kind.NOTIFICATION: Shape(REST, (_CREATE,), "C", DESTINATION),
    Kind.REGISTER: Shape(
        REST, ((INTERACTION, "update", "update"),), "U", SOURCE, "IHE.BasicAudit.PatientUpdate", _DATA, user=AUTHOR
    ),
    Kind.AUDIT_READ: Shape((DCM, "110101", "Audit Log Used"), (_READ,), "R", DESTINATION),
    Kind.ADMIN_READ: Shape(REST, (_READ,), "R", DESTINATION),
    Kind.JOB: Shape(ACTIVITY, ((INTERACTION, "update", "update"),), "U", SOURCE),
    Kind.REVOCATION: Shape(_SECURITY_ALERT, ((DCM, "110129", "Security Configuration"),), "U", SOURCE),
    Kind.CONSENT: Shape(REST, ((INTERACTION, "update", "update"),), "U", SOURCE),
    Kind.SECURITY_ALERT: Shape(_SECURITY_ALERT, (_OPERATION,), "E", SOURCE),
    Kind.OPERATION: Shape(REST, (_OPERATION,), "E", SOURCE),
    Kind.AUTHENTICATION_FAILED: Shape((DCM, "110114", "User Authentication"), ((DCM, "110122", "Login"),), "E", SOURCE),
    Kind.IDENTITIES_LOADED: Shape(ACTIVITY, ((INTERACTION, "update", "update"),), "U", APPLICATION),
    Kind.START: Shape(ACTIVITY, ((DCM, "110120", "Application Start"),), "E", APPLICATION),
    Kind.STOP: Shape(ACTIVITY, ((DCM, "110121", "Application Stop"),), "E", APPLICATION),
}

_BY_OPERATOR = frozenset({Kind.AUDIT_READ, Kind.ADMIN_READ, Kind.REVOCATION, Kind.CONSENT, Kind.JOB})
_CLIENT_SIDE = frozenset({Kind.QUERY_SENT, Kind.RETRIEVAL_SENT, Kind.IMPORT, Kind.REGISTER})
"""This gateway asked another service, which is named by `Event.peer`."""


def to_fhir(event: Event, custodian: HpiO, agent: Agent, recorded: datetime) -> Json:
    """The AuditEvent of one event, recorded (UTC) by `agent` for `custodian`."""
    shape = SHAPES[event.kind]
    observer: Json = {"display": f"{agent.name} {agent.version}", **_identified(HPIO_SYSTEM, custodian)}
    agents = _agents(event, shape, observer, agent)
    resource: Json = {
        "resourceType": "AuditEvent",
        "type": _coding(shape.type),
        "subtype": [_coding(subtype) for subtype in shape.subtypes],
        "action": shape.action,
        "recorded": recorded.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": event.outcome.value,
        "agent": agents,
        "source": {
            "site": custodian.uri,
            "observer": observer,
            "type": [
                _coding(("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server"))
            ],
        },
        "entity": _entities(event),
    }
    if shape.profile is not None and _fits(event, shape, agents):
        resource["meta"] = {"profile": [f"{BALP}/StructureDefinition/{shape.profile}"]}
    if reason := event.reason or _reasons(event):
        resource["outcomeDesc"] = reason
    if event.requester is not None:
        resource["purposeOfEvent"] = _purposes(event.requester)
    return resource


def _fits(event: Event, shape: Shape, agents: Sequence[Json]) -> bool:
    """Whether the record holds what its profile asks for: success, both sides of the connection, and `shape.needs`."""
    facts = {
        "patient": event.patient,
        "query": event.query,
        "study_uid": event.study_uid,
        "data": event.resource or event.envelope_id,
    }
    return (
        event.outcome is Outcome.SUCCESS
        and all("network" in agent for agent in agents[:2])
        and all(facts[need] is not None for need in shape.needs)
    )


def _reasons(event: Event) -> str:
    return "; ".join(event.verdict.reasons) if event.verdict is not None and not event.verdict.allowed else ""


def _agents(event: Event, shape: Shape, observer: Json, agent: Agent) -> list[Json]:
    """The two ends of the connection, the client first, and then the user and the organisation of the token."""
    ours: Json = {
        "who": observer,
        "requestor": event.requester is None,
        "network": {"address": agent.public_url, "type": NETWORK_URI},
    }
    if shape.client is APPLICATION:
        return [ours | {"type": _concept(APPLICATION)}]
    other: Json = {"who": {"display": "not identified"}, "requestor": False}
    if event.peer is not None:
        other["who"] = {"identifier": {"system": URI_SYSTEM, "value": event.peer}}
        other["network"] = {"address": event.peer, "type": NETWORK_URI}
    elif event.caller is not None and event.caller.address:
        other["network"] = {"address": event.caller.address, "type": NETWORK_IP}
    if event.requester is not None:
        other["who"] = {"identifier": {"value": event.requester.client_id}}
    users = _users(event.requester, shape)
    if event.kind in _CLIENT_SIDE:
        return [ours | {"type": _concept(shape.client)}, other | {"type": _concept(shape.server)}, *users]
    if event.kind in _BY_OPERATOR:
        other |= {"who": {"display": "operator"}, "requestor": True}
        ours["requestor"] = False
    return [other | {"type": _concept(shape.client)}, ours | {"type": _concept(shape.server)}, *users]


def _users(requester: Requester | None, shape: Shape) -> list[Json]:
    """BALP's `user` and `userorg`, from the token."""
    if requester is None:
        return []
    who: Json = {"identifier": {"system": requester.issuer, "value": requester.subject}}
    if requester.practitioner is not None:
        who = _identified(HPII_SYSTEM, requester.practitioner)
    return [
        {
            "type": _concept(shape.user),
            "who": who,
            "altId": requester.subject,
            "requestor": True,
            "policy": [f"{OAUTH_JTI}{requester.token_id}"],
            "purposeOfUse": _purposes(requester),
        },
        {
            "type": _concept((ROLE_CLASS, "PROV", "healthcare provider")),
            "who": _identified(HPIO_SYSTEM, requester.organisation),
            "requestor": False,
        },
    ]


def _entities(event: Event) -> list[Json]:
    entities: list[Json] = [
        {
            "what": {"identifier": {"value": event.request_id}},
            "type": _coding((BALP_ENTITY, "XrequestId", "X-Request-ID")),
        }
    ]
    if event.patient is not None:
        entities.append(
            {
                "what": {"type": "Patient", **_identified(IHI_SYSTEM, event.patient)},
                "type": _coding((ENTITY_TYPE, "1", "Person")),
                "role": _coding((OBJECT_ROLE, "1", "Patient")),
            }
        )
    if event.query is not None:
        entities.append(
            {
                "type": _coding((ENTITY_TYPE, "2", "System Object")),
                "role": _coding((OBJECT_ROLE, "24", "Query")),
                "query": base64.b64encode(event.query).decode(),
            }
        )
    if event.resource is not None:
        entities.append(
            {
                "what": {"reference": event.resource},
                "type": _coding((ENTITY_TYPE, "2", "System Object")),
                "role": _coding((OBJECT_ROLE, "4", "Domain Resource")),
            }
        )
    if event.study_uid is not None:
        entities.append(
            _object(
                {"system": "urn:dicom:uid", "value": f"urn:oid:{event.study_uid}"},
                (DCM, "110180", "Study Instance UID"),
            )
        )
    if event.envelope_id is not None:
        entities.append(
            _object(
                {"system": URI_SYSTEM, "value": f"urn:uuid:{event.envelope_id}"}, (ENTITY_TYPE, "2", "System Object")
            )
        )
    if details := _details(event):
        entities.append({"type": _coding((ENTITY_TYPE, "4", "Other")), "detail": details})
    return entities


def _object(identifier: Json, kind: Coding) -> Json:
    return {"what": {"identifier": identifier}, "type": _coding(kind), "role": _coding((OBJECT_ROLE, "3", "Report"))}


def _details(event: Event) -> list[Json]:
    named = [("count", event.count), ("bytes", event.bytes), *event.details]
    if event.caller is not None:
        named.append(("callers-request-id", event.caller.request_id))
    if event.verdict is not None:
        named += [
            (f"rule.{said.rule}", f"{'allowed' if said.allowed else 'refused'}: {said.reason}")
            for said in event.verdict.by
        ]
    return [{"type": name, "valueString": str(value)} for name, value in named if value is not None]


def _purposes(requester: Requester) -> list[Json]:
    return [{"coding": [{"system": ACT_REASON, "code": purpose}]} for purpose in requester.purposes]


def _identified(system: str, value: str) -> Json:
    return {"identifier": {"system": system, "value": str(value)}}


def _coding(coding: Coding) -> Json:
    system, code, display = coding
    return {"system": system, "code": code, "display": display}


def _concept(coding: Coding) -> Json:
    return {"coding": [_coding(coding)]}
