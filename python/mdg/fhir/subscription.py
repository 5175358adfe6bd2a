"""Subscription with the extensions of the R5 Backport IG 1.1.0 for R4, and what is sent for it (spec/fhir 6).

A notification is a history Bundle whose first entry says how the subscription stands; it names resources and never
holds one. Whatever of a request is not understood is refused with what would be: a filter that is ignored is a
disclosure. No refusal repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import orjson

from mdg.errors import Unprocessable
from mdg.fhir import FHIR_JSON, Json
from mdg.fhir.dates import instant
from mdg.fhir.imaging_study import UID, UID_SYSTEM
from mdg.fhir.search import names_person
from mdg.model.identity import IHI_SYSTEM_JMIX_ALIAS, Ihi
from mdg.model.subscription import Message, Numbered, Payload, Said, Subscription, Topic, Wanted

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport"
PROFILE = f"{BACKPORT}/StructureDefinition/backport-subscription"
FILTER = f"{BACKPORT}/StructureDefinition/backport-filter-criteria"
CONTENT = f"{BACKPORT}/StructureDefinition/backport-payload-content"
TOPIC_EXTENSION = f"{BACKPORT}/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"
STATUS_OPERATION = f"{BACKPORT}/OperationDefinition/backport-subscription-status"
REASONS = {
    Topic.PATIENT_IMAGING: "New and changed imaging of one patient",
    Topic.STUDY: "Changes of one study",
}
"""Subscription.reason, which R4 requires. What the subscriber writes there may name a person, and is not kept."""
FILTERS = {Topic.PATIENT_IMAGING: "patient:identifier", Topic.STUDY: "identifier"}

_READ = {"resourceType", "status", "criteria", "_criteria", "channel", "end"}
_NOT_KEPT = {"id", "meta", "text", "reason", "contact"}
_CHANNEL = {"type", "endpoint", "payload", "_payload", "header"}
_AUTHORIZATION = re.compile(r"Authorization: ?([!-~]{1,64} [!-~]{1,2048})", re.IGNORECASE)
_CRITERION = re.compile(r"(?:ImagingStudy[.?])?([A-Za-z:_.-]{1,64})=(.{1,512})")


def topic_canonical(topic: Topic, canonical_base: str) -> str:
    """What `Subscription.criteria` holds for a topic."""
    return f"{canonical_base}/SubscriptionTopic/{topic}"


def parse(resource: Mapping[str, object], canonical_base: str) -> Wanted:
    """What is asked for. `Unprocessable` names the element that is not offered and what is."""
    if resource.get("resourceType") != "Subscription":
        raise _refused("resourceType is Subscription", "resource-type")
    if not (_READ | _NOT_KEPT).issuperset(resource):
        raise _refused("an element is not supported here; supported: " + ", ".join(sorted(_READ)), "element")
    if resource.get("status", "requested") != "requested":
        raise _refused("a new subscription has the status requested", "status")
    topic = next((one for one in Topic if topic_canonical(one, canonical_base) == resource.get("criteria")), None)
    if topic is None:
        known = ", ".join(topic_canonical(one, canonical_base) for one in Topic)
        raise _refused(f"criteria is the canonical of a topic: {known}", "topic")
    value = _filter(topic, _extensions(resource.get("_criteria"), FILTER, "valueString", "filter"))
    endpoint, payload, authorization = _channel(resource.get("channel"))
    return Wanted(
        topic=topic,
        patient=_patient(value) if topic is Topic.PATIENT_IMAGING else None,
        study=_study(value) if topic is Topic.STUDY else None,
        endpoint=endpoint,
        payload=payload,
        authorization=authorization,
        end=_end(resource["end"]) if "end" in resource else None,
    )


def subscription(one: Subscription, canonical_base: str) -> Json:
    """The resource as its owner reads it. What is sent in the header Authorization is never shown again."""
    wanted = one.wanted
    value = f"{Ihi.system}|{wanted.patient}" if wanted.patient else f"{UID_SYSTEM}|urn:oid:{wanted.study}"
    criterion = {"url": FILTER, "valueString": f"ImagingStudy?{FILTERS[wanted.topic]}={value}"}
    resource: Json = {
        "resourceType": "Subscription",
        "id": one.id,
        "meta": {"profile": [PROFILE]},
        "status": one.status.value,
        "reason": REASONS[wanted.topic],
        "criteria": topic_canonical(wanted.topic, canonical_base),
        "_criteria": {"extension": [criterion]},
        "channel": {
            "type": "rest-hook",
            "endpoint": wanted.endpoint,
            "payload": FHIR_JSON,
            "_payload": {"extension": [{"url": CONTENT, "valueCode": wanted.payload.value}]},
        },
    }
    return resource | ({"end": instant(wanted.end)} if wanted.end else {})


def notification(
    one: Subscription, fhir: str, canonical_base: str, event: Numbered | None = None, focus: str = ""
) -> Json:
    """The Bundle that is sent: one `event` with the logical id of the ImagingStudy that it may name (`focus`), or a
    handshake where there is none. An event that may not be told goes out under its number without a focus."""
    said = Said.EVENT if event else Said.HANDSHAKE
    shown = focus if one.wanted.payload is Payload.ID_ONLY else ""
    url = f"{fhir}/ImagingStudy/{shown}" if shown else ""
    entries: list[Json] = [
        {
            "fullUrl": uuid4().urn,
            "resource": _status(one, said, fhir, canonical_base, [(event, url)] if event else []),
            "request": {"method": "GET", "url": f"{fhir}/Subscription/{one.id}/$status"},
            "response": {"status": "200"},
        }
    ]
    if url:
        request = {"method": "PUT", "url": f"ImagingStudy/{shown}"}
        entries.append({"fullUrl": url, "request": request, "response": {"status": "200"}})
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [f"{BACKPORT}/StructureDefinition/backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(datetime.now(UTC)),
        "entry": entries,
    }


def message(fhir: str, canonical_base: str, one: Subscription, event: Numbered | None, focus: str) -> Message:
    """The notification as it is sent."""
    return Message(FHIR_JSON, orjson.dumps(notification(one, fhir, canonical_base, event, focus)))


def status(one: Subscription, fhir: str, canonical_base: str) -> Json:
    """The answer of `$status`."""
    id_ = uuid4()
    resource = {**_status(one, Said.QUERY, fhir, canonical_base), "id": str(id_)}
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "link": [{"relation": "self", "url": f"{fhir}/Subscription/{one.id}/$status"}],
        "entry": [{"fullUrl": id_.urn, "resource": resource, "search": {"mode": "match"}}],
    }


def _status(
    one: Subscription, said: Said, fhir: str, canonical_base: str, events: Sequence[tuple[Numbered, str]] = ()
) -> Json:
    parameters: list[Json] = [
        {"name": "subscription", "valueReference": {"reference": f"{fhir}/Subscription/{one.id}"}},
        {"name": "status", "valueCode": one.status.value},
        {"name": "type", "valueCode": said.value},
        {"name": "events-since-subscription-start", "valueString": str(one.events)},
    ]
    if one.wanted.payload is not Payload.EMPTY:  # whoever wants nothing said on the way is not told of what either
        parameters.insert(1, {"name": "topic", "valueCanonical": topic_canonical(one.wanted.topic, canonical_base)})
    for event, url in events:
        part: list[Json] = [
            {"name": "event-number", "valueString": str(event.number)},
            {"name": "timestamp", "valueInstant": instant(event.time)},
        ]
        if url:
            part.append({"name": "focus", "valueReference": {"reference": url, "type": "ImagingStudy"}})
        parameters.append({"name": "notification-event", "part": part})
    return {
        "resourceType": "Parameters",
        "meta": {"profile": [f"{BACKPORT}/StructureDefinition/backport-subscription-status-r4"]},
        "parameter": parameters,
    }


def _channel(channel: object) -> tuple[str, Payload, str | None]:
    if not isinstance(channel, dict) or not _CHANNEL.issuperset(channel):
        raise _refused("channel has " + ", ".join(sorted(_CHANNEL)) + " and nothing else", "channel")
    if channel.get("type") != "rest-hook":
        raise _refused("channel.type is rest-hook", "channel-type")
    endpoint = channel.get("endpoint")
    if not isinstance(endpoint, str) or names_person(endpoint):
        raise _refused("channel.endpoint is the URL to which notifications are posted, and names nobody", "endpoint")
    if channel.get("payload") != FHIR_JSON:
        raise _refused(f"channel.payload is {FHIR_JSON}", "payload-type")
    contents = _extensions(channel.get("_payload"), CONTENT, "valueCode", "channel.payload")
    if len(contents) != 1 or contents[0] not in set(Payload):
        raise _refused(f"the extension {CONTENT} of channel.payload is empty or id-only", "payload-content")
    return endpoint, Payload(contents[0]), _authorization(channel.get("header", []))


def _authorization(headers: object) -> str | None:
    if headers == []:
        return None
    found = _AUTHORIZATION.fullmatch(str(headers[0])) if isinstance(headers, list) and len(headers) == 1 else None
    if found is None:
        raise _refused("channel.header is one header, Authorization: <scheme> <value>", "header")
    return found[1]


def _filter(topic: Topic, criteria: Sequence[str]) -> str:
    """The value of the one filter that a topic has."""
    name = FILTERS[topic]
    found = _CRITERION.fullmatch(criteria[0]) if len(criteria) == 1 else None
    if found is None or found[1] != name:
        why = f"the topic {topic} has exactly one filter, the extension {FILTER} of criteria: {name}=<system>|<value>"
        raise _refused(why, "filter")
    return found[2]


def _patient(value: str) -> Ihi:
    system, _, digits = value.partition("|")
    try:
        if system in (Ihi.system, IHI_SYSTEM_JMIX_ALIAS):
            return Ihi.parse(digits)
    except ValueError:
        pass  # the answer is the same
    raise _refused(f"one patient is named, by a valid IHI: patient:identifier={Ihi.system}|<value>", "patient")


def _study(value: str) -> str:
    system, _, text = value.rpartition("|")
    uid = text.removeprefix("urn:oid:")
    if system not in ("", UID_SYSTEM) or not UID.match(uid):
        raise _refused(f"one study is named: identifier={UID_SYSTEM}|urn:oid:<StudyInstanceUID>", "study")
    return uid


def _end(value: object) -> datetime:
    try:
        end = datetime.fromisoformat(str(value))
        if end.tzinfo is not None:
            return end.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # the answer is the same
    raise _refused("end is an instant with its offset, as in 2026-12-31T00:00:00Z", "end")


def _extensions(element: object, url: str, kind: str, where: str) -> list[str]:
    """The texts in the extensions of an element, all of which must be of `url`."""
    if element is None:
        return []
    found = element.get("extension") if isinstance(element, dict) and set(element) == {"extension"} else None
    texts = []
    for one in found if isinstance(found, list) else [None]:
        text = one.get(kind) if isinstance(one, dict) and one == {"url": url, kind: one.get(kind)} else None
        if not isinstance(text, str):
            raise _refused(f"{where} has extensions {url} with {kind}, and no other", "extension")
        texts.append(text)
    return texts


def _refused(why: str, reason: str) -> Unprocessable:
    return Unprocessable(why, reason=f"subscription-{reason}")
