"""What becomes of a subscription by a try to send, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from mdg.jobs.retry import STEPS
from mdg.model.subscription import Status, Subscription

GIVEN_UP = timedelta(hours=72)
"""An event that failed for so long puts its subscription into error."""
HANDSHAKES = 3
"""Tries again of a handshake."""
KEPT = timedelta(days=30)
"""How long events that were sent, or are given up, can still be looked up."""
GONE = 410
"""The status by which a receiver says that it wants nothing more (RFC 9110 15.5.11)."""


def gave_up(failures: int) -> bool:
    """Whether the delays after so many failures in a row would end past GIVEN_UP."""
    hours = STEPS[-1] * max(failures - len(STEPS) + 1, 0)
    return sum(STEPS[: min(failures, len(STEPS) - 1)], hours) > GIVEN_UP


def arrived(before: Subscription) -> Subscription:
    """After a handshake or the next event was taken."""
    if before.status is Status.REQUESTED:
        return replace(before, status=Status.ACTIVE)
    return replace(before, delivered=before.delivered + 1)


def failed(before: Subscription, tries: int, *, gone: bool = False) -> Subscription:
    """After the last of so many tries in a row failed; `gone` when the receiver said that it wants nothing more."""
    if gone:
        return replace(before, status=Status.OFF)
    over = tries > HANDSHAKES if before.status is Status.REQUESTED else gave_up(tries)
    return replace(before, status=Status.ERROR) if over else before
