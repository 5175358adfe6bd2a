"""The one decision: may this requester do this, to this, for this purpose, now (spec/access 6.1).

Pure: no clock, no I/O. All rules must agree, an empty list refuses, and so does a rule that fails. A token with several
purposes is judged under each of them, and any refusal counts (spec/access 6.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mdg.access.rules import RULES, Request, Rule
from mdg.errors import Forbidden, InsufficientScope
from mdg.model.request import Action, Consent, Requester, Resource, RuleVerdict, Verdict


def decide(  # noqa: PLR0917 - its signature is fixed (spec/access 6.1)
    subject: Requester,
    action: Action,
    resource: Resource,
    purpose: str,
    consents: Sequence[Consent],
    now: datetime,
    *,
    rules: Sequence[Rule] = RULES,
) -> Verdict:
    """The verdict of `rules`, with what each one said. `purpose` is a v3-ActReason code, `now` is UTC.

    `consents` are those of the resource's patient. When it is allowed, `by` holds what was said under `purpose`; when
    not, under the first purpose that was refused.
    """
    first: Verdict | None = None
    for each in dict.fromkeys((purpose, *subject.purposes)):
        verdict = _judge(Request(subject, action, resource, each, consents, now), rules)
        if not verdict.allowed:
            return verdict
        first = first or verdict
    return first or Verdict(False, ())


def require(verdict: Verdict) -> None:
    """Nothing when it is allowed; otherwise `InsufficientScope` when scopes do not open the operation, else
    `Forbidden`, whose `reason` names the first rule that refused."""
    if verdict.allowed:
        return
    refused = [said.rule for said in verdict.by if not said.allowed]
    if refused[:1] == ["scope_covers"]:
        raise InsufficientScope
    raise Forbidden(reason=refused[0] if refused else "no-rule")


def _judge(request: Request, rules: Sequence[Rule]) -> Verdict:
    said = tuple(_ask(rule, request) for rule in rules)
    return Verdict(bool(said) and all(verdict.allowed for verdict in said), said)


def _ask(rule: Rule, request: Request) -> RuleVerdict:
    try:
        answer = rule.judge(request)
    except Exception as error:  # whatever a rule fails with, it did not allow
        return RuleVerdict(rule.name, False, f"the rule failed: {type(error).__name__}")
    return RuleVerdict(rule.name, answer.allowed is True, answer.reason)
