"""The operator's door of jobs and `mdg jobs`: what is owed, why it is not done, tried now, and not done at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.web.test_audit import details_of

from mdg.cli.jobs import STATES
from mdg.jobs import Failed, Job, Kind, New, State
from mdg.sandbox.identifiers import EXAMPLE_IHI
from mdg.web.admin.jobs import OPEN

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
MDG = [sys.executable, "-m", "mdg.cli", "jobs"]


async def mdg_jobs(gateway: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*MDG, *arguments, "--admin", gateway.admin]
    return await to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    )


async def owe(gateway: Any, *keys: str, **fields: Any) -> None:
    """Jobs of a kind that every try of this gateway refuses, and that name a person in what only the handler reads."""
    new = [New("refused", key, payload={"ihi": EXAMPLE_IHI}, **fields) for key in keys]
    await gateway.rooms.store.write(lambda connection: gateway.rooms.jobs.add(connection, *new))


async def refuse(_: Job) -> Failed:
    return Failed("status-500", "the receiver answered 500", asked=timedelta(hours=1))


async def tried(gateway: Any) -> None:
    """Has the gateway try them, and waits until it has tried each."""
    gateway.rooms.jobs.do(Kind("refused", refuse, tries=2))
    with anyio.fail_after(20):
        while not all(job["error"] for job in (await ask(gateway, "GET", "/jobs?kind=refused")).json()["jobs"]):  # noqa: ASYNC110 -- polls another listener
            await anyio.sleep(0.05)


async def ask(gateway: Any, method: str, path: str) -> Any:
    return await gateway.consumer.http.request(method, f"{gateway.admin}{path}")


async def test_what_is_owed_is_listed_and_counted(start: Start) -> None:
    async with start() as gateway:
        answer = (await ask(gateway, "GET", "/jobs")).json()
        owed = {(job["kind"], job["state"], job["tries"]) for job in answer["jobs"]}
        assert owed >= {(kind, "waiting", 0) for kind in ("match-subscribers", "tell-registry")}
        periodic = {job["kind"] for job in answer["jobs"] if not job["about"]}
        assert periodic == {"sweep-spool", "forget-jobs"}
        assert {job["about"].split()[0] for job in answer["jobs"] if job["about"]} == {"study"}
        assert answer["counts"]["tell-registry"] == {"waiting": 1}
        health = (await ask(gateway, "GET", "/health")).json()
        assert health["jobs"]["match-subscribers"] == {"waiting": 1}


async def test_a_job_says_why_it_is_not_done_and_names_nobody(start: Start) -> None:
    async with start() as gateway:
        await owe(gateway, "1", "2", "3")
        await tried(gateway)
        first = await ask(gateway, "GET", "/jobs?kind=refused&limit=2")
        newest, older = first.json()["jobs"]
        assert newest["id"] > older["id"] == first.json()["next"]
        second = await ask(gateway, "GET", f"/jobs?kind=refused&limit=2&before={older['id']}")
        assert (len(second.json()["jobs"]), second.json()["next"]) == (1, None)
        assert EXAMPLE_IHI not in first.text + second.text
        assert (newest["error"], newest["why"], newest["tries"]) == ("status-500", "the receiver answered 500", 1)
        assert newest["process"].split()[1].isdecimal()
        assert (await ask(gateway, "GET", f"/jobs/{newest['id']}")).json() == newest


async def test_a_retry_and_a_cancellation_are_on_record_and_so_is_each_look(start: Start) -> None:
    async with start() as gateway:
        await owe(gateway, "1", "2", due=gateway.rooms.clock() + timedelta(hours=1))
        second, first = (await ask(gateway, "GET", "/jobs?kind=refused")).json()["jobs"]
        made = await ask(gateway, "POST", f"/jobs/{first['id']}/retry")
        ended = await ask(gateway, "POST", f"/jobs/{second['id']}/cancel")
        assert (made.json()["state"], ended.json()["state"]) == ("waiting", "cancelled")
        records = [
            details_of(record)
            for answer in (made, ended)
            for record in await gateway.records(answer.headers["x-request-id"])
        ]
        about = {"kind": "refused"}
        assert records == [
            about | {"change": "tried now", "job": str(first["id"]), "about": "1"},
            about | {"change": "cancelled", "job": str(second["id"]), "about": "2"},
        ]
        (looked,) = await gateway.records((await ask(gateway, "GET", "/jobs")).headers["x-request-id"])
        assert details_of(looked) == {"read": "jobs"}
        (record,) = await gateway.records(made.headers["x-request-id"])
        assert [agent["who"]["display"] for agent in record["agent"] if agent["requestor"]] == ["operator"]
        again = await ask(gateway, "POST", f"/jobs/{second['id']}/cancel")
        assert (again.status_code, again.json()["detail"]) == (409, "the job is cancelled")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/jobs?state=lost", 400),
        ("GET", "/jobs?limit=0", 400),
        ("GET", "/jobs?limit=1001", 400),
        ("GET", "/jobs?before=9223372036854775808", 400),
        ("GET", "/jobs?limit=%C2%B2", 400),
        ("GET", "/jobs?page=2", 400),
        ("GET", "/jobs?kind=a&kind=b", 400),
        ("GET", "/jobs/4711", 404),
        ("GET", "/jobs/x", 404),
        ("POST", "/jobs/9999999999999999999/retry", 404),
        ("POST", "/jobs/4711/cancel", 404),
    ],
)
async def test_what_no_job_has_is_refused(start: Start, method: str, path: str, status: int) -> None:
    async with start() as gateway:
        assert (await ask(gateway, method, path)).status_code == status


def test_the_states_of_the_command_are_those_of_the_door() -> None:
    assert list(STATES) == [OPEN, *State]


async def test_mdg_jobs_lists_shows_retries_and_cancels(start: Start) -> None:
    async with start() as gateway:
        await owe(gateway, "one thing")
        await tried(gateway)
        listed = await mdg_jobs(gateway, "list", "--kind", "refused")
        assert listed.returncode == 0, listed.stderr
        (line,) = listed.stdout.splitlines()
        id_ = line.split()[0]
        assert line.startswith(f"{id_}  refused  one thing  waiting  1 try, due 2")
        assert line.endswith("status-500: the receiver answered 500")
        shown = await mdg_jobs(gateway, "show", id_)
        assert "the last try failed: status-500: the receiver answered 500\n" in shown.stdout
        again = await mdg_jobs(gateway, "retry", id_)
        assert again.stdout == f"job {id_} (refused, one thing) is tried now\n"
        ended = await mdg_jobs(gateway, "cancel", id_, "--json")
        assert (ended.returncode, json.loads(ended.stdout)["state"]) == (0, "cancelled")
        assert (await mdg_jobs(gateway, "list", "--kind", "refused")).stdout == "no job is open\n"
        twice = await mdg_jobs(gateway, "cancel", id_)
        assert (twice.returncode, "your gateway answered 409" in twice.stderr) == (1, True)
        wrong = await mdg_jobs(gateway, "list", "--state", "lost")
        assert wrong.returncode == 2
