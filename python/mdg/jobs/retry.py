"""When a job whose try failed is tried again: the one table of delays of this gateway. Pure."""

from __future__ import annotations

from datetime import timedelta

STEPS = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600))
"""Delays before the second, third, … try. Every later delay is as long as the last step."""
JITTER = 0.1
"""Part of a delay by which tries are spread, so that jobs which failed together are not tried again together."""
LONGEST = 2 * STEPS[-1]
"""Every delay, with its jitter, is shorter. A stored time that lies further ahead was written by a wrong clock."""
OUTAGE = timedelta(seconds=120)
"""Longest delay of a kind of job whose destination cannot be reached: one try, however many jobs wait."""


def wait(failures: int) -> timedelta:
    """The delay after so many failures in a row (at least one), without jitter."""
    return STEPS[min(failures, len(STEPS)) - 1]


def delay(failures: int, chance: float, asked: timedelta | None = None) -> timedelta:
    """The delay after so many failures in a row, spread by `chance` (0 to 1). `asked` is how long the destination asked
    to be left alone; more than the longest step is not granted."""
    step = max(wait(failures), min(asked or timedelta(), STEPS[-1]))
    return step * (1 + JITTER * chance)
