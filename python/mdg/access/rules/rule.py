"""What a rule is: one question, asked about one request, answered with a reason that names nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mdg.model.request import Action, Consent, Requester, Resource


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that a decision may depend on. `now` is UTC."""

    subject: Requester
    action: Action
    resource: Resource
    purpose: str
    consents: Sequence[Consent]
    now: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule says; the reason goes to the audit, never to the caller."""

    allowed: bool
    reason: str


class Rule(Protocol):
    """`name` is the name of the rule's file; the audit names by it the rule that refused."""

    name: str

    def judge(self, request: Request) -> Answer: ...


def allow(reason: str) -> Answer:
    """This rule has nothing against it."""
    return Answer(True, reason)


def refuse(reason: str) -> Answer:
    """This rule forbids it; no other rule can overrule that."""
    return Answer(False, reason)
