"""What every source promises, run against each kind (architecture: a real one and its neighbours pass one suite)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.statements import seen

from mdg import envelope
from mdg.errors import NotFound, Unavailable
from mdg.model.identity import HpiO, LocalId
from mdg.model.imaging import StudyKey
from mdg.sources.folder import FolderSource
from mdg.sources.received import ReceivedSource
from mdg.sources.source import Source
from mdg.store import Store

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
Arrive = Callable[..., Awaitable[tuple[Path, envelope.Report]]]
CUSTODIAN = HpiO("8003621566684455")


@dataclass(frozen=True)
class Filled:
    """A source with the study 1.2.3 of P1 and 1.2.4 of P2, numbers of `issuer`: ours in a folder, the sender's in what
    was received."""

    source: Source
    store: Store
    issuer: str

    def person(self, value: str) -> LocalId:
        return LocalId(value, self.issuer)


@pytest.fixture(params=["folder", "received"])
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
    for values in studies:
        await received.add(*await arrive(**values))
    return Filled(received, store, f"{CUSTODIAN.uri}#RMH")


async def test_only_the_studies_of_the_named_patients_are_found(filled: Filled) -> None:
    assert [study.key.uid for study in await filled.source.find([filled.person("P1")])] == ["1.2.3"]
    assert {study.key.uid for study in await filled.source.find([filled.person("P1"), filled.person("P2")])} == {
        "1.2.3",
        "1.2.4",
    }
    assert await filled.source.find([]) == []
    assert await filled.source.find([LocalId("P1", "ELSEWHERE")]) == []


async def test_a_study_is_the_same_by_every_way_to_it(filled: Filled) -> None:
    (study,) = await filled.source.find([filled.person("P1")])
    theirs = [filled.person("P1")]
    assert await filled.source.study(study.key.uid, theirs) == study
    assert await filled.source.study_by_id(study.id, theirs) == study
    assert await filled.source.owner(study.key.uid) == study.patient
    assert await filled.source.owner("9.9") is None
    assert await filled.source.study("9.9", theirs) is None
    assert await filled.source.study_by_id("nothing", theirs) is None
    assert study.key == StudyKey(CUSTODIAN, "1.2.3", 1)
    assert study.labels == ("N",)


async def test_a_study_of_somebody_else_is_looked_up_by_the_same_statements_as_an_unknown_one(filled: Filled) -> None:
    (study,) = await filled.source.find([filled.person("P1")])
    statements: dict[str, list[str]] = {}
    for name, uid, id_ in (("hidden", study.key.uid, study.id), ("unknown", "9.9", "nothing")):
        with seen() as statements[name]:
            assert await filled.source.study(uid, [filled.person("P2")]) is None
            assert await filled.source.study_by_id(id_, [filled.person("P2")]) is None
    assert statements["hidden"] == statements["unknown"]
    assert len(statements["unknown"]) == 4


async def test_the_patient_of_a_study_is_known(filled: Filled) -> None:
    (study,) = await filled.source.find([filled.person("P2")])
    patient = await filled.source.patient(filled.person("P2"))
    assert patient is not None
    assert (patient.id, patient.local) == (study.patient_id, filled.person("P2"))
    assert await filled.source.patient(filled.person("P3")) is None


async def test_instances_are_those_of_exactly_this_version(filled: Filled) -> None:
    (study,) = await filled.source.find([filled.person("P1")])
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


async def test_a_store_that_does_not_answer_is_unavailable(filled: Filled) -> None:
    async def break_it(connection: AsyncConnection) -> None:
        for table in ("series", "studies", "patients"):
            await connection.exec_driver_sql(f"DROP TABLE {table}")

    await filled.store.write(break_it)
    for ask in (
        filled.source.find([filled.person("P1")]),
        filled.source.study("1.2.3", [filled.person("P1")]),
        filled.source.patient(filled.person("P1")),
    ):
        with pytest.raises(Unavailable):
            await ask
