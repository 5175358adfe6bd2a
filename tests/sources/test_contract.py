"""What every source promises, run against each kind (architecture: a real one and its neighbours pass one suite)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.find import find, find_study
from tests.sources.conftest import ZONE
from tests.sources.objects import ObjectSource
from tests.statements import seen

from mdg import envelope
from mdg.errors import NotFound, Refused, Unavailable
from mdg.exchange.reception import keep
from mdg.model.identity import HpiO, LocalId
from mdg.model.imaging import StudyKey
from mdg.model.located import Located
from mdg.model.query import Field
from mdg.sources.folder import FolderSource
from mdg.sources.kinds import Shared
from mdg.sources.local_files import local_files
from mdg.sources.received import ReceivedSource
from mdg.sources.source import Finds, Reads
from mdg.store import Store, index

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
Arrive = Callable[..., Awaitable[tuple[Path, envelope.Report]]]
CUSTODIAN = HpiO("8003621566684455")


@dataclass(frozen=True)
class Filled:
    """A source with the study 1.2.3 of P1 and 1.2.4 of P2, numbers of `issuer`: ours in a folder, the sender's in what
    was received."""

    source: Finds
    store: Store
    issuer: str

    def person(self, value: str) -> LocalId:
        return LocalId(value, self.issuer)


def shared(store: Store, data: Path) -> Shared:
    return Shared(store, CUSTODIAN, "RMH", ZONE, data)


@pytest.fixture(params=["folder", "received", "objects"])
async def filled(
    request: pytest.FixtureRequest, source: FolderSource, received: ReceivedSource, store: Store, images: Path
) -> Filled:
    write: Write = request.getfixturevalue("write")
    arrive: Arrive = request.getfixturevalue("arrive")
    studies: tuple[dict[str, str], ...] = (
        {"study": "1.2.3", "series": "1.2.3.1", "PatientID": "P1"},
        {"study": "1.2.4", "series": "1.2.4.1", "PatientID": "P2"},
    )
    if request.param == "folder":
        for values in studies:
            for number in (1, 2):
                write(images / values["study"] / f"{number}.dcm", number=number, **values)
        await source.scan()
        return Filled(source, store, "RMH")
    if request.param == "objects":
        objects = ObjectSource(shared(store, images), "objects", images / "bucket.zip")
        for values in studies:
            for number in (1, 2):
                file = write(images.parent / "object.dcm", number=number, **values)
                await objects.put(f"{values['study']}/{number}", file)
        await objects.scan()
        return Filled(objects, store, "RMH")
    for values in studies:
        await keep(received, *await arrive(**values))
    return Filled(received, store, f"{CUSTODIAN.uri}#RMH")


async def test_only_the_studies_of_the_named_patients_are_found(filled: Filled) -> None:
    assert [study.key.uid for study in await find(filled.source, [filled.person("P1")])] == ["1.2.3"]
    assert {study.key.uid for study in await find(filled.source, [filled.person("P1"), filled.person("P2")])} == {
        "1.2.3",
        "1.2.4",
    }
    assert await find(filled.source, []) == []
    assert await find(filled.source, [LocalId("P1", "ELSEWHERE")]) == []


async def test_a_study_is_the_same_by_every_way_to_it(filled: Filled) -> None:
    (study,) = await find(filled.source, [filled.person("P1")])
    theirs = [filled.person("P1")]
    assert await find_study(filled.source, study.key.uid, theirs) == study
    assert await find_study(filled.source, study.id, theirs, Field.LOGICAL_ID) == study
    assert await filled.source.owner(study.key.uid) == study.patient
    assert await filled.source.owner("9.9") is None
    assert await find_study(filled.source, "9.9", theirs) is None
    assert await find_study(filled.source, "nothing", theirs, Field.LOGICAL_ID) is None
    assert study.key == StudyKey(CUSTODIAN, "1.2.3", 1)
    assert study.labels == ("N",)


async def test_a_study_of_somebody_else_is_looked_up_by_the_same_statements_as_an_unknown_one(filled: Filled) -> None:
    (study,) = await find(filled.source, [filled.person("P1")])
    statements: dict[str, list[str]] = {}
    for name, uid, id_ in (("hidden", study.key.uid, study.id), ("unknown", "9.9", "nothing")):
        with seen() as statements[name]:
            assert await find_study(filled.source, uid, [filled.person("P2")]) is None
            assert await find_study(filled.source, id_, [filled.person("P2")], Field.LOGICAL_ID) is None
    assert statements["hidden"] == statements["unknown"]
    assert len(statements["unknown"]) == 4


async def test_the_patient_of_a_study_is_known(filled: Filled) -> None:
    (study,) = await find(filled.source, [filled.person("P2")])
    patient = await filled.source.patient(filled.person("P2"))
    assert patient is not None
    assert (patient.id, patient.local) == (study.patient_id, filled.person("P2"))
    assert await filled.source.patient(filled.person("P3")) is None


async def test_instances_are_those_of_exactly_this_version(filled: Filled) -> None:
    (study,) = await find(filled.source, [filled.person("P1")])
    files = await filled.source.instances(study.key)
    assert [file.sop_instance_uid for file in files] == ["1.2.3.1.1", "1.2.3.1.2"]
    assert sum(file.located.size for file in files) == study.bytes
    assert sum(one.instances for one in study.series) == len(files) == study.instances
    for key in (
        StudyKey(CUSTODIAN, "1.2.3", 2),
        StudyKey(CUSTODIAN, "9.9", 1),
        StudyKey(HpiO("8003629900019338"), "1.2.3", 1),
    ):
        with pytest.raises(NotFound):
            await filled.source.instances(key)


async def test_each_object_is_read_by_its_source_in_any_range(filled: Filled) -> None:
    source = filled.source
    assert isinstance(source, Reads)
    (study,) = await find(source, [filled.person("P1")])
    for stored in await filled.source.instances(study.key):
        located = stored.located
        assert located.source == filled.source.name
        whole = await _bytes(source, located, 0, located.size)
        assert (len(whole), sha256(whole).digest()) == (located.size, located.sha256)
        for start, end in ((0, 1), (1, 58), (located.size - 1, located.size)):
            assert await _bytes(source, located, start, end) == whole[start:end]


async def _bytes(source: Reads, located: Located, start: int, end: int) -> bytes:
    given = await source.read(located, start, end)
    return given if isinstance(given, bytes) else given.read_bytes()[start:end]


async def test_objects_are_files_while_they_are_needed_and_no_copy_stays(filled: Filled, tmp_path: Path) -> None:
    source = filled.source
    assert isinstance(source, Reads)
    (study,) = await find(source, [filled.person("P1")])
    objects = [stored.located for stored in await filled.source.instances(study.key)]
    copies = tmp_path / "spool" / "copy"
    copies.parent.mkdir()
    async with local_files(source, objects, copies) as files:
        assert [sha256(file.read_bytes()).digest() for file in files] == [one.sha256 for one in objects]
        assert all(file.stat().st_mode & 0o077 == 0 for file in copies.parent.iterdir())
    assert not list(copies.parent.iterdir())
    with pytest.raises(Refused):
        async with local_files(source, objects, copies) as files:
            raise Refused("E_STORE_CORRUPT", str(files[1]), "its digest is another")
    assert not list(copies.parent.iterdir())
    async with filled.store.read() as connection:
        (problem,) = await index.file_problems(connection, CUSTODIAN)
    assert (problem.code, problem.where) == ("E_CHANGED", objects[1].key)


async def test_a_store_that_does_not_answer_is_unavailable(filled: Filled) -> None:
    async def break_it(connection: AsyncConnection) -> None:
        for table in ("series", "studies", "patients"):
            await connection.exec_driver_sql(f"DROP TABLE {table}")

    await filled.store.write(break_it)
    for ask in (
        find(filled.source, [filled.person("P1")]),
        find_study(filled.source, "1.2.3", [filled.person("P1")]),
        filled.source.patient(filled.person("P1")),
    ):
        with pytest.raises(Unavailable):
            await ask
