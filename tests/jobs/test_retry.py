"""When a job is tried again: the steps, spread, and how much time a destination may ask for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mdg.jobs.retry import LONGEST, delay, wait


def test_the_steps_are_five_seconds_to_an_hour_and_then_hourly() -> None:
    seconds = [wait(failures).total_seconds() for failures in (1, 2, 3, 4, 5, 6, 50)]
    assert seconds == [5, 30, 120, 600, 3600, 3600, 3600]


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
def test_a_destination_may_ask_for_time_but_not_for_ever(
    asked: timedelta | None, chance: float, seconds: float
) -> None:
    assert delay(1, chance, asked).total_seconds() == seconds


def test_no_delay_is_as_long_as_the_time_that_only_a_wrong_clock_can_have_written() -> None:
    assert delay(99, 1, timedelta(days=9)) < LONGEST
