"""A source whose objects are no files of this machine, through the same server: its studies are found, sealed and sent,
and an object that is another one now never leaves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.sources.objects import ObjectSource
from tests.web.conftest import RETRIEVE, Running, Start

from mdg import envelope
from mdg.sandbox.phantom import write_phantom
from mdg.sources import watcher
from mdg.sources.kinds import KINDS
from mdg.store import index

pytestmark = pytest.mark.anyio


def bucket(archive: Path) -> dict[str, Any]:
    """What `start` needs for a gateway with this source and no other. The settings know no kind of tests, so the entry
    says `folder`, and the table of kinds builds another source for it."""
    entry = {"kind": "folder", "name": "bucket", "path": archive}
    return {"sources": [entry], "kinds": {**KINDS, "folder": ObjectSource.build}}


async def filled(gateway: Running, images: Path) -> ObjectSource:
    source = gateway.rooms.sources[0]
    assert isinstance(source, ObjectSource)
    for file in sorted(images.rglob("*.dcm")):
        await source.put(f"2026/{file.name}", file)
    await watcher.scan(gateway.rooms.sources)
    return source


async def test_a_study_of_objects_is_found_and_retrieved(start: Start, tmp_path: Path) -> None:
    write_phantom(tmp_path / "images", slices=3)
    async with start(**bucket(tmp_path / "bucket.zip")) as gateway:
        await filled(gateway, tmp_path / "images")
        (found, *_) = (await gateway.consumer.search()).json()["entry"]
        study = found["resource"]
        assert (study["numberOfInstances"], study["resourceType"]) == (3, "ImagingStudy")
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        answer = await gateway.consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}", scopes=RETRIEVE)
        assert answer.status_code == 200, answer.text
        sealed, provider = tmp_path / "sealed.zip", gateway.rooms.keyring.card
        sealed.write_bytes(answer.content)
        key = gateway.consumer.keyring.x25519
        report = envelope.open_(sealed, trust=[(provider.id, provider.ed25519)], key=key, out=tmp_path / "open")
        assert (report.signature, report.instances) == ("full", 3)
        sent, there = (
            sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.dcm"))
            for folder in (tmp_path / "open", tmp_path / "images")
        )
        assert sent == there
        assert len(list((gateway.rooms.settings.data / "spool").iterdir())) == 1, "the envelope, and no copy"


async def test_an_object_that_is_another_one_now_is_not_sent_and_is_indexed_again(start: Start, tmp_path: Path) -> None:
    write_phantom(tmp_path / "images", slices=2)
    write_phantom(tmp_path / "again", slices=2, seed=9)
    async with start(**bucket(tmp_path / "bucket.zip")) as gateway:
        source = await filled(gateway, tmp_path / "images")
        study = (await gateway.consumer.search()).json()["entry"][0]["resource"]
        path = "/api/jmix?studyInstanceUid=" + study["identifier"][0]["value"].removeprefix("urn:oid:")
        victim, other = (sorted((tmp_path / name).rglob("*.dcm"))[0] for name in ("images", "again"))
        await source.put(f"2026/{victim.name}", other)
        answer = await gateway.consumer.ask("GET", path, scopes=RETRIEVE)
        assert answer.status_code == 409, answer.text
        async with gateway.rooms.store.read() as connection:
            problems = await index.file_problems(connection, gateway.rooms.settings.custodian)
        assert [(one.code, one.where) for one in problems] == [("E_CHANGED", f"2026/{victim.name}")]
        assert not list((gateway.rooms.settings.data / "spool").iterdir())
        await source.put(f"2026/{victim.name}", victim)
        assert (await watcher.scan(gateway.rooms.sources)).read == 1
        assert (await gateway.consumer.ask("GET", path, scopes=RETRIEVE)).status_code == 200
