"""Another program holds the database: what needs a record waits, then is 503, and goes on when the program lets go."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.faults.conftest import Serve, assert_unavailable, until

pytestmark = pytest.mark.anyio


async def test_requests_are_503_while_it_is_held_and_the_log_says_why(serve: Serve, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        async with serve(data=tmp_path / "data", log=log) as served:
            assert (await served.consumer.search()).status_code == 200
            with closing(sqlite3.connect(tmp_path / "data" / "mdg.sqlite", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                assert_unavailable(await served.consumer.search())
                assert await served.status("/readyz") == 503
                assert await served.status("/livez") == 200
                other.execute("ROLLBACK")
            await until(served.ready)
            assert (await served.consumer.search()).status_code == 200
    assert "another program holds it" in (tmp_path / "log").read_text()
