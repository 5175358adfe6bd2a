"""Consent records: the rules of spec/access 7, and what is done with what is not understood."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.access.test_decide import NOW, PAYLOAD, STUDY, SUBJECT
from tests.authority import ACT_REASON, ORGANISATION, OTHER_PATIENT, PATIENT

from mdg.access.rules import Request
from mdg.access.rules.consent import Effect, evaluate
from mdg.model.request import Action, Consent, Resource

CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
CONSENT_ACTION = "http://terminology.hl7.org/CodeSystem/consentaction"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
LABELS = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
HPIO = "http://ns.electronichealth.net.au/id/hi/hpio/1.0"
IHI = "http://ns.electronichealth.net.au/id/hi/ihi/1.0"

Json = dict[str, Any]
TREATMENT = [{"system": ACT_REASON, "code": "TREAT"}]


def consent(provision: Json | None = None, **changes: Any) -> Consent:
    content: Json = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": ACT_CODE, "code": "IDSCL"}]}],
        "patient": {"identifier": {"system": IHI, "value": str(PATIENT)}},
        "dateTime": "2026-04-01",
        **changes,
    }
    if provision is not None:
        content["provision"] = provision
    return Consent("c1", content)


def recipient(organisation: str) -> Json:
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]}
    return {"role": role, "reference": {"identifier": {"system": HPIO, "value": organisation}}}


def effect(
    *records: Consent, action: Action = Action.DISCOVER, resource: Resource = STUDY, purpose: str = "TREAT"
) -> Effect:
    return evaluate(Request(SUBJECT, action, resource, purpose, records, NOW))[0]


def test_the_example_permits_treatment_except_restricted_records_for_one_organisation() -> None:
    restricted = {
        "type": "deny",
        "actor": [recipient(ORGANISATION)],
        "securityLabel": [{"system": LABELS, "code": "R"}],
    }
    record = consent({"type": "permit", "purpose": TREATMENT, "provision": [restricted]})
    assert effect(record) is Effect.PERMIT
    assert effect(record, purpose="ETREAT") is Effect.PERMIT
    assert effect(record, purpose="HRESCH") is Effect.NONE
    assert effect(record, purpose="BTG") is Effect.NONE
    assert effect(record, resource=Resource("ImagingStudy", PATIENT, labels=("R",))) is Effect.DENY


def test_the_withdrawal_of_reports_from_my_health_record_hides_no_images() -> None:
    record = consent(
        {
            "type": "deny",
            "action": [{"coding": [{"system": CONSENT_ACTION, "code": "disclose"}]}],
            "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "DiagnosticReport"}],
            "data": [{"meaning": "dependents", "reference": {"reference": "ServiceRequest/1"}}],
        },
        policyRule={"coding": [{"system": ACT_CODE, "code": "OPTIN"}]},
    )
    assert effect(record, action=Action.DISCLOSE, resource=PAYLOAD) is Effect.NONE


def test_who_may_not_see_studies_is_not_told_of_them_either() -> None:
    kind = [{"system": "http://hl7.org/fhir/resource-types", "code": "ImagingStudy"}]
    record = consent({"type": "deny", "class": kind})
    assert effect(record, resource=Resource("Subscription", PATIENT)) is Effect.DENY


def test_deny_beats_permit_across_records() -> None:
    permit, deny = consent({"type": "permit"}), consent({"type": "deny"})
    assert effect(permit, deny) is effect(deny, permit) is Effect.DENY


@pytest.mark.parametrize("status", ["rejected", "inactive", "entered-in-error", "draft", "proposed"])
def test_only_active_records_have_an_effect(status: str) -> None:
    assert effect(consent({"type": "deny"}, status=status)) is Effect.NONE


def test_a_record_of_tomorrow_or_of_another_patient_has_no_effect_yet() -> None:
    assert effect(consent({"type": "deny"}, dateTime="2026-05-03")) is Effect.NONE
    other = {"identifier": {"system": IHI, "value": str(OTHER_PATIENT)}}
    assert effect(consent({"type": "permit"}, patient=other)) is Effect.NONE


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ({"start": "2026-05-02T01:00:00Z"}, Effect.DENY),
        ({"start": "2026-05-02T11:00:01+10:00"}, Effect.NONE),
        ({"end": "2026-05-02"}, Effect.DENY),
        ({"end": "2026-05"}, Effect.DENY),
        ({"end": "2026"}, Effect.DENY),
        ({"end": "2026-05-01"}, Effect.NONE),
        ({"end": "2026-04"}, Effect.NONE),
        ({"start": "yesterday"}, Effect.DENY),
    ],
)
def test_a_period_ends_with_its_last_day(period: Json, expected: Effect) -> None:
    assert effect(consent({"type": "deny", "period": period})) is expected


def test_the_policy_rule_is_the_default_of_its_own_record_only() -> None:
    for code, expected in (("OPTIN", Effect.PERMIT), ("OPTOUT", Effect.DENY), ("x", Effect.DENY)):
        rule = {"coding": [{"system": ACT_CODE, "code": code}]}
        assert effect(consent(policyRule=rule)) is expected
        assert effect(consent({"purpose": TREATMENT}, policyRule=rule)) is expected


@pytest.mark.parametrize(
    "criterion",
    [
        {"actor": [{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": "Organization/9"}}]},
        {"actor": [{"role": {"coding": [{"code": "AUT"}]}, "reference": recipient(ORGANISATION)["reference"]}]},
        {"purpose": [{"system": "urn:other", "code": "TREAT"}]},
        {"action": [{"text": "look"}]},
        {"class": [{"system": "urn:other", "code": "x"}]},
        {"code": [{"text": "chest"}]},
        {"dataPeriod": {"start": "2020"}},
        {"data": [{"meaning": "related", "reference": {"reference": "ImagingStudy/1"}}]},
    ],
)
def test_what_cannot_be_told_matches_a_deny_and_no_permit(criterion: Json) -> None:
    assert effect(consent({"type": "deny", **criterion})) is Effect.DENY
    assert effect(consent({"type": "permit", **criterion})) is Effect.NONE


PERMIT: Json = {"type": "permit"}
OVER_DEEP = {**PERMIT, "provision": [{**PERMIT, "provision": [{**PERMIT, "provision": [PERMIT]}]}]}


@pytest.mark.parametrize(
    "changed",
    [
        {"provision": {"type": "perhaps"}},
        {"provision": {"type": "permit", "modifierExtension": [{"url": "urn:x"}]}},
        {"provision": {"type": "permit", "actor": []}},
        {"provision": {"type": "permit", "newElement": 1}},
        {"provision": "permit"},
        {"provision": OVER_DEEP},
        {"modifierExtension": [{"url": "urn:x"}]},
        {"implicitRules": "urn:x"},
        {"status": "unknown"},
        {"scope": {}},
        {"dateTime": "soon"},
        {"resourceType": "Contract"},
        {},
    ],
)
def test_a_record_that_is_not_understood_denies_everything(changed: Json) -> None:
    assert effect(consent(**changed)) is Effect.DENY
    assert effect(consent({"type": "permit"}), consent(**changed)) is Effect.DENY


def test_a_study_named_by_its_uid() -> None:
    def datum(uid: str) -> Json:
        return {
            "meaning": "instance",
            "reference": {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}},
        }

    assert effect(consent({"type": "deny", "data": [datum("1.2.36.1.99.1")]})) is Effect.DENY
    assert effect(consent({"type": "deny", "data": [datum("1.2.36.1.99.2")]})) is Effect.NONE
    assert effect(consent({"type": "permit", "data": [datum("1.2.36.1.99.1")]})) is Effect.PERMIT


def test_an_action_is_matched_by_its_consent_code() -> None:
    deny = {"type": "deny", "action": [{"coding": [{"system": CONSENT_ACTION, "code": "disclose"}]}]}
    assert effect(consent(deny), action=Action.DISCLOSE, resource=PAYLOAD) is Effect.DENY
    assert effect(consent(deny)) is Effect.NONE


def test_a_research_consent_speaks_of_research_only() -> None:
    research = consent(
        {"type": "permit", "purpose": [{"system": ACT_REASON, "code": "HRESCH"}]},
        scope={"coding": [{"system": CONSENT_SCOPE, "code": "research"}]},
    )
    assert effect(research, purpose="HRESCH") is Effect.PERMIT
    assert effect(research) is Effect.NONE


def test_reasons_name_records_and_nobody() -> None:
    _, why = evaluate(
        Request(SUBJECT, Action.DISCOVER, STUDY, "TREAT", (consent({"type": "deny"}),), NOW + timedelta())
    )
    assert why == "deny by consent c1"
