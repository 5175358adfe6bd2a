"""The decision: what each rule asks, and laws that hold for every input."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority import CUSTODIAN, ISSUER, ORGANISATION, OTHER_PATIENT, PATIENT, PRACTITIONER

from mdg.access import decide, require
from mdg.access.rules import RULES, Answer, Request
from mdg.errors import Forbidden, InsufficientScope
from mdg.model.identity import Ihi
from mdg.model.imaging import StudyKey
from mdg.model.request import Action, Consent, Requester, Resource, Verdict

NOW = datetime(2026, 5, 2, 1, 0, tzinfo=UTC)
DISCOVERY = frozenset({"system/ImagingStudy.rs", "system/Patient.rs"})
RETRIEVAL = frozenset({"urn:ief:scope:imaging.retrieve"})
SUBJECT = Requester(
    issuer=ISSUER,
    subject="u-31",
    client_id="client-4711",
    organisation=ORGANISATION,
    practitioner=PRACTITIONER,
    purposes=("TREAT",),
    patient=PATIENT,
    scopes=DISCOVERY | RETRIEVAL,
    jkt="jkt",
    token_id="token-1",
    expires=NOW + timedelta(minutes=5),
)
STUDY = Resource("ImagingStudy", PATIENT, StudyKey(CUSTODIAN, "1.2.36.1.99.1", 1))
PAYLOAD = replace(STUDY, scope_type="payload")


def judged(
    subject: Requester = SUBJECT,
    action: Action = Action.DISCOVER,
    resource: Resource = STUDY,
    purpose: str = "TREAT",
    consents: tuple[Consent, ...] = (),
) -> Verdict:
    return decide(subject, action, resource, purpose, consents, NOW)


def refusing(verdict: Verdict) -> set[str]:
    return {said.rule for said in verdict.by if not said.allowed}


def test_a_treating_requester_finds_and_retrieves_the_study_of_the_patient() -> None:
    assert judged().allowed
    assert judged(action=Action.DISCLOSE, resource=PAYLOAD).allowed
    assert [said.rule for said in judged().by] == [rule.name for rule in RULES]


@pytest.mark.parametrize(
    ("rule", "subject", "resource"),
    [
        ("scope_covers", {"scopes": RETRIEVAL}, {}),
        ("scope_covers", {"scopes": frozenset({"system/ImagingStudy.r"})}, {}),
        ("scope_covers", {"scopes": frozenset({"system/Patient.rs", "user/ImagingStudy.rs"})}, {}),
        ("scope_covers", {}, {"scope_type": "Observation"}),
        ("scope_covers", {"scopes": frozenset({"system/Subscription.rs"})}, {"scope_type": "Subscription"}),
        ("requester_verified", {"practitioner": None}, {}),
        ("requester_verified", {"jkt": ""}, {}),
        ("purpose_known", {"purposes": ("ETREAT",)}, {}),
        ("patient_identified", {"patient": None}, {}),
        ("identity_verified", {"patient": OTHER_PATIENT}, {}),
        ("identity_verified", {}, {"patient": None}),
        ("identity_verified", {}, {"patient": OTHER_PATIENT}),
        ("not_quarantined", {}, {"quarantined": True}),
        ("consent_valid", {}, {"labels": ("N", "R")}),
        ("consent_valid", {}, {"labels": ()}),
    ],
)
def test_each_rule_refuses_what_it_is_for(rule: str, subject: dict[str, Any], resource: dict[str, Any]) -> None:
    verdict = judged(replace(SUBJECT, **subject), resource=replace(STUDY, **resource))
    assert not verdict.allowed
    assert rule in refusing(verdict)


def test_neither_patient_nor_record_known_is_not_the_same_patient() -> None:
    assert not judged(replace(SUBJECT, patient=None), resource=replace(STUDY, patient=None)).allowed


def test_discovery_scopes_open_no_payload() -> None:
    finder = replace(SUBJECT, scopes=frozenset({*DISCOVERY, "system/payload.rs", "system/*.rs"}))
    for action in (Action.DISCLOSE, Action.DEPOSIT):
        assert refusing(judged(finder, action, PAYLOAD)) == {"scope_covers"}
    assert refusing(judged(finder, Action.DISCOVER, PAYLOAD)) == {"scope_covers"}


def test_the_scope_of_subscriptions_opens_them_and_nothing_else() -> None:
    subscriber = replace(SUBJECT, scopes=frozenset({"system/Subscription.crud"}))
    assert judged(subscriber, resource=replace(STUDY, scope_type="Subscription")).allowed
    assert refusing(judged(subscriber)) == {"scope_covers"}
    assert refusing(judged(resource=replace(STUDY, scope_type="Subscription"))) == {"scope_covers"}


def test_a_transfer_that_began_in_time_is_not_cut_by_the_age_of_its_token() -> None:
    assert judged(replace(SUBJECT, expires=NOW - timedelta(hours=1)), Action.DISCLOSE, PAYLOAD).allowed


def test_software_acts_for_its_organisation_without_a_practitioner() -> None:
    assert judged(replace(SUBJECT, subject=SUBJECT.client_id, practitioner=None)).allowed


@pytest.mark.parametrize("purpose", ["BTG", "HTEST", "", "treat", "HRESCH", "HPAYMT", "PATRQT"])
def test_without_consent_only_treatment_is_implied(purpose: str) -> None:
    assert not judged(replace(SUBJECT, purposes=(purpose,)), purpose=purpose).allowed


def test_a_denying_consent_beats_implied_consent() -> None:
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    content = {"resourceType": "Consent", "status": "active", "scope": scope, "patient": {"reference": "Patient/1"}}
    verdict = judged(consents=(Consent("c1", {**content, "provision": {"type": "deny"}}),))
    assert refusing(verdict) == {"consent_valid"}


def test_a_purpose_without_a_meaning_here_is_refused_whatever_consents_say() -> None:
    for purpose in ("BTG", "HTEST", "x"):
        verdict = judged(replace(SUBJECT, purposes=(purpose,)), purpose=purpose)
        assert "purpose_known" in refusing(verdict)


def test_emergency_treatment_is_treatment_and_never_breaks_glass() -> None:
    assert judged(replace(SUBJECT, purposes=("ETREAT",)), purpose="ETREAT").allowed
    assert not judged(replace(SUBJECT, purposes=("ETREAT",)), purpose="BTG").allowed


def test_every_purpose_of_the_token_is_judged() -> None:
    for purposes in (("TREAT", "HPAYMT"), ("TREAT", "BTG"), ("HPAYMT", "TREAT")):
        assert not judged(replace(SUBJECT, purposes=purposes)).allowed


def test_no_rules_refuse() -> None:
    assert decide(SUBJECT, Action.DISCOVER, STUDY, "TREAT", (), NOW, rules=()) == Verdict(False, ())


def test_a_rule_that_fails_refuses() -> None:
    class Broken:
        name = "broken"

        def judge(self, request: Request) -> Answer:
            raise RuntimeError(str(request.subject.patient))

    verdict = decide(SUBJECT, Action.DISCOVER, STUDY, "TREAT", (), NOW, rules=(*RULES, Broken()))
    assert refusing(verdict) == {"broken"}
    assert PATIENT not in "".join(verdict.reasons)


def test_a_refusal_is_an_error_that_says_nothing_to_the_caller() -> None:
    require(judged())
    with pytest.raises(InsufficientScope):
        require(judged(replace(SUBJECT, scopes=RETRIEVAL)))
    with pytest.raises(Forbidden) as refused:
        require(judged(resource=replace(STUDY, patient=OTHER_PATIENT)))
    assert refused.value.reason == "identity_verified"
    assert refused.value.diagnostics == "access is not permitted"
    with pytest.raises(Forbidden):
        require(Verdict(False, ()))


# --- laws ---

patients = st.sampled_from([None, PATIENT, OTHER_PATIENT])
purposes = st.sampled_from(["TREAT", "ETREAT", "BTG", "HRESCH", "HPAYMT", "HTEST", "PATRQT", "x"])
scopes = st.frozensets(
    st.sampled_from([*DISCOVERY, *RETRIEVAL, "urn:ief:scope:imaging.deposit", "system/ImagingStudy.cruds", "openid"])
)
subjects = st.builds(
    replace,
    st.just(SUBJECT),
    patient=patients,
    purposes=st.lists(purposes, min_size=1, max_size=3, unique=True).map(tuple),
    scopes=scopes,
    practitioner=st.sampled_from([None, PRACTITIONER]),
    subject=st.sampled_from(["u-31", "client-4711"]),
)
resources = st.builds(
    replace,
    st.just(STUDY),
    scope_type=st.sampled_from(["ImagingStudy", "Patient", "Endpoint", "payload"]),
    patient=patients,
    labels=st.lists(st.sampled_from(["N", "R", "V"]), max_size=2).map(tuple),
    quarantined=st.booleans(),
)
provisions = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["permit", "deny", "maybe"])},
        optional={
            "purpose": st.lists(
                st.fixed_dictionaries(
                    {"system": st.just("http://terminology.hl7.org/CodeSystem/v3-ActReason"), "code": purposes}
                ),
                max_size=2,
            ),
            "code": st.just([{"text": "x"}]),
            "unknown": st.just(1),
        },
    ),
    lambda inner: st.builds(lambda outer, nested: {**outer, "provision": nested}, inner, st.lists(inner, max_size=2)),
    max_leaves=6,
)


@st.composite
def consents(draw: st.DrawFn) -> Consent:
    content: dict[str, object] = {
        "resourceType": "Consent",
        "status": draw(st.sampled_from(["active", "active", "inactive", "new"])),
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "patient": {"reference": "Patient/1"},
    }
    if draw(st.booleans()):
        content["provision"] = draw(provisions)
    if draw(st.booleans()):
        code = draw(st.sampled_from(["OPTIN", "OPTOUT", "x"]))
        content["policyRule"] = {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}]
        }
    return Consent(draw(st.sampled_from(["c1", "c2"])), content)


several = st.lists(consents(), max_size=3).map(tuple)
situations = st.tuples(subjects, st.sampled_from(list(Action)), resources, purposes, several)
Situation = tuple[Requester, Action, Resource, str, tuple[Consent, ...]]


@given(situations)
def test_what_is_allowed_has_every_rule_behind_it(situation: Situation) -> None:
    subject, action, resource, purpose, records = situation
    verdict = decide(subject, action, resource, purpose, records, NOW)
    assert verdict == decide(subject, action, resource, purpose, records, NOW)
    assert verdict.allowed == (not refusing(verdict))
    if verdict.allowed:
        assert subject.patient is not None
        assert subject.patient == resource.patient
        assert not resource.quarantined
        assert set(resource.labels) == {"N"}
        assert purpose in subject.purposes
        assert "BTG" not in subject.purposes
        assert (action is Action.DISCLOSE) <= ("urn:ief:scope:imaging.retrieve" in subject.scopes)


@given(situations, st.sampled_from(["scopes", "patient", "purposes", "practitioner"]))
def test_a_poorer_token_never_opens_more(situation: Situation, lost: str) -> None:
    subject, action, resource, purpose, records = situation
    poorer: dict[str, Any] = {"scopes": frozenset(), "patient": None, "purposes": (), "practitioner": None}
    after = decide(replace(subject, **{lost: poorer[lost]}), action, resource, purpose, records, NOW)
    if after.allowed:
        assert decide(subject, action, resource, purpose, records, NOW).allowed


@given(situations, consents())
def test_another_consent_opens_only_by_permitting_the_purpose(situation: Situation, extra: Consent) -> None:
    subject, action, resource, purpose, records = situation
    before = decide(subject, action, resource, purpose, records, NOW)
    after = decide(subject, action, resource, purpose, (*records, extra), NOW)
    if after.allowed and not before.allowed:
        assert "permit" in next(said.reason for said in after.by if said.rule == "consent_valid")


@given(subjects, resources, st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.lists(st.text(max_size=3))))
def test_a_record_that_is_no_consent_denies(subject: Requester, resource: Resource, content: dict[str, object]) -> None:
    assert not decide(subject, Action.DISCOVER, resource, "TREAT", [Consent("x", content)], NOW).allowed


def test_an_ihi_is_compared_as_a_whole() -> None:
    assert not judged(replace(SUBJECT, patient=Ihi(PATIENT[:-1] + "0"))).allowed
