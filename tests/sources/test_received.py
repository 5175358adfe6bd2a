"""What arrived in envelopes: kept whole or not at all, found under the IHI that the envelope named."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.databases import make_read_only
from tests.find import find, find_study

from mdg import envelope
from mdg.errors import NotFound, Refused, Unavailable
from mdg.exchange.reception import keep
from mdg.identity import Identities
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.sources.folder import FolderSource
from mdg.sources.received import ReceivedSource
from mdg.store import Store

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
Arrive = Callable[..., Awaitable[tuple[Path, envelope.Report]]]
CUSTODIAN = HpiO("8003621566684455")
IHI = Ihi("8003608833357361")
OTHER = Ihi("8003608166690503")
THEIRS = [LocalId("P1", f"{CUSTODIAN.uri}#RMH")]


async def test_an_arrived_study_is_kept_and_found_by_the_ihi_of_its_envelope(
    received: ReceivedSource, identities: Identities, tmp_path: Path, arrive: Arrive
) -> None:
    folder, report = await arrive()
    key = await keep(received, folder, report)
    assert key == StudyKey(CUSTODIAN, "1.2.3", 1)
    assert not folder.exists()
    assert list(await identities.local_ids(IHI)) == [LocalId("P1", f"{CUSTODIAN.uri}#RMH")]
    (study,) = await find(received, await identities.local_ids(IHI))
    assert study.key == key
    files = await received.instances(key)
    assert len(files) == report.instances == 2
    for file in files:
        path = Path(file.located.key)
        assert path.is_relative_to(tmp_path / "data" / "received" / "1.2.3")
        assert path.stat().st_size == file.located.size


async def test_a_second_arrival_replaces_the_first(received: ReceivedSource, tmp_path: Path, arrive: Arrive) -> None:
    first = await keep(received, *await arrive())
    same = await keep(received, *await arrive())
    assert same == first
    more = await keep(received, *await arrive(instances=3))
    assert more == replace(first, version=2)
    assert len(await received.instances(more)) == 3
    with pytest.raises(NotFound):
        await received.instances(first)
    assert len(list((tmp_path / "data" / "received" / "1.2.3").iterdir())) == 1


async def test_a_study_is_not_kept_when_what_is_written_with_it_is_not(
    received: ReceivedSource, tmp_path: Path, arrive: Arrive
) -> None:
    async def fail(_: AsyncConnection) -> None:
        raise Unavailable(reason="audit")

    with pytest.raises(Unavailable):
        await keep(received, *await arrive(), also=fail)
    assert await find_study(received, "1.2.3", THEIRS) is None
    assert not list((tmp_path / "data" / "received").rglob("*.dcm"))


async def test_a_study_that_is_being_written_when_its_taker_leaves_keeps_its_files(
    received: ReceivedSource, arrive: Arrive
) -> None:
    """A transaction under way goes on; without the files its rows would name nothing."""
    with anyio.CancelScope() as scope:

        async def leave(_: AsyncConnection) -> None:
            scope.cancel()

        await keep(received, *await arrive(), also=leave)
    study = await find_study(received, "1.2.3", THEIRS)
    assert study is not None
    assert all(Path(file.located.key).is_file() for file in await received.instances(study.key))


async def test_a_study_whose_commit_is_done_though_its_answer_was_lost_keeps_its_files(
    received: ReceivedSource, store: Store, monkeypatch: pytest.MonkeyPatch, arrive: Arrive
) -> None:
    write = store.write

    async def lose(work: Callable[[AsyncConnection], Awaitable[object]]) -> None:
        monkeypatch.undo()
        await write(work)
        raise Unavailable(reason="store")

    monkeypatch.setattr(store, "write", lose)
    with pytest.raises(Unavailable):
        await keep(received, *await arrive())
    study = await find_study(received, "1.2.3", THEIRS)
    assert study is not None
    assert all(Path(file.located.key).is_file() for file in await received.instances(study.key))


async def test_one_study_in_two_sources_never_has_one_key_for_two_contents(
    received: ReceivedSource, source: FolderSource, images: Path, write: Write, arrive: Arrive
) -> None:
    write(images / "own.dcm")
    await source.scan()
    arrived = await keep(received, *await arrive())
    write(images / "later.dcm", number=2)
    await source.scan()
    own = await find_study(source, "1.2.3", [LocalId("P1", "RMH")])
    assert own is not None
    assert (arrived.version, own.key.version) == (2, 3)
    assert await received.instances(arrived)
    for key in (arrived, replace(arrived, version=1)):
        with pytest.raises(NotFound):
            await source.instances(key)


@pytest.mark.parametrize("doubt", ["another IHI", "two patients", "two issuers", "two contents", "earlier study"])
async def test_what_would_be_in_quarantine_is_refused_on_arrival(
    received: ReceivedSource, identities: Identities, write: Write, arrive: Arrive, doubt: str
) -> None:
    """A study in doubt could be shown to nobody; kept, it could only do harm."""
    match doubt:
        case "another IHI":
            folder, report = await arrive(said="8003608166690503", ihi=IHI)
        case "earlier study":
            await keep(received, *await arrive(study="1.2.9", series="1.2.9.1"))
            folder, report = await arrive(said=OTHER)
        case _:
            folder, report = await arrive()
            other: dict[str, object] = {"two patients": {"PatientID": "P2"}, "two issuers": {"IssuerOfPatientID": "B"}}
            changed = other.get(doubt, {"SOPInstanceUID": "1.2.3.1.1"})
            write(folder / "dicom" / "third.dcm", number=3, **changed)  # type: ignore[arg-type]
            report = replace(report, instances=3)
    before = await identities.local_ids(IHI)
    with pytest.raises(Refused, match="E_DICOM_IDENTITY") as refused:
        await keep(received, folder, report)
    assert "P1" not in str(refused.value)
    assert await find_study(received, "1.2.3", THEIRS) is None
    assert await identities.problems() == []
    assert await identities.local_ids(IHI) == before
    assert not folder.exists()
    assert not list((folder.parent.parent / "data" / "received" / "1.2.3").rglob("*.dcm"))


@pytest.mark.parametrize("named", [(None, "RMH"), ("RMH", None), (None, None)], ids=str)
async def test_a_file_without_an_issuer_has_the_one_that_the_others_name(
    received: ReceivedSource, identities: Identities, write: Write, arrive: Arrive, named: tuple[str | None, str | None]
) -> None:
    folder, report = await arrive(instances=1, IssuerOfPatientID=named[0])
    write(folder / "dicom" / "second.dcm", number=2, IssuerOfPatientID=named[1])
    await keep(received, folder, replace(report, instances=2))
    (theirs,) = await identities.local_ids(IHI)
    assert theirs == LocalId("P1", CUSTODIAN.uri + ("#RMH" if any(named) else ""))
    assert await find_study(received, "1.2.3", [theirs]) is not None


@pytest.mark.parametrize("issuer", ["", "RMH"], ids=["no issuer", "our issuer"])
async def test_a_number_of_the_sender_is_never_a_number_of_ours(
    received: ReceivedSource, identities: Identities, arrive: Arrive, issuer: str
) -> None:
    await keep(received, *await arrive(IssuerOfPatientID=issuer))
    assert await identities.ihi_of(LocalId("P1", "RMH")) is None
    assert await received.patient(LocalId("P1", "RMH")) is None
    (theirs,) = await identities.local_ids(IHI)
    assert theirs == LocalId("P1", CUSTODIAN.uri + (f"#{issuer}" if issuer else ""))


async def test_only_what_was_asked_for_is_kept(received: ReceivedSource, arrive: Arrive) -> None:
    for uid, ihi in (("1.2.4", IHI), ("1.2.3", OTHER)):
        folder, report = await arrive()
        with pytest.raises(Refused, match="E_DICOM_IDENTITY"):
            await keep(received, folder, report, uid=uid, ihi=ihi)
        assert not folder.exists()
    assert await find_study(received, "1.2.3", THEIRS) is None
    assert (await keep(received, *await arrive(), uid="1.2.3", ihi=IHI)).version == 1


async def test_a_study_of_one_person_is_not_replaced_by_another_persons(
    received: ReceivedSource, identities: Identities, arrive: Arrive
) -> None:
    key = await keep(received, *await arrive())
    with pytest.raises(Refused, match="E_DICOM_IDENTITY"):
        await keep(received, *await arrive(instances=3, said=OTHER))
    assert len(await received.instances(key)) == 2
    assert await identities.local_ids(OTHER) == []


async def test_a_study_that_is_not_whole_leaves_nothing(
    received: ReceivedSource, tmp_path: Path, arrive: Arrive
) -> None:
    async def cut(folder: Path) -> None:
        (folder / "dicom" / "1.2.3.1.2.dcm").write_bytes(b"")

    async def lose(folder: Path) -> None:
        (folder / "dicom" / "1.2.3.1.2.dcm").unlink()

    async def confuse(folder: Path) -> None:
        (folder / "metadata.json").write_text('{"patient": {"identifiers": [7]}}')

    for damage, code in ((cut, "E_NOT_DICOM"), (lose, "E_INCOMPLETE"), (confuse, "E_SCHEMA")):
        folder, report = await arrive()
        await damage(folder)
        with pytest.raises(Refused) as caught:
            await keep(received, folder, report)
        assert caught.value.code == code
        assert not folder.exists()
    folder, report = await arrive()
    with pytest.raises(Refused, match="E_DICOM_IDENTITY"):
        await keep(received, folder, replace(report, study_uid="1.2.4"))
    assert await find_study(received, "1.2.3", THEIRS) is None
    assert not list((tmp_path / "data").glob("received/*/*"))


async def test_a_study_that_the_store_cannot_keep_leaves_nothing(
    received: ReceivedSource, store: Store, tmp_path: Path, arrive: Arrive
) -> None:
    await store.write(make_read_only)
    folder, report = await arrive()
    with pytest.raises(Unavailable):
        await keep(received, folder, report)
    assert not folder.exists()
    assert not list((tmp_path / "data").glob("received/*/*"))


async def test_what_a_crash_left_is_swept_and_what_is_indexed_stays(
    received: ReceivedSource, tmp_path: Path, arrive: Arrive
) -> None:
    key = await keep(received, *await arrive())
    left, _ = await arrive()
    root = tmp_path / "data" / "received"
    shutil.move(left, root / "1.2.3" / "0123456789abcdef")
    (root / "1.2.9").mkdir()
    await received.sweep()
    assert [path.name for path in root.iterdir()] == ["1.2.3"]
    assert len(list((root / "1.2.3").iterdir())) == 1
    assert all(Path(file.located.key).is_file() for file in await received.instances(key))
