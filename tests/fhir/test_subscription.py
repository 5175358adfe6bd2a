"""Subscription as the Backport IG has it: read strictly, and notifications that name and never hold a resource."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mdg.errors import Unprocessable
from mdg.fhir.subscription import CONTENT, FILTER, notification, parse, status, subscription
from mdg.model.identity import HpiO, Ihi
from mdg.model.request import Requester
from mdg.model.subscription import Numbered, Payload, Status, Subscription, Topic, Wanted

BASE = "https://w3id.org/mdg"
FHIR = "https://mdg.example.org/fhir"
IHI = Ihi("8003608833357361")
NOW = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)
Json = dict[str, Any]


def asked(topic: str = "patient-imaging", criterion: str = f"patient:identifier={Ihi.system}|{IHI}") -> Json:
    """A good Subscription, as a client writes it."""
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "Tumour board of Ada Phantom",
        "criteria": f"{BASE}/SubscriptionTopic/{topic}",
        "_criteria": {"extension": [{"url": FILTER, "valueString": criterion}]},
        "channel": {
            "type": "rest-hook",
            "endpoint": "https://ris.example.org/notified",
            "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": CONTENT, "valueCode": "id-only"}]},
            "header": ["Authorization: Bearer secret"],
        },
        "end": "2026-12-31T00:00:00+10:00",
    }


WANTED = Wanted(
    Topic.PATIENT_IMAGING,
    IHI,
    None,
    "https://ris.example.org/notified",
    Payload.ID_ONLY,
    "Bearer secret",
    datetime(2026, 12, 30, 14, tzinfo=UTC),
)
OWNER = Requester(
    "https://as.example", "c", "c", HpiO("8003626566707032"), None, ("TREAT",), IHI, frozenset(), "key", "token", NOW
)
ONE = Subscription("sub-1", OWNER, IHI, WANTED, Status.ACTIVE, NOW, events=7, delivered=6)


@pytest.mark.parametrize("prefix", ["", "ImagingStudy?", "ImagingStudy."])
def test_a_good_subscription_is_understood(prefix: str) -> None:
    assert parse(asked(criterion=f"{prefix}patient:identifier={Ihi.system}|{IHI}"), BASE) == WANTED


@pytest.mark.parametrize("value", ["urn:dicom:uid|urn:oid:1.2.3", "urn:dicom:uid|1.2.3", "1.2.3"])
def test_a_study_is_named_as_in_a_search(value: str) -> None:
    found = parse(asked("study", f"identifier={value}"), BASE)
    assert (found.topic, found.patient, found.study) == (Topic.STUDY, None, "1.2.3")


def without(*path: str) -> Callable[[Json], None]:
    def change(resource: Json) -> None:
        for name in path[:-1]:
            resource = resource[name]
        del resource[path[-1]]

    return change


def having(*path: str, value: Any) -> Callable[[Json], None]:
    def change(resource: Json) -> None:
        for name in path[:-1]:
            resource = resource[name]
        resource[path[-1]] = value

    return change


def criterion(*values: str) -> Callable[[Json], None]:
    return having("_criteria", value={"extension": [{"url": FILTER, "valueString": value} for value in values]})


OTHER = {"url": "http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.topic", "valueUri": "x"}
REFUSED: list[tuple[str, Callable[[Json], None]]] = [
    ("resource-type", having("resourceType", value="Basic")),
    ("element", having("extension", value=[OTHER])),
    ("element", having("modifierExtension", value=[OTHER])),
    ("status", having("status", value="active")),
    ("topic", having("criteria", value=f"{BASE}/SubscriptionTopic/consent-change")),
    ("topic", having("criteria", value="ImagingStudy?patient=Patient/1")),
    ("topic", having("criteria", value=["x"])),
    ("topic", without("criteria")),
    ("filter", without("_criteria")),
    ("filter", criterion()),
    ("filter", criterion("modality=CT")),
    ("filter", criterion(f"patient:identifier={Ihi.system}|{IHI}", "modality=CT")),
    ("filter", criterion(f"patient={IHI}")),
    ("filter", criterion(f"Patient.patient:identifier={Ihi.system}|{IHI}")),
    ("extension", having("_criteria", "extension", value=[{"url": FILTER, "valueString": "a=b", "id": "x"}])),
    ("extension", having("_criteria", "extension", value=[OTHER])),
    ("extension", having("_criteria", value={"id": "x"})),
    ("extension", having("_criteria", value=[])),
    ("patient", criterion("patient:identifier=*")),
    ("patient", criterion(f"patient:identifier={Ihi.system}|*")),
    ("patient", criterion(f"patient:identifier={IHI}")),
    ("patient", criterion(f"patient:identifier={Ihi.system}|{IHI},{Ihi.system}|8003608166690503")),
    ("patient", criterion(f"patient:identifier={Ihi.system}|8003608833357362")),
    ("channel", without("channel")),
    ("channel", having("channel", "extension", value=[OTHER])),
    ("channel-type", having("channel", "type", value="email")),
    ("endpoint", without("channel", "endpoint")),
    ("endpoint", having("channel", "endpoint", value=f"https://ris.example.org/patients/{IHI}")),
    ("payload-type", having("channel", "payload", value="application/fhir+xml")),
    ("payload-type", without("channel", "payload")),
    ("payload-content", without("channel", "_payload")),
    (
        "payload-content",
        having("channel", "_payload", "extension", value=[{"url": CONTENT, "valueCode": "full-resource"}]),
    ),
    ("header", having("channel", "header", value=["Host: evil.example"])),
    ("header", having("channel", "header", value=["Authorization: Bearer x\r\nHost: evil.example"])),
    ("header", having("channel", "header", value=["Authorization: Bearer x", "Authorization: Bearer y"])),
    ("header", having("channel", "header", value="Authorization: Bearer x")),
    ("end", having("end", value="2026-12-31")),
    ("end", having("end", value="9999-12-31T23:59:59-12:00")),
    ("end", having("end", value=5)),
]


@pytest.mark.parametrize(("reason", "change"), REFUSED, ids=[f"{n}-{row[0]}" for n, row in enumerate(REFUSED)])
def test_what_is_not_offered_is_refused_by_its_name_and_repeats_nothing(
    reason: str, change: Callable[[Json], None]
) -> None:
    resource = copy.deepcopy(asked())
    change(resource)
    with pytest.raises(Unprocessable) as refused:
        parse(resource, BASE)
    assert refused.value.reason == f"subscription-{reason}"
    assert not [
        word for word in (IHI, "evil", "secret", "Ada", "8003608833357362") if word in refused.value.diagnostics
    ]


@pytest.mark.parametrize("value", ["*", "urn:dicom:uid|*", "1.2.3,1.2.4", "urn:other|1.2.3", "1..2"])
def test_one_study_is_one(value: str) -> None:
    with pytest.raises(Unprocessable, match="one study"):
        parse(asked("study", f"identifier={value}"), BASE)


def test_the_owner_reads_what_was_asked_but_for_the_secret_and_the_reason() -> None:
    resource = subscription(ONE, BASE)
    assert "secret" not in str(resource)
    assert "Ada" not in str(resource)
    assert parse(resource | {"status": "requested"}, BASE) == replace(WANTED, authorization=None)


def test_narrative_is_not_kept() -> None:
    text = {"status": "generated", "div": "<div><script>alert(1)</script></div>"}
    found = parse(asked() | {"text": text, "contact": [{"value": "<script>"}]}, BASE)
    assert found == WANTED
    assert "<" not in str(subscription(replace(ONE, wanted=found), BASE))


def parameters(bundle: Json) -> Json:
    """The values in the first entry's Parameters, each under its name."""
    found = bundle["entry"][0]["resource"]
    assert found["resourceType"] == "Parameters"
    return {one["name"]: next(value for name, value in one.items() if name != "name") for one in found["parameter"]}


EVENT = Numbered(7, "1.2.3", NOW)


def check_history(bundle: Json) -> None:
    """What the profile and the invariants of a history Bundle ask of every notification."""
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "history")
    assert all({"request", "response"} <= set(entry) for entry in bundle["entry"])
    assert bundle["entry"][0]["request"] == {"method": "GET", "url": f"{FHIR}/Subscription/sub-1/$status"}
    assert not [entry for entry in bundle["entry"][1:] if "resource" in entry]


def test_an_event_names_the_study_under_its_number() -> None:
    bundle = notification(ONE, FHIR, BASE, EVENT, "st-1")
    check_history(bundle)
    told = parameters(bundle)
    assert (told["type"], told["status"]) == ("event-notification", "active")
    assert told["subscription"] == {"reference": f"{FHIR}/Subscription/sub-1"}
    assert told["events-since-subscription-start"] == "7"
    assert {"name": "event-number", "valueString": "7"} in told["notification-event"]
    assert told["notification-event"][-1]["valueReference"]["reference"] == f"{FHIR}/ImagingStudy/st-1"
    assert [entry["fullUrl"] for entry in bundle["entry"][1:]] == [f"{FHIR}/ImagingStudy/st-1"]


def test_an_event_that_may_not_be_told_goes_out_under_its_number_alone() -> None:
    bundle = notification(ONE, FHIR, BASE, EVENT)
    check_history(bundle)
    assert len(bundle["entry"]) == 1
    assert [part["name"] for part in parameters(bundle)["notification-event"]] == ["event-number", "timestamp"]


def test_an_empty_notification_names_neither_study_nor_topic() -> None:
    empty = replace(ONE, wanted=replace(WANTED, payload=Payload.EMPTY))
    bundle = notification(empty, FHIR, BASE, EVENT, "st-1")
    check_history(bundle)
    assert len(bundle["entry"]) == 1
    assert "st-1" not in str(bundle)
    assert "topic" not in parameters(bundle)


def test_a_handshake_has_no_event() -> None:
    bundle = notification(replace(ONE, status=Status.REQUESTED), FHIR, BASE)
    check_history(bundle)
    told = parameters(bundle)
    assert (told["type"], told["status"], "notification-event" in told) == ("handshake", "requested", False)


def test_status_has_an_id_and_a_self_link_as_every_search_set() -> None:
    bundle = status(ONE, FHIR, BASE)
    assert bundle["link"] == [{"relation": "self", "url": f"{FHIR}/Subscription/sub-1/$status"}]
    (entry,) = bundle["entry"]
    assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"


def test_status_is_a_search_set_that_names_the_subscription() -> None:
    bundle = status(ONE, FHIR, BASE)
    assert (bundle["type"], bundle["total"]) == ("searchset", 1)
    told = parameters(bundle)
    assert (told["type"], told["subscription"]["reference"]) == ("query-status", f"{FHIR}/Subscription/sub-1")


def test_nothing_that_is_sent_names_the_person() -> None:
    for bundle in (notification(ONE, FHIR, BASE, EVENT, "st-1"), status(ONE, FHIR, BASE)):
        assert IHI not in str(bundle)
        assert "secret" not in str(bundle)
