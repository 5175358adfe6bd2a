"""Searches that a gateway cannot answer at once: an answer is whole, or says what it lacks, or is 503. It is never a
false "nothing found"."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.web.conftest import register

from mdg.app import Rooms
from mdg.errors import Unavailable
from mdg.model.identity import LocalId
from mdg.model.imaging import Study
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER
from mdg.store.index import series, studies, versions

Start = Callable[..., Any]

pytestmark = pytest.mark.anyio

SEARCH = "/fhir/ImagingStudy/_search"


async def multiply(rooms: Rooms, number: int, **changed: str) -> str:
    """Gives the patient of the phantom `number` studies more, all newer than the phantom, whose StudyInstanceUID is
    returned: it stands on the last page. `changed` are columns of theirs."""

    async def copy(connection: AsyncConnection) -> str:
        (study,) = (await connection.execute(select(studies))).mappings()
        (version,) = (await connection.execute(select(versions))).mappings()
        (one,) = (await connection.execute(select(series))).mappings()
        uids = [f"1.2.9.{n}" for n in range(number)]
        later = {"started": "2099-01-01T10:00:00+11:00"}
        copies = [{**study, **later, **changed, "uid": uid, "id": f"{n:032x}"} for n, uid in enumerate(uids)]
        await connection.execute(insert(versions), [{**version, "uid": uid} for uid in uids])
        await connection.execute(insert(studies), copies)
        await connection.execute(insert(series), [{**one, "study": uid, "uid": f"{uid}.1"} for uid in uids])
        return str(study["uid"])

    return await rooms.store.write(copy)


async def test_of_40_searches_of_3000_studies_at_once_each_is_whole_or_refused(start: Start) -> None:
    async with start() as gateway:
        await multiply(gateway.rooms, 2999)
        answers = []

        async def search() -> None:
            answers.append(await gateway.consumer.search())

        gateway.consumer.http.timeout = 60
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(search)
        seen = Counter((answer.status_code, answer.json().get("total")) for answer in answers)
        assert set(seen) <= {(200, 3000), (503, None)}, seen
        assert all(int(answer.headers["retry-after"]) for answer in answers if answer.status_code == 503)
        alone = await gateway.consumer.search()
        assert (alone.status_code, alone.json()["total"]) == (200, 3000)


async def test_a_source_that_is_late_is_not_an_empty_answer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other source, of received studies, answers at once that it has none."""
    async with start() as gateway:

        async def late(patients: Sequence[LocalId]) -> Sequence[Study]:
            await anyio.sleep(30)
            raise AssertionError("its time is over")

        monkeypatch.setattr(gateway.rooms.sources[0], "find", late)
        answer = await gateway.consumer.search()
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
        assert answer.headers["retry-after"]
        (record,) = await gateway.records(answer.headers["x-request-id"])
        assert record["outcome"] == "8"


async def mdg(*arguments: str) -> Any:
    """The command line, in a process of its own, with the IHI on standard input."""
    command = [sys.executable, "-m", "mdg.cli", *arguments]
    return await anyio.run_process(command, input=EXAMPLE_IHI.encode(), check=False)


async def test_find_lists_all_pages_and_fetch_gets_the_last_study(start: Start, tmp_path: Path) -> None:
    async with start() as gateway:
        await register(gateway.consumer.http, gateway.rooms.directory_url, gateway.rooms.keyring)
        last = await multiply(gateway.rooms, 120)
        asked = ("--gateway", gateway.url, "--ihi", "-", "--data", str(tmp_path / "keys"), "--json")
        found = await mdg("find", *asked)
        told = json.loads(found.stdout)
        assert found.returncode == 0
        assert told["missing"] == []
        assert len({one["study"] for one in told["studies"]}) == len(told["studies"]) == 121
        assert told["studies"][-1]["study"] == last
        fetched = await mdg("fetch", *asked, "--study", last, "-o", str(tmp_path / "study"))
        assert fetched.returncode == 0, fetched.stderr
        assert json.loads(fetched.stdout)["instances"] == 3


async def test_find_names_the_source_that_did_not_answer(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as gateway:

        async def down(patients: Sequence[LocalId]) -> Sequence[Study]:
            raise Unavailable(reason="pacs")

        monkeypatch.setattr(gateway.rooms.received, "find", down)
        asked = ("--gateway", gateway.url, "--ihi", "-", "--data", str(tmp_path / "keys"))
        found = await mdg("find", *asked)
        assert found.returncode == 1
        assert b"1 study" in found.stdout
        assert b"incomplete: source received did not answer" in found.stderr


async def test_a_retrieval_by_a_gateway_does_not_take_a_part_for_the_whole(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway asks itself: it would find its one study, and cannot know that there is no other."""
    async with start() as gateway:

        async def down(patients: Sequence[LocalId]) -> Sequence[Study]:
            raise Unavailable(reason="pacs")

        monkeypatch.setattr(gateway.rooms.received, "find", down)
        await register(gateway.consumer.http, gateway.rooms.directory_url, gateway.rooms.keyring)
        ask = {"gateway": gateway.url, "ihi": EXAMPLE_IHI, "provider": EXAMPLE_PROVIDER}
        refused = await gateway.consumer.http.post(f"{gateway.admin}/retrievals", json=ask)
        assert refused.status_code == 502
        assert "source received did not answer" in refused.text
        assert "partial" in json.dumps(await gateway.records(refused.headers["x-request-id"]))
