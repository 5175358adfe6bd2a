"""The program that took the log has gone: the gateway goes on, and counts what it could not say."""

from __future__ import annotations

import os
import signal

import pytest
from tests.faults.conftest import Serve

pytestmark = pytest.mark.anyio


async def test_a_closed_pipe_costs_lines_and_nothing_else(serve: Serve) -> None:
    reader, writer = os.pipe()
    async with serve(log=writer) as served:
        os.close(writer)
        assert (await served.consumer.search()).status_code == 200
        assert await served.metric("mdg_log_dropped_lines_total") == 0
        os.close(reader)
        for _ in range(3):
            answer = await served.consumer.search()
            assert (answer.status_code, answer.json()["total"]) == (200, 1)
        answer = await served.http.get(f"{served.url}/fhir/ImagingStudy/1")
        assert (answer.status_code, answer.json()["resourceType"]) == (401, "OperationOutcome")
        assert await served.metric("mdg_log_dropped_lines_total") >= 4
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
