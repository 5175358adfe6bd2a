"""Who asks, for what, why, and the answer: the vocabulary of `access.decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mdg.model.identity import HpiI, HpiO, Ihi
from mdg.model.imaging import StudyKey


class Action(StrEnum):
    """What is asked for; the payload has scopes of its own (spec/access 4)."""

    DISCOVER = "discover"
    DISCLOSE = "disclose"
    DEPOSIT = "deposit"


@dataclass(frozen=True, slots=True)
class Requester:
    """What a verified access token says (spec/access 1.3); nothing behind this type sees the token.

    `jkt` is the RFC 7638 thumbprint of the key that the token is bound to; `expires` is UTC.
    """

    issuer: str
    subject: str
    client_id: str
    organisation: HpiO
    practitioner: HpiI | None
    purposes: tuple[str, ...]
    patient: Ihi | None
    scopes: frozenset[str]
    jkt: str
    token_id: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Resource:
    """What would be shown: a FHIR type or payload, whose it is, and which study when there is one.

    `scope_type` is the FHIR resource type whose `system/<Type>.rs` scope opens it, or `payload`. `labels` are
    v3-Confidentiality codes; an unlabelled resource does not exist (`N` is written at ingest).
    """

    scope_type: str
    patient: Ihi | None
    study: StudyKey | None = None
    labels: tuple[str, ...] = ("N",)
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent record as FHIR R4 JSON (spec/access 7)."""

    id: str
    content: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What one rule said and why."""

    rule: str
    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rules together: allowed only when there was at least one rule and every one agreed."""

    allowed: bool
    by: tuple[RuleVerdict, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of those that refused, or of all when it is allowed."""
        return tuple(v.reason for v in self.by if self.allowed or not v.allowed)
