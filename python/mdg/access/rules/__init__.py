"""The rules of `decide`, one file each, in the order in which they are asked (spec/access 6.1)."""

from mdg.access.rules.consent_valid import ConsentValid
from mdg.access.rules.identity_verified import IdentityVerified
from mdg.access.rules.not_quarantined import NotQuarantined
from mdg.access.rules.patient_identified import PatientIdentified
from mdg.access.rules.purpose_known import PurposeKnown
from mdg.access.rules.requester_verified import RequesterVerified
from mdg.access.rules.rule import Answer, Request, Rule
from mdg.access.rules.scope_covers import ScopeCovers

RULES: tuple[Rule, ...] = (
    ScopeCovers(),
    RequesterVerified(),
    PurposeKnown(),
    PatientIdentified(),
    IdentityVerified(),
    NotQuarantined(),
    ConsentValid(),
)

ADMISSION: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.name != ConsentValid.name)
"""Those that can judge before anything is looked up. Consent is asked about each study: a refusal beforehand would tell
that the patient has denied something."""

__all__ = ["ADMISSION", "RULES", "Answer", "Request", "Rule"]
