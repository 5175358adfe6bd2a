"""When a delivery is tried again: the steps of the design, and no further than three days."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

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


def test_the_steps_are_five_seconds_to_an_hour_and_then_hourly() -> None:
    assert [retry.wait(tries).total_seconds() for tries in (1, 2, 3, 4, 5, 6, 50)] == [
        5,
        30,
        120,
        600,
        3600,
        3600,
        3600,
    ]


def test_an_event_that_fails_for_three_days_puts_the_subscription_into_error() -> None:
    one, waited = ACTIVE, timedelta()
    while one.status is Status.ACTIVE:
        one = retry.failed(one)
        if one.status is Status.ACTIVE:
            waited += retry.next_try(one, NOW, 0) - NOW
    assert (one.status, one.delivered) == (Status.ERROR, 1)
    assert timedelta(hours=71) < waited <= timedelta(hours=72)


def test_a_handshake_is_tried_again_three_times() -> None:
    one = replace(ACTIVE, status=Status.REQUESTED)
    states = []
    for _ in range(4):
        one = retry.failed(one)
        states.append(one.status)
    assert states == [Status.REQUESTED] * 3 + [Status.ERROR]


def test_a_success_moves_on_and_forgets_the_failures() -> None:
    after = retry.arrived(retry.failed(ACTIVE))
    assert (after.delivered, after.tries, retry.next_try(after, NOW, 1)) == (2, 0, NOW)
    assert retry.arrived(replace(ACTIVE, status=Status.REQUESTED, delivered=0)).delivered == 0


def test_a_receiver_that_is_gone_is_left_alone() -> None:
    assert retry.failed(ACTIVE, gone=True).status is Status.OFF


@pytest.mark.parametrize(
    ("asked", "chance", "seconds"),
    [
        (None, 0, 5),
        (None, 1, 5.5),
        (timedelta(seconds=60), 0, 60),
        (timedelta(seconds=1), 0, 5),
        (timedelta(9), 0, 3600),
    ],
)
def test_a_receiver_may_ask_for_time_but_not_for_ever(asked: timedelta | None, chance: float, seconds: float) -> None:
    due = retry.next_try(retry.failed(ACTIVE), NOW, chance, asked)
    assert (due - NOW).total_seconds() == seconds
