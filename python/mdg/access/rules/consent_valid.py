"""Consent allows it: the patient's recorded consent decides, or the policy of the service if no consent is recorded
(IEF A4.5)."""

from __future__ import annotations

from mdg.access.rules.consent import Effect, evaluate
from mdg.access.rules.rule import Answer, Request, allow, refuse

IMPLIED = frozenset({"TREAT", "ETREAT"})
NORMAL = frozenset({"N"})


class ConsentValid:
    """Deny beats permit; without either, the implied consent of `Policy-basic-normal` (spec/access 7):
    treatment, and nothing that is labelled more sensitive than normal."""

    name = "consent_valid"

    def judge(self, request: Request) -> Answer:
        effect, why = evaluate(request)
        if effect is Effect.DENY:
            return refuse(why)
        if not request.resource.labels or not NORMAL.issuperset(request.resource.labels):
            return refuse("the label asks for more than this gateway can attest")
        if effect is Effect.PERMIT:
            return allow(why)
        if request.purpose in IMPLIED:
            return allow("implied consent for treatment")
        return refuse("no consent covers this purpose")
