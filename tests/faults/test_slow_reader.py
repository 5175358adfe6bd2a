"""A reader that takes next to nothing holds nobody else up, and the audit says that it went without the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.conftest import Serve, study_uid, until
from tests.web.conftest import RETRIEVE

pytestmark = pytest.mark.anyio


async def test_others_are_served_and_both_ends_are_recorded(serve: Serve, large: Path) -> None:
    async with serve(folder=large) as served:
        path = f"/api/jmix?studyInstanceUid={await study_uid(served)}"
        headers = await served.consumer.credentials("GET", path, RETRIEVE)
        async with served.http.stream("GET", f"{served.url}{path}", headers=headers) as slow:
            slow_id = slow.headers["X-Request-ID"]
            pieces = slow.aiter_raw()
            taken = len(await anext(pieces))
            fast = await served.consumer.ask("GET", path, scopes=RETRIEVE)
            assert (fast.status_code, len(fast.content)) == (200, int(slow.headers["Content-Length"]))
            assert taken < len(fast.content)
            assert (await served.consumer.search()).status_code == 200

        async def ended(request_id: str, outcome: str) -> bool:
            outcomes = [event["outcome"] for event in await served.records(request_id)]
            return len(outcomes) >= 2 and outcomes[-1] == outcome

        await until(lambda: ended(fast.headers["X-Request-ID"], "0"))
        await until(lambda: ended(slow_id, "8"))
