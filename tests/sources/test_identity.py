"""Which studies can be found by an IHI: those of a patient for whom exactly one is known, beyond doubt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.identities import write_identity_csv

from mdg.identity import Identities
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.sources.folder import FolderSource
from mdg.store import Store

pytestmark = pytest.mark.anyio
Write = Callable[..., Path]
A, B = Ihi("8003608833357361"), Ihi("8003608166690503")
P1 = LocalId("P1", "RMH")


async def say(identities: Identities, tmp_path: Path, ihi: Ihi) -> None:
    await identities.load_csv(write_identity_csv(tmp_path / "identity.csv", {"P1": ihi}, issuer="RMH"))


async def test_a_study_without_an_ihi_cannot_be_found_until_identity_csv_names_it(
    source: FolderSource, identities: Identities, images: Path, store: Store, write: Write
) -> None:
    write(images / "1.dcm")
    await source.scan()
    (problem,) = await identities.problems()
    assert problem.code == "no-ihi"
    assert problem.where == "study 1.2.3"
    assert "add a line to identity.csv" in problem.message
    assert "the issuer RMH," in problem.message
    (problem,) = await Identities(store, HpiO("8003621566684455"), "RMH").problems()
    assert "the issuer RMH (default_issuer)," in problem.message
    assert await identities.unmatched() == 0
    await say(identities, images.parent, A)
    assert await identities.problems() == []
    assert await identities.unmatched() == 0
    assert list(await identities.local_ids(A)) == [P1]


async def test_an_ihi_in_dicom_counts_and_goes_with_its_file(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm", ihi=A)
    await source.scan()
    assert await identities.ihi_of(P1) == A
    write(images / "1.dcm")
    await source.scan()
    assert await identities.ihi_of(P1) is None


async def test_two_ihis_in_one_study_hide_all_studies_of_the_patient(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm", ihi=A)
    write(images / "2.dcm", series="1.2.3.2", ihi=B)
    write(images / "3.dcm", study="1.2.4", series="1.2.4.1")
    await source.scan()
    assert await identities.local_ids(A) == await identities.local_ids(B) == []
    assert await identities.ihi_of(P1) is None
    problems = await identities.problems()
    assert [one.code for one in problems] == ["two-ihis", "two-ihis"]
    assert all(f"{images}/1.dcm and {images}/2.dcm" in one.message for one in problems)


async def test_identity_csv_and_dicom_that_disagree_hide_the_patient_and_agreeing_ones_do_not(
    source: FolderSource, identities: Identities, images: Path, tmp_path: Path, write: Write
) -> None:
    write(images / "1.dcm", ihi=A)
    await source.scan()
    await say(identities, tmp_path, B)
    (problem,) = await identities.problems()
    assert problem.code == "two-ihis"
    assert f"{images}/1.dcm and identity.csv" in problem.message
    await say(identities, images.parent, A)
    assert await identities.problems() == []
    assert await identities.unmatched() == 0
    assert list(await identities.local_ids(A)) == [P1]


async def test_a_bare_candidate_is_never_used(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm", PatientID=str(A), IssuerOfPatientID=None)
    await source.scan()
    assert await identities.local_ids(A) == []
    assert [one.code for one in await identities.problems()] == ["no-ihi"]


async def test_problems_never_name_a_patient(
    source: FolderSource, identities: Identities, images: Path, write: Write
) -> None:
    write(images / "1.dcm", PatientID="SECRET-7", PatientName="Secret^Person", ihi=A)
    write(images / "2.dcm", number=2, PatientID="SECRET-7", PatientName="Secret^Person", ihi=B)
    await source.scan()
    said = repr(await identities.problems())
    assert "SECRET" not in said
    assert "Secret" not in said
    assert A not in said
