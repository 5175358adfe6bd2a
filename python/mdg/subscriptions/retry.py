"""When what failed is tried again, and when it is given up (fhir-au 6.3). Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from mdg.model.subscription import Status, Subscription

STEPS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600))
"""Before the first tries again; from the last one on it stays the same."""
TRY = timedelta(seconds=60)
"""Longer than a try takes: one whose process was killed is made again after it."""
GIVEN_UP = timedelta(hours=72)
"""An event that failed for so long puts its subscription into error."""
HANDSHAKES = 3
"""Tries again of a handshake."""
JITTER = 0.1
"""Part of a step by which tries are spread, so that those who failed together do not come back together."""
LONGEST = 2 * STEPS[-1]
"""No wait is as long, with its jitter."""
KEPT = timedelta(days=30)
"""How long events that were sent, or are given up, can still be looked up."""
GONE = 410


def wait(failures: int) -> timedelta:
    """Before the next try after so many failures in a row, at least one."""
    return STEPS[min(failures, len(STEPS)) - 1]


def gave_up(failures: int) -> bool:
    """Whether the waits after so many failures in a row would end past GIVEN_UP."""
    hours = STEPS[-1] * max(failures - len(STEPS) + 1, 0)
    return sum(STEPS[: min(failures, len(STEPS) - 1)], hours) > GIVEN_UP


def arrived(before: Subscription) -> Subscription:
    """After a handshake or the next event was taken."""
    if before.status is Status.REQUESTED:
        return replace(before, status=Status.ACTIVE, tries=0)
    return replace(before, delivered=before.delivered + 1, tries=0)


def failed(before: Subscription, *, gone: bool = False) -> Subscription:
    """After a try failed; `gone` when the receiver said that it wants nothing more (410)."""
    tries = before.tries + 1
    status = before.status
    if gone:
        status = Status.OFF
    elif tries > HANDSHAKES if before.status is Status.REQUESTED else gave_up(tries):
        status = Status.ERROR
    return replace(before, status=status, tries=tries)


def next_try(after: Subscription, now: datetime, chance: float, asked: timedelta | None = None) -> datetime:
    """When the next try is due: at once after a success, else after its step, spread by `chance` (0 to 1), or when the
    receiver `asked` for, up to the longest step."""
    if not after.tries:
        return now
    step = max(wait(after.tries), min(asked or timedelta(), STEPS[-1]))
    return now + step * (1 + JITTER * chance)
