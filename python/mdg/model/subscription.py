"""A subscription, and one event under its number in a subscription (spec/events 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mdg.model.identity import Ihi
from mdg.model.request import Requester


class Topic(StrEnum):
    """What can be subscribed to; the last part of the topic's canonical (spec/fhir 6)."""

    PATIENT_IMAGING = "patient-imaging"
    STUDY = "study"


class Payload(StrEnum):
    """How much a notification says: that something happened, or to which resource."""

    EMPTY = "empty"
    ID_ONLY = "id-only"


class Status(StrEnum):
    """Subscription.status. `OFF` and `ERROR` are final: the subscriber makes another one."""

    REQUESTED = "requested"
    ACTIVE = "active"
    ERROR = "error"
    OFF = "off"


class Said(StrEnum):
    """The `type` of a SubscriptionStatus: why it is said."""

    HANDSHAKE = "handshake"
    EVENT = "event-notification"
    QUERY = "query-status"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asks for. Times are UTC.

    `patient` is the person that topic patient-imaging is filtered by, `study` the StudyInstanceUID of topic study.
    `authorization` is the value of the one header that is sent along, a secret of the subscriber's.
    """

    topic: Topic
    patient: Ihi | None
    study: str | None
    endpoint: str
    payload: Payload
    authorization: str | None = field(default=None, repr=False)
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it is kept. `owner` is who made it, as the token said then; the token's patient is whom it is
    about, whatever the topic.

    `events` is the number of the last event, `delivered` that of the last one that arrived: numbers start at 1 and have
    no gap, and the next to send is always `delivered + 1`.
    """

    id: str
    owner: Requester
    patient: Ihi
    wanted: Wanted
    status: Status
    created: datetime
    events: int = 0
    delivered: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent to an endpoint."""

    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Numbered:
    """One event in one subscription: the study (StudyInstanceUID) that changed, and when (UTC)."""

    number: int
    study: str
    time: datetime
