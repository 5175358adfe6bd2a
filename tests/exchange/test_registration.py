"""Registration: a study settles and the locator names this gateway; it goes, or is in doubt, and the locator does not.

The locator is the sandbox's on a real socket, the studies are real files that are scanned; only the door before the
locator is the tests' own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydicom
import pytest
from sqlalchemy import select, update
from tests.identities import write_identity_csv
from tests.jobs.process import Clock
from tests.registry.locators import Locator, locator

from mdg.access import RecordedConsents, utc_now
from mdg.audit import Audit
from mdg.audit.event import Agent
from mdg.audit.record import AUDIT
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.registration import Registrar
from mdg.identity import Identities
from mdg.jobs import Jobs, Kind
from mdg.jobs.events import TELL_REGISTRY, identified
from mdg.jobs.table import count_open
from mdg.model.identity import Ihi
from mdg.registry import Registrations, Status
from mdg.sandbox.identifiers import EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up
from mdg.sandbox.phantom import ISSUER, write_phantom
from mdg.sources.folder import FolderSource
from mdg.store import Store
from mdg.store.index import studies

pytestmark = pytest.mark.anyio

SERVICE = "01JV3W8ZC0D2E4F6G8H0J2K4M6"
OTHER = made_up(Ihi, "another person")


@dataclass
class World:
    """A gateway's rooms around registration."""

    locator: Locator
    store: Store
    registrar: Registrar
    jobs: Jobs
    clock: Clock
    identities: Identities
    source: FolderSource
    folder: Path

    async def scan(self) -> None:
        await self.source.scan(rebuild=False)

    async def confirm(self, **people: Ihi) -> None:
        """identity.csv becomes: patient (`_` for `-`) is person."""
        table = {who.replace("_", "-"): ihi for who, ihi in people.items()}
        await self.identities.load_csv(write_identity_csv(self.folder.parent / "identity.csv", table))

    async def registered(self, ihi: Ihi = EXAMPLE_IHI) -> list[str]:
        """The services that the locator names."""
        return [one.service_id for one in await self.locator.registry.holders(ihi)]

    async def owed(self) -> int:
        async with self.store.read() as connection:
            return await count_open(connection, EXAMPLE_PROVIDER, TELL_REGISTRY)

    async def tell(self) -> None:
        """The registry is told what is owed, of what failed before the next try."""
        self.clock.later(seconds=10)
        await self.jobs.round(TELL_REGISTRY)

    async def records(self) -> list[dict[str, Any]]:
        async with self.store.read() as connection:
            texts = await connection.execute(select(AUDIT.c.event).order_by(AUDIT.c.seq))
            return [json.loads(text) for text in texts.scalars()]


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with Store.open(database) as store, locator(tmp_path / "keys") as running:
        identities = Identities(store, EXAMPLE_PROVIDER, announce=identified)
        folder = tmp_path / "images"
        folder.mkdir()
        (folder / "README").write_text("a folder that is empty counts as not mounted")
        source = FolderSource(
            store, EXAMPLE_PROVIDER, [folder], default_issuer=ISSUER, time_zone=ZoneInfo("Australia/Sydney")
        )
        registrar = Registrar(
            store,
            registrations=Registrations(store, EXAMPLE_PROVIDER),
            registry=running.registry,
            catalogue=Catalogue([source], identities, RecordedConsents(store, EXAMPLE_PROVIDER, utc_now)),
            identities=identities,
            audit=Audit(store, EXAMPLE_PROVIDER, Agent("mdg", "0", "http://127.0.0.1")),
            custodian=EXAMPLE_PROVIDER,
            service_id=SERVICE,
        )
        clock = Clock(datetime.now(UTC))
        jobs = Jobs(store, EXAMPLE_PROVIDER, clock)
        jobs.do(Kind(TELL_REGISTRY, registrar.look))
        yield World(running, store, registrar, jobs, clock, identities, source, folder)


async def settled(world: World, *seeds: int) -> None:
    for seed in seeds or (1,):
        write_phantom(world.folder / str(seed), seed=seed, slices=2)
    await world.scan()


async def test_a_settled_study_is_registered_once_and_a_removed_one_is_taken_back(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world, 1, 2)
    await world.tell()
    assert await world.registered() == [SERVICE]
    shutil.rmtree(world.folder / "1")
    await world.scan()
    await world.tell()
    assert await world.registered() == [SERVICE], "another study of the person is still here"
    shutil.rmtree(world.folder / "2")
    await world.scan()
    await world.tell()
    assert (await world.registered(), await world.owed()) == ([], 0)
    await settled(world, 3)
    await world.tell()
    assert await world.registered() == [SERVICE], "the person came back"


async def test_a_removal_that_another_process_made_first_is_done_and_the_person_can_come_back(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    await world.tell()
    (record,) = await world.locator.registry.holders(EXAMPLE_IHI)
    await world.locator.registry.remove(record.record_id, "the key of the other process")
    shutil.rmtree(world.folder / "1")
    await world.scan()
    await world.tell()
    assert await world.owed() == 0
    await settled(world, 2)
    await world.tell()
    assert await world.registered() == [SERVICE]


async def test_each_registration_is_on_record_before_it_leaves_and_when_it_is_acknowledged(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world, 1, 2)
    await world.tell()
    first, second = await world.records()
    for record, step in ((first, "sent"), (second, "acknowledged")):
        assert record["type"]["code"] == "rest"
        assert record["subtype"][0]["code"] == "update"
        key, patient, change, told = record["entity"]
        assert key["what"] == first["entity"][0]["what"], "the key of the change joins them"
        assert change["what"] == {"reference": f"urn:uuid:{key['what']['identifier']['value']}"}
        assert patient["what"]["identifier"]["value"] == EXAMPLE_IHI
        assert {one["type"]: one["valueString"] for one in told["detail"]} == {"status": "active", "step": step}


async def test_nothing_clinical_is_sent(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    await world.tell()
    sent = b"".join(world.locator.door.bodies).decode()
    assert sent == (f'{{"ihi": "{EXAMPLE_IHI}", "service_id": "{SERVICE}", "status": "active", "type": "record"}}'), (
        "the five fields but the time, which is the registry's"
    )


async def test_a_study_whose_person_nobody_knows_is_acknowledged_and_registered_when_somebody_does(
    world: World,
) -> None:
    await settled(world)
    await world.tell()
    assert (await world.owed(), world.locator.door.bodies) == (0, [])
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    assert await world.owed() == 1
    await world.tell()
    assert await world.registered() == [SERVICE]
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    assert await world.owed() == 0, "the same file again changes nothing"


async def test_a_corrected_identity_takes_the_wrong_person_back(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    await world.tell()
    await world.confirm(DEMO_0001=OTHER)
    await world.tell()
    assert (await world.registered(), await world.registered(OTHER)) == ([], [SERVICE])
    await world.confirm()
    await world.tell()
    assert (await world.registered(), await world.registered(OTHER)) == ([], [])


async def test_a_study_in_quarantine_or_of_a_sensitive_label_registers_nobody(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    await world.tell()
    file = pydicom.dcmread(world.folder / "1" / "0001.dcm")
    file.PatientID = "SOMEBODY-ELSE"
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
    file.save_as(world.folder / "mixed.dcm")
    await world.scan()
    await world.tell()
    assert await world.registered() == [], "its files name two patients"
    (world.folder / "mixed.dcm").unlink()
    await world.scan()
    await world.tell()
    assert await world.registered() == [SERVICE]
    await world.store.write(lambda connection: connection.execute(update(studies).values(labels=["R"])))
    await settled(world, 2)
    await world.store.write(lambda connection: connection.execute(update(studies).values(labels=["R"])))
    await world.tell()
    assert await world.registered() == []


async def test_while_the_locator_is_down_what_is_owed_waits(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    world.locator.door.shut = True
    for _ in range(2):
        await world.tell()
        assert await world.owed() == 1
    world.clock.later(seconds=30)
    world.locator.door.shut = False
    await world.tell()
    assert (await world.registered(), await world.owed()) == ([SERVICE], 0)
    assert len(await world.records()) == 2, "a change is on record once, however often it is tried"


async def test_a_registration_whose_answer_was_lost_is_taken_back_as_well(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    world.locator.door.mute = True
    await world.tell()
    world.locator.door.mute = False
    assert await world.registered() == [SERVICE], "the locator took it, and the gateway was not told so"
    shutil.rmtree(world.folder / "1")
    await world.scan()
    await world.tell()
    assert await world.registered() == []


async def test_who_was_removed_at_the_registry_comes_back_under_a_new_key(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    world.locator.door.mute = True
    await world.tell()
    world.locator.door.mute = False
    (record,) = await world.locator.registry.holders(EXAMPLE_IHI)
    await world.locator.registry.remove(record.record_id, "by the operator of the registry")
    await world.tell()
    assert await world.owed() == 1, "the registry refused the old key"
    await world.tell()
    assert (await world.registered(), await world.owed()) == ([SERVICE], 0)


async def test_a_registry_that_forgot_everything_is_told_again(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    await settled(world)
    await world.tell()
    (record,) = await world.locator.registry.holders(EXAMPLE_IHI)
    await world.locator.registry.remove(record.record_id, "a restart")
    await world.registrar.begin_anew()
    await world.tell()
    assert await world.registered() == [SERVICE]
    told = await Registrations(world.store, EXAMPLE_PROVIDER).of(EXAMPLE_IHI)
    assert told is not None
    assert (told.status, told.acknowledged) == (Status.ACTIVE, True)


async def test_the_same_files_under_another_issuer_are_another_patients(world: World) -> None:
    await world.confirm(DEMO_0001=EXAMPLE_IHI)
    write_phantom(world.folder / "1", slices=1)
    file = pydicom.dcmread(world.folder / "1" / "0001.dcm")
    del file.IssuerOfPatientID
    file.save_as(world.folder / "1" / "0001.dcm")
    await world.scan()
    await world.tell()
    assert await world.registered() == [SERVICE]
    zone = ZoneInfo("Australia/Sydney")
    other = FolderSource(world.store, EXAMPLE_PROVIDER, [world.folder], default_issuer="OTHER", time_zone=zone)
    await other.scan(rebuild=True)
    await world.tell()
    assert await world.registered() == []
