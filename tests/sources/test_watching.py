"""Each kind of source that watches announces studies in its own way; what follows from it is the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import anyio
import pytest
from tests.find import find, find_study
from tests.sources.conftest import CUSTODIAN, ZONE
from tests.sources.objects import ObjectSource

from mdg.errors import Unavailable
from mdg.jobs.events import event
from mdg.model.identity import LocalId
from mdg.model.imaging import StudyKey
from mdg.sources import watcher
from mdg.sources.folder import FolderSource
from mdg.sources.kinds import Shared
from mdg.sources.study_version import Terms
from mdg.store import Store

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
P1 = LocalId("P1", "RMH")


@pytest.fixture
def objects(store: Store, tmp_path: Path) -> ObjectSource:
    return ObjectSource(Shared(store, CUSTODIAN, "RMH", ZONE, tmp_path), "objects", tmp_path / "bucket.zip")


async def happened(store: Store) -> list[StudyKey]:
    """The studies of all events, in their order."""
    async with store.read() as connection:
        found = [await event(connection, CUSTODIAN, number) for number in range(1, 10)]
    return [one.study for one in found if one is not None]


async def test_a_study_is_whole_when_its_source_says_so_and_not_before(
    objects: ObjectSource, store: Store, tmp_path: Path, write: Write
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, objects)
        for number in (1, 2):
            await objects.put(f"a/{number}", write(tmp_path / "object.dcm", number=number))
            assert await find(objects, [P1]) == []
        await objects.complete("1.2.3")
        with anyio.fail_after(10):
            while not await find(objects, [P1]):  # noqa: ASYNC110 -- nothing tells a test that another task settled
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    (study,) = await find(objects, [P1])
    assert (study.key.version, study.instances) == (1, 2)
    assert await happened(store) == [study.key]


async def test_a_new_version_of_an_object_is_a_new_version_of_its_study(
    objects: ObjectSource, tmp_path: Path, write: Write
) -> None:
    await objects.put("a/1", write(tmp_path / "object.dcm"))
    await objects.scan()
    await objects.put("a/1", write(tmp_path / "object.dcm", StudyDescription="another"))
    assert (await objects.scan()).read == 1
    (study,) = await find(objects, [P1])
    assert (study.key.version, study.description) == (2, "another")
    assert (await objects.scan()).read == 0


async def test_what_could_not_be_settled_is_tried_again_and_the_source_is_followed_on(
    objects: ObjectSource, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source announces twice: the first time the database does not answer."""
    await objects.put("a/1", write(tmp_path / "object.dcm"))
    failures = [Unavailable(reason="store")]
    settle = objects.settle

    async def fail_once(uids: Sequence[str]) -> int:
        if failures:
            raise failures.pop()
        return await settle(uids)

    monkeypatch.setattr(objects, "settle", fail_once)
    monkeypatch.setattr(watcher, "PAUSE", 0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, objects)
        await objects.complete("1.2.3")
        await objects.complete("1.2.3")
        with anyio.fail_after(10):
            while not await find(objects, [P1]):  # noqa: ASYNC110 -- as above
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()


async def test_a_folder_announces_again_what_did_not_settle(store: Store, images: Path, write: Write) -> None:
    source = FolderSource(store, CUSTODIAN, [images], default_issuer="RMH", time_zone=ZONE, quiet=0.1)
    write(images / "1.dcm")
    announced: AsyncGenerator[Sequence[str], None] = source.watch()
    with anyio.fail_after(30):
        assert list(await anext(announced)) == ["1.2.3"]
        assert list(await anext(announced)) == ["1.2.3"], "nobody settled it"
        await source.settle(["1.2.3"])
    await announced.aclose()
    assert not source.scanning
    assert await find_study(source, "1.2.3", [P1]) is not None


async def test_a_source_that_left_the_settings_is_forgotten_and_its_studies_are_gone(
    objects: ObjectSource, source: FolderSource, store: Store, tmp_path: Path, *, images: Path, write: Write
) -> None:
    await objects.put("a/1", write(tmp_path / "object.dcm", study="1.2.4", series="1.2.4.1"))
    (tmp_path / "notes.txt").write_text("not DICOM")
    await objects.put("a/notes.txt", tmp_path / "notes.txt")
    write(images / "1.dcm")
    await watcher.scan([objects, source])
    assert len(await happened(store)) == 2
    await watcher.forget_others(store, CUSTODIAN, ["folder"], Terms("RMH", ZONE))
    assert await find(objects, [P1]) == []
    assert [study.key.uid for study in await find(source, [P1])] == ["1.2.3"]
    assert (await happened(store))[-1] == StudyKey(CUSTODIAN, "1.2.4", 2)
    report = await watcher.scan([objects, source])
    assert (report.read, report.studies, report.unchanged) == (2, 2, 1)


async def test_a_source_that_fails_is_followed_anew(
    objects: ObjectSource, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that nobody may look into ends no gateway."""
    watch, failures = objects.watch, [PermissionError(13, "Permission denied")]

    async def failing() -> AsyncGenerator[Sequence[str], None]:
        if failures:
            raise failures.pop()
        async for uids in watch():
            yield uids

    monkeypatch.setattr(objects, "watch", failing)
    monkeypatch.setattr(watcher, "PAUSE", 0.01)
    await objects.put("a/1", write(tmp_path / "object.dcm"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, objects)
        await objects.complete("1.2.3")
        with anyio.fail_after(10):
            while not await find(objects, [P1]):  # noqa: ASYNC110 -- nothing tells a test that another task settled
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
