"""What happened, as the audit keeps it; `audit/` turns it into a FHIR AuditEvent (spec/audit 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from mdg.model.caller import Caller, served
from mdg.model.identity import Ihi
from mdg.model.request import Requester, Verdict


class Kind(StrEnum):
    """The kinds of event that are recorded (spec/audit 2)."""

    SEARCH = "search"
    READ = "read"
    GRANT = "grant"
    RELEASE = "release"
    RELEASE_END = "release-end"
    IMPORT = "import"
    QUERY_SENT = "query-sent"
    RETRIEVAL_SENT = "retrieval-sent"
    SUBSCRIPTION_CREATED = "subscription-created"
    SUBSCRIPTION_DELETED = "subscription-deleted"
    NOTIFICATION = "notification"
    REGISTER = "register"
    SECURITY_ALERT = "security-alert"
    OPERATION = "operation"
    AUDIT_READ = "audit-read"
    ADMIN_READ = "admin-read"
    REVOCATION = "revocation"
    JOB = "job"
    CONSENT = "consent"
    AUTHENTICATION_FAILED = "authentication-failed"
    IDENTITIES_LOADED = "identities-loaded"
    START = "start"
    STOP = "stop"


class Outcome(StrEnum):
    """AuditEvent.outcome: 0 success, 4 refused or minor failure, 8 serious failure."""

    SUCCESS = "0"
    REFUSED = "4"
    FAILURE = "8"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or was refused. `details` are name/value pairs for AuditEvent.entity.detail, never a
    patient's data.

    `resource` is a reference to what was read or made (`ImagingStudy/<id>`, or a URN); `query` is the raw request (POST
    body included), kept base64 in the record as BALP asks; `count` and `bytes` are what was sent, in resources and
    bytes. `caller` is whose request was being served when the event was made, `peer` the URL of the other side where
    this gateway was the one that asked.
    """

    kind: Kind
    outcome: Outcome
    request_id: str
    requester: Requester | None = None
    patient: Ihi | None = None
    study_uid: str | None = None
    envelope_id: str | None = None
    resource: str | None = None
    reason: str = ""
    verdict: Verdict | None = None
    query: bytes | None = None
    count: int | None = None
    bytes: int | None = None
    peer: str | None = None
    details: tuple[tuple[str, str], ...] = field(default=())
    caller: Caller | None = field(default_factory=served)
