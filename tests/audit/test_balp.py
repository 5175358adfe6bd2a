"""Every kind of record is a valid AuditEvent and fits the profile of IHE BALP that it claims; a checker that finds
nothing would find nothing in a broken record either, so each of its rules is shown to fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.access.test_decide import SUBJECT
from tests.audit.balp import BASE, PROFILES, faults
from tests.authority import CUSTODIAN, PATIENT

from mdg.audit import Agent
from mdg.audit.event import to_fhir
from mdg.model.caller import Caller
from mdg.model.event import Event, Kind, Outcome

Json = dict[str, Any]
AGENT = Agent("mdg", "0.1", "https://mdg.example.org")
CALLER = Caller("192.0.2.7", "a7a1f9f0-2d2f-4c0b-8a59-0e1f4f0a7c11")
AT = datetime(2026, 5, 2, 1, 0, tzinfo=UTC)
OURS = frozenset(
    {Kind.QUERY_SENT, Kind.RETRIEVAL_SENT, Kind.IMPORT, Kind.REGISTER, Kind.IDENTITIES_LOADED, Kind.START, Kind.STOP}
)
"""Kinds that no token of a caller is behind."""
CLAIMED = {
    Kind.SEARCH: "PatientQuery",
    Kind.READ: "PatientRead",
    Kind.GRANT: "PrivacyDisclosure.Source",
    Kind.IMPORT: "PrivacyDisclosure.Recipient",
    Kind.QUERY_SENT: "PatientQuery",
    Kind.SUBSCRIPTION_CREATED: "PatientCreate",
    Kind.REGISTER: "PatientUpdate",
}


def record(kind: Kind, **changed: Any) -> Json:
    """A record of the kind as the doors and stories write it."""
    facts: dict[str, Any] = {"patient": PATIENT, "study_uid": "1.2.3", "count": 1, "caller": CALLER}
    if kind not in OURS:
        facts["requester"] = SUBJECT
    if kind in (Kind.SEARCH, Kind.QUERY_SENT):
        facts |= {"query": b"patient.identifier=x", "study_uid": None}
    if kind in (Kind.READ, Kind.SUBSCRIPTION_CREATED, Kind.SUBSCRIPTION_DELETED, Kind.NOTIFICATION):
        facts["resource"] = "Subscription/s-1"
    if kind is Kind.REGISTER:
        facts["resource"] = "urn:uuid:0a6d2c5e-64a6-4f5d-9a0a-0d8c4d6f7e10"
    if kind in (Kind.GRANT, Kind.RELEASE, Kind.RELEASE_END, Kind.IMPORT):
        facts["envelope_id"] = "0a6d2c5e-64a6-4f5d-9a0a-0d8c4d6f7e10"
    if kind in (Kind.QUERY_SENT, Kind.RETRIEVAL_SENT, Kind.IMPORT, Kind.REGISTER, Kind.NOTIFICATION):
        facts["peer"] = "https://other.example.org"
    outcome = changed.pop("outcome", Outcome.SUCCESS)
    event = Event(kind, outcome, "0b8e76e1-19a8-4c96-8a43-4a9772f5c6e1", **(facts | changed))
    made: Json = json.loads(json.dumps(to_fhir(event, CUSTODIAN, AGENT, AT)))
    return made


def claims(event: Json) -> list[str]:
    return [profile.removeprefix(BASE) for profile in event.get("meta", {}).get("profile", [])]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_record_of_every_kind_is_valid_and_fits_what_it_claims(kind: Kind) -> None:
    event = record(kind)
    assert faults(event) == []
    assert claims(event) == ([CLAIMED[kind]] if kind in CLAIMED else [])


@pytest.mark.parametrize("kind", CLAIMED)
@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.FAILURE])
def test_a_record_of_what_was_refused_or_failed_is_valid_and_claims_nothing(kind: Kind, outcome: Outcome) -> None:
    event = record(kind, outcome=outcome)
    assert (faults(event), claims(event)) == ([], [])


@pytest.mark.parametrize("kind", CLAIMED)
def test_a_record_that_lacks_what_its_profile_asks_for_claims_nothing(kind: Kind) -> None:
    for name in ("patient", "peer", "query", "resource", "study_uid", "envelope_id"):
        assert faults(record(kind, **{name: None})) == [], name
    if kind not in OURS:
        for caller in (None, Caller("", None)):
            event = record(kind, caller=caller)
            assert (faults(event), claims(event)) == ([], [])


def test_a_manifest_is_read_by_its_envelope() -> None:
    event = record(Kind.READ, resource=None, envelope_id="0a6d2c5e-64a6-4f5d-9a0a-0d8c4d6f7e10")
    assert (faults(event), claims(event)) == ([], ["PatientRead"])


def test_a_record_has_the_callers_address_also_when_nobody_knows_who_it_is() -> None:
    event = record(Kind.AUTHENTICATION_FAILED, requester=None, outcome=Outcome.REFUSED)
    assert event["agent"][0]["who"] == {"display": "not identified"}
    assert event["agent"][0]["network"] == {"address": "192.0.2.7", "type": "2"}
    assert {"type": "callers-request-id", "valueString": CALLER.request_id} in event["entity"][-1]["detail"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each member of an object, at every depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))


def changed(event: Json, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Json:
    mutant = copy.deepcopy(event)
    at: Any = mutant
    for step in path[:-1]:
        at = at[step]
    change(at, path[-1])
    return mutant


def remove(at: Any, name: Any) -> None:
    del at[name]


@pytest.mark.parametrize("kind", CLAIMED)
def test_a_record_that_lacks_a_required_element_is_found_out(kind: Kind) -> None:
    event = record(kind)
    caught = {path for path in leaves(event) if faults(changed(event, path, remove))}
    required: set[tuple[Any, ...]] = {
        ("type",),
        ("recorded",),
        ("outcome",),
        ("action",),
        ("subtype",),
        ("agent",),
        ("source",),
        ("entity",),
        ("source", "observer"),
    }
    required |= {("agent", end, name) for end in (0, 1) for name in ("type", "who", "network", "requestor")}
    patient = next(n for n, one in enumerate(event["entity"]) if one.get("role", {}).get("code") == "1")
    required |= {("entity", patient, name) for name in ("what", "type", "role")}
    assert required <= caught


def mutants(event: Json) -> Iterator[tuple[str, Json]]:
    """Records that differ in one thing from a good one, each by a rule of its own."""
    ends = event["agent"][0], event["agent"][1]
    yield "roles the other way round", {**event, "agent": [{**ends[0], "type": ends[1]["type"]}, *event["agent"][1:]]}
    yield "client twice", {**event, "agent": [ends[0], *event["agent"]]}
    yield "patient twice", {**event, "entity": event["entity"] + [one for one in event["entity"] if patient(one)]}
    yield "another type", {**event, "type": {**event["type"], "code": "110100"}}
    yield "another action", {**event, "action": "D"}
    yield "another subtype", {**event, "subtype": [{"system": "urn:x", "code": "x"}]}
    yield "an element that R4 does not have", {**event, "severity": "low"}
    yield "an outcome that R4 does not have", {**event, "outcome": "1"}
    yield "an empty list", {**event, "entity": []}
    yield "an empty text", {**event, "outcomeDesc": " "}
    yield "another recorder", {**event, "source": {**event["source"], "observer": {}}}
    for number, one in enumerate(event["entity"]):
        if patient(one):
            what = {**one, "what": {**one["what"], "type": "Practitioner"}}
            yield "a patient that is none", {**event, "entity": [*event["entity"][:number], what]}
        if one.get("type", {}).get("code") == "XrequestId":
            bare = {**one, "what": {"display": "x"}}
            yield "a request without an id", {**event, "entity": [bare, *event["entity"][1:]]}


def patient(entity: Json) -> bool:
    return bool(entity.get("role", {}).get("code") == "1")


@pytest.mark.parametrize("kind", CLAIMED)
def test_a_record_that_breaks_one_rule_is_found_out(kind: Kind) -> None:
    for name, mutant in mutants(record(kind)):
        if name == "a request without an id" and CLAIMED[kind].startswith("PrivacyDisclosure"):
            continue  # those two profiles have no such slice
        assert faults(mutant), name


@pytest.mark.parametrize("kind", [Kind.GRANT, Kind.IMPORT])
def test_a_disclosure_that_another_agent_records_is_found_out(kind: Kind) -> None:
    event = record(kind)
    event["source"]["observer"]["display"] = "somebody else"
    assert any("val-audit-source" in fault for fault in faults(event))


@pytest.mark.parametrize("kind", [Kind.SEARCH, Kind.READ, Kind.SUBSCRIPTION_CREATED])
def test_a_second_object_a_wrong_user_or_a_users_address_is_found_out(kind: Kind) -> None:
    event = record(kind)
    second = {**event, "entity": event["entity"] + [one for one in event["entity"] if one["type"]["code"] == "2"]}
    assert faults(second)
    user = next(n for n, one in enumerate(event["agent"]) if one["requestor"])
    for change in ({"network": {"address": "192.0.2.7", "type": "2"}}, {"requestor": False}):
        mutant = copy.deepcopy(event)
        mutant["agent"][user] |= change
        assert faults(mutant), change


def test_every_profile_in_the_table_is_claimed_by_some_kind() -> None:
    assert {profile.removeprefix(BASE) for profile in PROFILES} == set(CLAIMED.values())
