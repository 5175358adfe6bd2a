"""The clock steps forward and back: what was used stays used, what has ended stays ended; a restart does not help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.faults.conftest import assert_unavailable
from tests.web.conftest import Running, Start

pytestmark = pytest.mark.anyio


class Clock:
    """The clock of the machine, set `ahead` of the real one."""

    def __init__(self, **ahead: float) -> None:
        self.ahead = timedelta(**ahead)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def ready(running: Running) -> int:
    return (await running.consumer.http.get(f"{running.url}/readyz")).status_code


async def test_a_used_proof_stays_used_when_the_clock_steps_forward_and_back(start: Start) -> None:
    clock = Clock()
    path = "/fhir/ImagingStudy/_search"

    async def again(running: Running, headers: dict[str, str]) -> int:
        answer = await running.consumer.http.post(f"{running.url}{path}", headers=headers, data={"_id": "x"})
        return answer.status_code

    async with start(clock=clock) as running:
        headers = await running.consumer.credentials("POST", path)
        assert await again(running, headers) == 200
        assert await again(running, headers) == 401
        assert await ready(running) == 200
        clock.ahead = timedelta(hours=1)
        assert await again(running, headers) == 401, "the token has ended, and the proof is old"
        clock.ahead = timedelta()
        assert await again(running, headers) == 503, "neither is good again"
        assert_unavailable(await running.consumer.search())
        assert await ready(running) == 503
        clock.ahead = timedelta(hours=1)
        assert await ready(running) == 200


async def test_a_restart_does_not_help_but_the_operator_can(start: Start) -> None:
    """The time that a call has seen is durable with what the call used."""
    clock = Clock()
    async with start(clock=clock) as running:
        assert (await running.consumer.search()).status_code == 200
    clock.ahead = timedelta(hours=-1)
    async with start(clock=clock) as running:
        assert_unavailable(await running.consumer.search())
        assert await ready(running) == 503
    clock.ahead = timedelta()
    async with start(clock=clock) as running:
        assert (await running.consumer.search()).status_code == 200
    clock.ahead = timedelta(days=3650)
    async with start(clock=clock):
        pass
    clock.ahead = timedelta()
    async with start(clock=clock) as running:
        assert_unavailable(await running.consumer.search())
    async with start(clock=clock, trust_clock=True) as running:
        assert (await running.consumer.search()).status_code == 200


async def test_a_clock_that_is_corrected_by_less_than_a_minute_is_followed(start: Start) -> None:
    clock = Clock(seconds=20)
    async with start(clock=clock) as running:
        assert (await running.consumer.search()).status_code == 200
        clock.ahead = timedelta(seconds=-30)
        assert (await running.consumer.search()).status_code == 200
