"""Events as AuditEvents: who plays which role, and what is never in them (spec/audit 2, 3)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.access.test_decide import SUBJECT
from tests.authority import CUSTODIAN, ORGANISATION, PATIENT, PRACTITIONER

from mdg.audit import Agent
from mdg.audit.event import SHAPES, to_fhir
from mdg.model.event import Event, Kind, Outcome
from mdg.model.request import RuleVerdict, Verdict

AGENT = Agent("mdg", "0.1", "https://mdg.example.org")
AT = datetime(2026, 5, 2, 1, 0, 0, 123456, tzinfo=UTC)


def written(kind: Kind, **facts: Any) -> dict[str, Any]:
    event = Event(kind, facts.pop("outcome", Outcome.SUCCESS), "req-1", **facts)
    resource: dict[str, Any] = json.loads(json.dumps(to_fhir(event, CUSTODIAN, AGENT, AT)))
    return resource


def role(agent: dict[str, Any]) -> str:
    return str(agent["type"]["coding"][0]["code"])


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_what_an_audit_event_must_have(kind: Kind) -> None:
    resource = written(kind, requester=SUBJECT)
    assert resource["resourceType"] == "AuditEvent"
    assert resource["recorded"] == "2026-05-02T01:00:00.123Z"
    assert resource["action"] in "CRUDE"
    assert resource["source"]["observer"]["identifier"]["value"] == CUSTODIAN
    assert all(isinstance(agent["requestor"], bool) for agent in resource["agent"])
    assert {"system", "code"} <= set(resource["type"])
    joined = [entity for entity in resource["entity"] if entity.get("type", {}).get("code") == "XrequestId"]
    assert joined[0]["what"]["identifier"]["value"] == "req-1"


def test_every_kind_has_a_shape() -> None:
    assert set(SHAPES) == set(Kind)


def test_a_query_flows_to_the_server_and_a_read_from_it() -> None:
    search, read = written(Kind.SEARCH, requester=SUBJECT), written(Kind.READ, requester=SUBJECT)
    assert [role(agent) for agent in search["agent"]][:2] == ["110153", "110152"]
    assert [role(agent) for agent in read["agent"]][:2] == ["110152", "110153"]
    assert search["agent"][0]["who"]["identifier"]["value"] == SUBJECT.client_id
    sent = written(Kind.QUERY_SENT, requester=SUBJECT)
    assert role(sent["agent"][0]) == "110153"
    assert sent["agent"][0]["who"]["identifier"]["value"] == CUSTODIAN


def test_the_token_names_user_organisation_and_purpose() -> None:
    agents = written(Kind.GRANT, requester=SUBJECT)["agent"]
    user = next(agent for agent in agents if role(agent) == "IRCP")
    assert user["requestor"] is True
    assert user["who"]["identifier"]["value"] == PRACTITIONER
    assert user["policy"] == ["urn:ietf:params:oauth:jti:token-1"]
    assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert next(agent for agent in agents if role(agent) == "PROV")["who"]["identifier"]["value"] == ORGANISATION


def test_patient_study_and_query_are_entities() -> None:
    body = b"patient.identifier=x"
    resource = written(
        Kind.SEARCH,
        requester=SUBJECT,
        patient=PATIENT,
        study_uid="1.2.3",
        envelope_id="e-1",
        query=body,
        count=1,
        bytes=9,
    )
    by_role = {entity["role"]["code"]: entity for entity in resource["entity"] if "role" in entity}
    assert by_role["1"]["what"]["identifier"]["value"] == PATIENT
    assert base64.b64decode(by_role["24"]["query"]) == body
    values = [entity["what"]["identifier"]["value"] for entity in resource["entity"] if "what" in entity]
    assert "urn:oid:1.2.3" in values
    assert "urn:uuid:e-1" in values
    details = {detail["type"]: detail["valueString"] for detail in resource["entity"][-1]["detail"]}
    assert details == {"count": "1", "bytes": "9"}


def test_a_refusal_says_why_and_which_rules_spoke() -> None:
    verdict = Verdict(
        False, (RuleVerdict("scope_covers", True, "fine"), RuleVerdict("consent_valid", False, "no consent"))
    )
    resource = written(Kind.SEARCH, outcome=Outcome.REFUSED, requester=SUBJECT, verdict=verdict)
    assert resource["outcome"] == "4"
    assert resource["outcomeDesc"] == "no consent"
    details = {detail["type"]: detail["valueString"] for detail in resource["entity"][-1]["detail"]}
    assert details == {"rule.scope_covers": "allowed: fine", "rule.consent_valid": "refused: no consent"}


def test_an_unknown_caller_is_recorded_as_one() -> None:
    resource = written(Kind.AUTHENTICATION_FAILED, outcome=Outcome.REFUSED, reason="token-signature")
    assert resource["type"]["code"] == "110114"
    assert resource["agent"][0]["who"] == {"display": "not identified"}
    assert resource["outcomeDesc"] == "token-signature"
