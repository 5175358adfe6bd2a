"""A gateway on PostgreSQL: it answers as on SQLite, its records outlive a crash of the server, and it goes on after."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from tests.databases import Server, make_read_only
from tests.web.test_guarantees import EVERY_DOOR, calls, make, only_an_outcome
from tests.web.test_retrieval import get, granted
from tests.web.test_serve import SETTINGS, run, serving

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]


async def test_the_record_of_each_answer_outlives_a_crash_of_the_server(postgresql: Server, start: Start) -> None:
    with postgresql.database() as name:
        async with start(database=postgresql.url(name)) as gateway:
            found = await gateway.consumer.search()
            assert found.json()["total"] == 1
            _, _, grant = await granted(gateway)
            payload = await get(gateway, grant["path"])
            assert payload.status_code == 200
            before = await gateway.rooms.audit.count()
            postgresql.stop(signal.SIGQUIT)
            assert (await gateway.consumer.search()).status_code == 503
            await to_thread.run_sync(postgresql.start)
            assert (await gateway.consumer.search()).status_code == 200
            recorded = {row[0] for row in postgresql.do("SELECT request_id FROM audit", database=name)}
            assert {answer.headers["x-request-id"] for answer in (found, payload)} <= recorded
            assert await gateway.rooms.audit.count() > before


async def test_nothing_leaves_while_the_audit_cannot_be_written(postgresql: Server, start: Start) -> None:
    with postgresql.database() as name:
        async with start(database=postgresql.url(name), **EVERY_DOOR) as gateway:
            known = await calls(gateway)
            await gateway.rooms.store.write(make_read_only)
            for path, call in known.items():
                answer = await make(gateway, call)
                assert answer.status_code == 503, (path, answer.text)
                assert only_an_outcome(answer), path


def test_each_command_uses_the_database_of_the_settings(
    postgresql: Server, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = ("--data", str(tmp_path / "data")), tmp_path / "mdg.toml"
    config.write_text(SETTINGS.replace("DATA", str(tmp_path / "data")))
    with postgresql.database() as name:
        monkeypatch.setenv("MDG_DATABASE", url := postgresql.url(name))
        with serving("--folder", str(phantom), "--sandbox", *data, "--port", "0") as (_, ready):
            assert ready["studies"] == 1
        assert postgresql.do("SELECT source FROM identities", database=name) == [("sandbox",)]
        indexed = run("index", str(phantom), *data, "--json", MDG_DATABASE=url)
        assert json.loads(indexed.stdout)["index"]["unchanged"] == 3, indexed.stderr
        shown = run("audit", "show", "start", "--config", str(config), "--json", MDG_DATABASE=url)
        assert len(json.loads(shown.stdout)["events"]) == 1, shown.stderr
    assert not list((tmp_path / "data").glob("*.sqlite*"))


def test_the_url_of_the_database_is_told_to_nobody(tmp_path: Path) -> None:
    path, secret = tmp_path / "mdg.toml", tmp_path / "database"
    path.write_text(SETTINGS.replace("DATA", str(tmp_path)))
    secret.write_text("postgresql://mdg:hunter2@127.0.0.1:1/mdg")
    secret.chmod(0o600)
    for command in (("config", "show"), ("serve",), ("audit", "show", "x"), ("index", "--problems")):
        answer = run(*command, "--config", str(path), MDG_DATABASE_FILE=str(secret))
        assert (answer.returncode == 0) == (command[0] == "config"), answer.stderr
        assert "hunter2" not in answer.stdout + answer.stderr
        assert command[0] == "config" or "database: it cannot be" in answer.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://mdg:hunter2@localhost/mdg", "postgresql://user"),
        ("postgresql://mdg:hunter2@[db]/mdg", "no URL"),
        ("postgresql://mdg:hunter2@db.example.org/mdg", "sslmode=verify-full"),
        ("postgresql://mdg:hunter2@/mdg?host=db.example.org", "sslmode=verify-full"),
        ("postgresql://mdg:hunter2@localhost/mdg?host=db.example.org", "sslmode=verify-full"),
        ("postgresql://mdg:hunter2@localhost/mdg?hostaddr=192.0.2.1", "sslmode=verify-full"),
        ("postgresql://mdg:hunter2@/mdg?host=localhost&host=db.example.org", "sslmode=verify-full"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_showing_it(tmp_path: Path, url: str, said: str) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(SETTINGS.replace("DATA", str(tmp_path)))
    answer = run("config", "check", "--config", str(path), MDG_DATABASE=url)
    assert (answer.returncode, said in answer.stderr, "hunter2" in answer.stderr) == (2, True, False), answer.stderr


def test_a_url_in_the_settings_makes_them_private(tmp_path: Path) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(SETTINGS.replace("DATA", str(tmp_path)) + 'database = "postgresql:///mdg"\n')
    path.chmod(0o644)
    answer = run("config", "check", "--config", str(path))
    assert (answer.returncode, "chmod 600" in answer.stderr) == (2, True)
