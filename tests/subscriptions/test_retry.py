"""What becomes of a subscription whose receiver takes what it is sent, or does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mdg.jobs.retry import wait
from mdg.model.identity import HpiO, Ihi
from mdg.model.request import Requester
from mdg.model.subscription import Payload, Status, Subscription, Topic, Wanted
from mdg.subscriptions import retry

NOW = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)
IHI = Ihi("8003608833357361")
OWNER = Requester(
    "https://as.example",
    "client",
    "client",
    HpiO("8003626566707032"),
    None,
    ("TREAT",),
    IHI,
    frozenset({"system/Subscription.crud"}),
    "key",
    "token",
    NOW,
)
ACTIVE = Subscription(
    "s",
    OWNER,
    IHI,
    Wanted(Topic.PATIENT_IMAGING, IHI, None, "https://x.example/", Payload.ID_ONLY),
    Status.ACTIVE,
    NOW,
    events=3,
    delivered=1,
)


def test_an_event_that_fails_for_three_days_puts_the_subscription_into_error() -> None:
    tries, waited = 1, timedelta()
    while (after := retry.failed(ACTIVE, tries)).status is Status.ACTIVE:
        waited += wait(tries)
        tries += 1
    assert (after.status, after.delivered) == (Status.ERROR, 1)
    assert timedelta(hours=71) < waited <= timedelta(hours=72)


def test_a_handshake_is_tried_again_three_times() -> None:
    asked = replace(ACTIVE, status=Status.REQUESTED)
    states = [retry.failed(asked, tries).status for tries in (1, 2, 3, 4)]
    assert states == [Status.REQUESTED] * 3 + [Status.ERROR]


def test_a_success_moves_on() -> None:
    assert retry.arrived(ACTIVE).delivered == 2
    asked = retry.arrived(replace(ACTIVE, status=Status.REQUESTED, delivered=0))
    assert (asked.status, asked.delivered) == (Status.ACTIVE, 0)


def test_a_receiver_that_is_gone_is_left_alone() -> None:
    assert retry.failed(ACTIVE, 1, gone=True).status is Status.OFF
