"""A folder referenced in place: what a scan finds, leaves alone, notices and refuses."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.dicom.made import disk_directory
from tests.find import find, find_study
from tests.statements import ran

from mdg._core import digest_file
from mdg.errors import NotFound
from mdg.identity import Identities
from mdg.jobs.events import SETTLED, event
from mdg.jobs.table import State, listed
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.model.query import Field
from mdg.sources import watcher
from mdg.sources.folder import FolderSource
from mdg.sources.scan import ScanReport
from mdg.store import Store, index

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
CUSTODIAN = HpiO("8003621566684455")
P1 = LocalId("P1", "RMH")


async def complaints(store: Store) -> dict[str, str]:
    """Name of each file that is not served, and its code."""
    async with store.read() as connection:
        return {Path(one.where).name: one.code for one in await index.file_problems(connection, CUSTODIAN)}


async def test_a_study_is_found_with_its_facts(source: FolderSource, images: Path, write: Write) -> None:
    paths = [write(images / f"{number}.dcm", number=number) for number in (1, 2)]
    write(images / "other" / "3.dcm", series="1.2.3.2", number=3, Modality=None, SeriesNumber="-7")
    report = await source.scan()
    assert (report.seen, report.read, report.studies, report.instances, report.settled) == (3, 3, 1, 3, 1)
    (study,) = await find(source, [P1])
    assert study.key == StudyKey(CUSTODIAN, "1.2.3", 1)
    assert (study.started, study.description, study.accession) == ("2024-01-15T09:30:00+11:00", "Head", "A1")
    assert study.modalities == ("MR", "OT")
    assert [(one.uid, one.modality, one.number, one.instances) for one in study.series] == [
        ("1.2.3.1", "MR", 1, 2),
        ("1.2.3.2", "OT", None, 1),
    ]
    assert study.bytes == sum(path.stat().st_size for path in images.rglob("*.dcm"))
    patient = await source.patient(P1)
    assert patient is not None
    assert (patient.id, patient.family, patient.given) == (study.patient_id, "Test", ("Ann", "B"))
    assert (patient.birth_date, patient.sex) == ("1970-01-31", "F")
    files = await source.instances(study.key)
    assert [(file.located.key, file.located.sha256) for file in files[:2]] == [
        (str(path), sha256(path.read_bytes()).digest()) for path in paths
    ]
    assert (
        await find_study(source, "1.2.3", [P1]) == await find_study(source, study.id, [P1], Field.LOGICAL_ID) == study
    )


async def test_a_study_in_nested_folders_is_told_by_the_first_of_its_files(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    """One order for what files say and for what they are, also where one folder's name begins another's."""
    write(images / "a" / "z.dcm", StudyDescription="short")
    write(images / "a" / "b" / "x.dcm", StudyDescription="a description that is longer")
    first = write(images / "a-b" / "x.dcm", StudyDescription="of some other length")
    await source.scan()
    async with store.read() as connection:
        study = (await connection.execute(select(index.studies.c.description, index.studies.c.bytes))).one()
    assert tuple(study) == ("of some other length", first.stat().st_size)


async def test_an_unchanged_file_is_not_read_again(source: FolderSource, images: Path, write: Write) -> None:
    write(images / "1.dcm")
    (images / "notes.txt").write_text("not DICOM")
    await source.scan()
    report = await source.scan()
    assert (report.seen, report.read, report.unchanged, report.settled, report.problems) == (2, 0, 2, 0, 1)


async def test_the_check_table_of_a_large_file_is_read_by_the_piece(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    """Three rows of the table, of which the middle one is read where a range needs no other."""
    pieces = 2 * index.BLOCK + 3
    path = write(images / "1.dcm", PixelData=random.Random(1).randbytes((pieces - 1) * index.PIECE))
    await source.scan()
    (study,) = await find(source, [P1])
    (stored,) = await source.instances(study.key)
    whole = digest_file(str(path)).check
    assert len(whole) == pieces * index.CHECK
    for first, last in ((0, 0), (0, pieces - 1), (1023, 1024), (1024, 2047), (2048, pieces - 1)):
        start, end = first * index.PIECE, min((last + 1) * index.PIECE, stored.located.size)
        with ran() as statements:
            values = await source.checks(stored.located, start, end)
        assert values == whole[first * index.CHECK : (last + 1) * index.CHECK], (first, last)
        ((_, asked),) = statements
        numbers = asked.values() if isinstance(asked, dict) else asked
        assert {first // index.BLOCK, last // index.BLOCK} <= set(numbers)
    write(path, PixelData=bytes(1000))
    await source.scan()
    (stored,) = await source.instances(replace(study.key, version=2))
    assert stored.located.size < index.PIECE
    assert await source.checks(stored.located, 0, 1000) == b"", "one piece, which the SHA-256 proves"
    path.write_bytes(b"")
    await source.scan()
    assert await source.checks(stored.located, 0, 1) == b""


async def test_what_is_known_of_a_folder_is_found_without_looking_at_what_lies_below(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    write(images / "1.dcm")
    write(images / "below" / "2.dcm", number=2)
    (images / "notes.txt").write_text("not DICOM")
    await source.scan()
    part = index.Part(CUSTODIAN, source.name)
    async with store.read() as connection:
        with ran() as statements:
            known = await index.known(connection, part, str(images))
        assert {Path(key).name for key in known} == {"1.dcm", "notes.txt"}
        if connection.dialect.name == "sqlite":
            plans = [await _plan(connection, *one) for one in statements]
            assert all(step.startswith("SEARCH") and "folder=?" in step for (step,) in plans), plans
            assert "USING COVERING INDEX ix_instances_known" in plans[0][0]


async def _plan(connection: AsyncConnection, statement: str, parameters: Any) -> list[str]:
    rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [str(row.detail) for row in rows]


async def test_a_changed_study_is_a_new_version(source: FolderSource, images: Path, write: Write) -> None:
    first, second = (write(images / f"{number}.dcm", number=number) for number in (1, 2))
    await source.scan()
    write(second, number=2, StudyDescription="Head and neck")
    assert (await source.scan()).read == 1
    study = await find_study(source, "1.2.3", [P1])
    assert study is not None
    assert (study.key.version, study.instances) == (2, 2)
    with pytest.raises(NotFound):
        await source.instances(StudyKey(CUSTODIAN, "1.2.3", 1))
    second.unlink()
    report = await source.scan()
    assert (report.removed, report.settled) == (1, 1)
    study = await find_study(source, "1.2.3", [P1])
    assert study is not None
    assert (study.key.version, study.instances) == (3, 1)
    assert [file.located.key for file in await source.instances(study.key)] == [str(first)]


async def test_versions_go_on_counting_after_a_study_was_gone(source: FolderSource, images: Path, write: Write) -> None:
    write(images / "a" / "1.dcm")
    write(images / "b" / "1.dcm", study="1.2.4", series="1.2.4.1")
    await source.scan()
    shutil.rmtree(images / "a")
    assert (await source.scan()).removed == 1
    assert await find_study(source, "1.2.3", [P1]) is None
    assert [study.key.uid for study in await find(source, [P1])] == ["1.2.4"]
    write(images / "a" / "1.dcm")
    await source.scan()
    study = await find_study(source, "1.2.3", [P1])
    assert study is not None
    assert study.key.version == 3


async def test_bad_files_are_listed_with_what_to_do_and_the_rest_is_served(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    write(images / "good.dcm")
    whole = write(images / "cut.dcm", number=2).read_bytes()
    (images / "cut.dcm").write_bytes(whole[:-10])
    (images / "notes.txt").write_text("not DICOM")
    (images / "empty.dcm").write_bytes(b"")
    write(images / "nobody.dcm", number=3, PatientID="")
    write(images / "unnamed.dcm", number=4, StudyInstanceUID="")
    disk_directory(images / "DISKDIR")
    (images / ".DS_Store").write_bytes(b"Bud1")
    (images / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (images / ".trash").mkdir()
    write(images / ".trash" / "1.dcm", number=7)
    write(images / ".half-copied.dcm", number=6)
    (images / "linked.dcm").symlink_to(images / "good.dcm")
    Path(os.fsdecode(os.fsencode(images) + b"/\xff.dcm")).write_bytes(whole)
    os.mkfifo(images / "fifo")
    report = await source.scan()
    assert (report.instances, report.problems, report.passed_over) == (1, 8, 3)
    assert await complaints(store) == {
        "cut.dcm": "E_DICOM",
        "notes.txt": "E_NOT_DICOM",
        "empty.dcm": "E_NOT_DICOM",
        ".half-copied.dcm": "E_HIDDEN",
        "nobody.dcm": "E_DICOM_IDENTITY",
        "unnamed.dcm": "E_DICOM",
        "\\xff.dcm": "E_DICOM",
        "linked.dcm": "E_DICOM",
    }
    write(images / "cut.dcm", number=2)
    (images / "notes.txt").unlink()
    report = await source.scan()
    assert (report.read, report.instances, report.problems) == (1, 2, 6)


async def test_the_content_and_not_the_name_decides_what_is_an_instance(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    for number, name in enumerate(("DICOMDIR", "LOCKFILE", "Thumbs.db"), start=1):
        write(images / name, number=number)
    (images / "desktop.ini").write_text("[.ShellClassInfo]")
    report = await source.scan()
    assert (report.instances, report.problems, report.passed_over) == (3, 0, 1)
    async with store.read() as connection:
        assert await index.passed_over(connection, CUSTODIAN) == [str(images / "desktop.ini")]
    assert (await source.scan()).read == 0, "what was passed over is not read again"


async def test_a_file_that_could_not_be_read_is_tried_again_though_it_looks_the_same(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    status = write(images / "1.dcm").stat()
    row = index.object_row(str(images / "1.dcm"), str(status.st_mtime_ns), status.st_size)
    for code, read in (("E_SOURCE", 1), ("E_CHANGED", 1), ("E_DICOM", 0)):
        problem = row | {"code": code, "message": ""}
        part = index.Part(CUSTODIAN, source.name)
        await store.write(partial(index.keep, part=part, found=[], bad=[problem], known=[row["key"]]))
        report = await source.scan()
        assert (report.read, report.problems) == (read, 1 - read)


async def test_several_studies_and_patients_share_a_folder(source: FolderSource, images: Path, write: Write) -> None:
    write(images / "1.dcm")
    write(images / "2.dcm", study="1.2.4", series="1.2.4.1", PatientID="P2", IssuerOfPatientID=None)
    await source.scan()
    assert [study.key.uid for study in await find(source, [P1])] == ["1.2.3"]
    assert [study.key.uid for study in await find(source, [LocalId("P2", "RMH")])] == ["1.2.4"]
    assert await find(source, []) == []
    assert await find(source, [LocalId("P1", "OTHER")]) == []


async def test_mixed_patients_in_one_study_are_not_shown(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm", ihi="8003608833357361")
    write(images / "2.dcm", number=2, PatientID="P2", ihi="8003608166690503")
    await source.scan()
    assert await find(source, [P1, LocalId("P2", "RMH")]) == []
    assert await find_study(source, "1.2.3", [P1]) is None
    (problem,) = await identities.problems()
    assert problem.code == "mixed-patients"
    assert f"{images}/1.dcm and {images}/2.dcm" in problem.message
    assert await identities.local_ids(Ihi("8003608833357361")) == []
    write(images / "2.dcm", number=2, ihi="8003608833357361")
    await source.scan()
    assert await find_study(source, "1.2.3", [P1]) is not None
    assert len(await find(source, [P1])) == 1


async def test_two_contents_for_one_instance_are_not_shown_and_two_copies_count_once(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm")
    shutil.copy(images / "1.dcm", images / "copy.dcm")
    await source.scan()
    (study,) = await find(source, [P1])
    assert study.instances == len(await source.instances(study.key)) == 1
    write(images / "copy.dcm", StudyDescription="another")
    await source.scan()
    assert await find_study(source, "1.2.3", [P1]) is None
    (problem,) = await identities.problems()
    assert problem.code == "duplicate-instance"
    assert f"{images}/1.dcm and {images}/copy.dcm" in problem.message


async def test_a_settled_study_is_owed_to_the_registry_and_to_subscribers_once(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    write(images / "1.dcm")
    await source.scan()
    await source.scan()
    async with store.read() as connection:
        owed = await listed(connection, CUSTODIAN, states=list(State), most=10)
        happened = [await event(connection, CUSTODIAN, seq) for seq in (1, 2)]
    assert sorted((job.kind, job.key) for job in owed) == [("match-subscribers", "1"), ("tell-registry", "1.2.3")]
    assert [one and (one.kind, one.study) for one in happened] == [(SETTLED, StudyKey(CUSTODIAN, "1.2.3", 1)), None]


async def test_a_folder_that_is_not_mounted_keeps_its_studies(
    source: FolderSource, store: Store, images: Path, write: Write
) -> None:
    write(images / "a" / "1.dcm")
    await source.scan()
    images.rename(images.with_name("elsewhere"))
    for remake in (False, True):
        if remake:
            images.mkdir()
        report = await source.scan()
        assert (report.instances, report.removed, report.problems) == (1, 0, 1)
        assert await complaints(store) == {"images": "E_FS_UNAVAILABLE"}
    images.rmdir()
    images.with_name("elsewhere").rename(images)
    report = await source.scan()
    assert (report.read, report.problems, report.instances) == (0, 0, 1)


async def test_a_folder_that_left_the_settings_is_forgotten(
    store: Store, source: FolderSource, tmp_path: Path, images: Path, write: Write
) -> None:
    write(images / "1.dcm")
    await source.scan()
    (tmp_path / "new").mkdir()
    other = FolderSource(store, CUSTODIAN, [tmp_path / "new"], default_issuer="RMH", time_zone=source._terms.time_zone)
    assert (await other.scan()).removed == 1
    assert await find_study(source, "1.2.3", [P1]) is None


async def test_rebuild_reads_every_file_again_and_keeps_the_version(
    source: FolderSource, images: Path, write: Write
) -> None:
    write(images / "1.dcm")
    await source.scan()
    before = await find_study(source, "1.2.3", [P1])
    report = await source.scan(rebuild=True)
    assert (report.read, report.settled) == (1, 0)
    assert await find_study(source, "1.2.3", [P1]) == before


async def test_watching_settles_a_folder_once_it_is_quiet(
    store: Store, images: Path, source: FolderSource, write: Write
) -> None:
    watched = FolderSource(
        store, CUSTODIAN, [images], default_issuer="RMH", time_zone=source._terms.time_zone, quiet=0.3
    )
    write(images / "a" / "1.dcm")

    async def instances(uid: str) -> int:
        study = await find_study(watched, uid, [P1])
        return study.instances if study else 0

    async def until(uid: str, count: int) -> None:
        with anyio.fail_after(30):
            while await instances(uid) != count:  # noqa: ASYNC110 -- nothing tells a test that another task settled
                await anyio.sleep(0.05)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, watched)
        await until("1.2.3", 1)
        for number in range(1, 6):
            write(images / "b" / f"{number}.dcm", study="1.2.4", series="1.2.4.1", number=number)
            await anyio.sleep(0.02)
        await until("1.2.4", 5)
        study = await find_study(watched, "1.2.4", [P1])
        assert study is not None
        assert study.key.version == 1
        (images / "b" / "5.dcm").unlink()
        await until("1.2.4", 4)
        shutil.rmtree(images / "a")
        await until("1.2.3", 0)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("folder", ["one", "each series"])
async def test_watching_settles_no_study_that_is_still_being_written(
    store: Store, images: Path, source: FolderSource, write: Write, folder: str
) -> None:
    """A study comes for six times as long as is waited for: the files of its first seconds are quiet by then."""
    watched = FolderSource(
        store, CUSTODIAN, [images], default_issuer="RMH", time_zone=source._terms.time_zone, quiet=0.5
    )
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        if study := await find_study(watched, "1.2.4", [P1]):
            seen.append((study.key.version, study.instances))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, watched)
        await anyio.sleep(1)
        for number in range(1, 31):
            where = images / "b" / (f"{number // 10}" if folder == "each series" else "")
            write(where / f"{number}.dcm", study="1.2.4", series=f"1.2.4.{number // 10}", number=number)
            await anyio.sleep(0.1)
            await look()
        with anyio.fail_after(30):
            while not seen or seen[-1][1] != 30:
                await anyio.sleep(0.05)
                await look()
        tasks.cancel_scope.cancel()
    assert set(seen) == {(1, 30)}


async def test_a_study_settles_while_other_files_of_its_folder_never_rest(
    store: Store, images: Path, source: FolderSource, write: Write
) -> None:
    watched = FolderSource(
        store, CUSTODIAN, [images], default_issuer="RMH", time_zone=source._terms.time_zone, quiet=0.5
    )
    images.mkdir(exist_ok=True)
    log = images / "import.log"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watcher.follow, watched)
        await anyio.sleep(1)
        write(images / "1.dcm")
        with anyio.fail_after(30):
            while await find_study(watched, "1.2.3", [P1]) is None:
                log.write_text("a line\n")
                await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()


async def test_a_study_that_never_rests_settles_at_the_second_whole_scan(
    images: Path, source: FolderSource, write: Write
) -> None:
    write(images / "1.dcm")

    async def scan_restless() -> None:
        async for uids in source._pass(ScanReport(), source._everything, whole=True, still=False):
            await source.settle(uids)

    await scan_restless()
    assert await find_study(source, "1.2.3", [P1]) is None
    write(images / "2.dcm", number=2)
    await scan_restless()
    study = await find_study(source, "1.2.3", [P1])
    assert study is not None
    assert study.instances == 2
