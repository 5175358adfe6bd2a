"""Use cases of Appendix 1 (UC of docs/conformance.md), played by gateways over real HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pydicom
import pytest
from tests.fhir.test_subscription import asked
from tests.identities import write_identity_csv
from tests.receiver import receiving, until
from tests.web.conftest import second_gateway

from mdg.cli.serve import folder_source
from mdg.model.identity import Ihi
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import PATIENT_ID, write_phantom
from mdg.sources import watcher

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
CRUD = ("system/Subscription.crud",)


def study(folder: Path, seed: int, **changed: str) -> str:
    """A study of one image of the patient, with other attributes; its StudyInstanceUID."""
    write_phantom(folder, seed=seed, slices=1, patient_id=PATIENT_ID)
    (path,) = folder.glob("*.dcm")
    image = pydicom.dcmread(path)
    for keyword, value in changed.items():
        setattr(image, keyword, value)
    image.save_as(path)
    return str(image.StudyInstanceUID)


def uids(bundle: dict[str, Any]) -> set[str]:
    found = (entry["resource"] for entry in bundle.get("entry", []))
    return {one["identifier"][0]["value"].removeprefix("urn:oid:") for one in found if "identifier" in one}


async def test_uc_d4_recent_chest_imaging_is_found_and_older_or_other_imaging_is_not(
    start: Start, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    recent = study(images / "recent", 1, StudyDate="20260501")
    old = study(images / "old", 2, StudyDate="20190501")
    knee = study(images / "knee", 3, StudyDate="20260502", BodyPartExamined="KNEE")
    x_ray = study(images / "x-ray", 4, StudyDate="20260503", Modality="DX")
    async with start(sources=folder_source([images])) as gateway:
        everything = (await gateway.consumer.search()).json()
        (thorax,) = {
            f"{series['bodySite']['system']}|{series['bodySite']['code']}"
            for entry in everything["entry"]
            for series in entry["resource"].get("series", [])
            if series["bodySite"]["display"] in ("Chest", "Thorax")
        }
        chest = (await gateway.consumer.search(bodysite=thorax, started="ge2026-04-01")).json()
        scans = (await gateway.consumer.search(bodysite=thorax, started="ge2026-04-01", modality="CT")).json()
    assert uids(everything) == {recent, old, knee, x_ray}
    assert uids(chest) == {recent, x_ray}
    assert (uids(scans), scans["total"]) == ({recent}, 1)


async def test_uc_r3_several_prior_studies_of_a_patient_are_retrieved_one_by_one(start: Start, tmp_path: Path) -> None:
    images = tmp_path / "images"
    wanted = {study(images / str(seed), seed, StudyDate=f"202{seed}0501") for seed in (1, 2, 3)}
    async with (
        start(sources=folder_source([images])) as provider,
        second_gateway(start, provider, sources=(), identity=None) as coordinator,
    ):
        for uid in uids((await provider.consumer.search()).json()):
            wish = {"gateway": provider.url, "ihi": str(EXAMPLE_IHI), "study": uid}
            answer = await provider.consumer.http.post(f"{coordinator.admin}/retrievals", json=wish, timeout=30)
            assert (answer.status_code, answer.json().get("study")) == (201, uid), answer.text
        held = (await coordinator.consumer.search()).json()
    assert uids(held) == wanted


async def test_uc_s1_of_a_panel_of_patients_each_is_told_about_alone(
    start: Start, tmp_path: Path, phantom: Path
) -> None:
    """A meeting subscribes once for each patient of its list; a study of one is told to that subscription only, and
    is read with a token for that patient only."""
    images, table, second = tmp_path / "images", tmp_path / "panel.csv", made_up(Ihi, "second of the panel")
    shutil.copytree(phantom, images)
    write_identity_csv(table, {PATIENT_ID: EXAMPLE_IHI, "SECOND": second})
    async with (
        receiving() as of_first,
        receiving() as of_second,
        start(
            sources=folder_source([images]),
            capabilities={"subscription": True},
            subscribers={EXAMPLE_CONSUMER: (of_first.origin, of_second.origin)},
        ) as gateway,
    ):
        await gateway.rooms.identities.load_csv(table)
        for ihi, receiver in ((EXAMPLE_IHI, of_first), (second, of_second)):
            wanted = asked(criterion=f"patient:identifier={Ihi.system}|{ihi}")
            wanted["channel"]["endpoint"] = receiver.url
            made = await gateway.consumer.ask("POST", "/fhir/Subscription", scopes=CRUD, ihi=ihi, json=wanted)
            assert made.status_code == 201, made.text
        await until(lambda: of_first.kinds == of_second.kinds == ["handshake"])
        await anyio.to_thread.run_sync(lambda: study(images / "new", 9, PatientID="SECOND"))
        await watcher.scan(gateway.rooms.sources)
        await until(lambda: len(of_second.taken) == 1)
        (focus,) = of_second.taken.values()
        assert focus is not None
        path = focus.removeprefix(gateway.url)
        read = await gateway.consumer.ask("GET", path, ihi=second)
        foreign = await gateway.consumer.ask("GET", path, ihi=EXAMPLE_IHI)
    assert read.json()["subject"]["identifier"]["value"] == second
    assert foreign.status_code == 404
    assert (of_first.kinds, of_first.taken) == (["handshake"], {})
