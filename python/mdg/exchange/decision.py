"""The one place where a story asks for a decision. `decide` is pure and belongs to `access`; what it needs of the
world, the clock and the consents, is given to it here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from mdg.access import Clock, decide, require, utc_now
from mdg.access.rules import ADMISSION, RULES, Rule
from mdg.exchange.catalogue import CatalogueEntry
from mdg.model.request import Action, Consent, Requester, Resource, Verdict


class Decide(Protocol):
    """`access.decide`."""

    def __call__(  # noqa: PLR0917 - its signature is fixed (spec/access 6.1)
        self,
        subject: Requester,
        action: Action,
        resource: Resource,
        purpose: str,
        consents: Sequence[Consent],
        now: datetime,
        *,
        rules: Sequence[Rule] = ...,
    ) -> Verdict: ...


class Standing(Protocol):
    """What `access.Gate` knows of someone who was authenticated once."""

    async def still_stands(self, requester: Requester) -> bool: ...


PAYLOAD = "payload"
"""The scope type of an envelope; that of a resource is its FHIR type."""


class Decisions:
    """Decides for the stories, under every purpose that the token names: any refusal counts (spec/access 6.2)."""

    def __init__(self, *, decide: Decide = decide, clock: Clock = utc_now) -> None:
        self._decide = decide
        self.clock = clock

    def admit(self, requester: Requester, action: Action, scope_type: str) -> Verdict:
        """Whether the caller may ask for things of this kind at all, before anything is looked up, so that the answer
        cannot depend on what exists. `Forbidden` or `InsufficientScope`."""
        verdict = self._verdict(requester, action, Resource(scope_type, requester.patient), (), ADMISSION)
        require(verdict)
        return verdict

    def of_person(self, requester: Requester, action: Action, scope_type: str, consents: Sequence[Consent]) -> Verdict:
        """Whether the caller may be told of the token's person in general. `Forbidden` or `InsufficientScope`."""
        verdict = self._verdict(requester, action, Resource(scope_type, requester.patient), consents)
        require(verdict)
        return verdict

    def of_study(self, requester: Requester, action: Action, scope_type: str, held: CatalogueEntry) -> Verdict:
        """What the rules say about one study in its present state."""
        study = held.study
        resource = Resource(scope_type, held.ihi, study.key, study.labels)
        return self._verdict(requester, action, resource, held.consents)

    def _verdict(
        self,
        requester: Requester,
        action: Action,
        resource: Resource,
        consents: Sequence[Consent],
        rules: Sequence[Rule] = RULES,
    ) -> Verdict:
        """A token without a purpose is decided on once, under no purpose, for a rule to refuse it."""
        purpose = next(iter(requester.purposes), "")
        return self._decide(requester, action, resource, purpose, consents, self.clock(), rules=rules)
