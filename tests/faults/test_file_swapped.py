"""A file, or a folder on the way to it, is swapped for a link between the listing of a scan and its reading: it is
refused and listed as a problem, and nothing outside the folder is indexed or served."""

from __future__ import annotations

import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.find import find
from tests.web.conftest import Start

from mdg.cli.serve import folder_source
from mdg.errors import InputOutput
from mdg.model.identity import HpiO, LocalId
from mdg.sandbox.identifiers import EXAMPLE_PROVIDER
from mdg.sandbox.phantom import ISSUER, write_phantom
from mdg.sources import listing
from mdg.sources.folder import FolderSource
from mdg.sources.listing import Listing
from mdg.store import Store, index

pytestmark = pytest.mark.anyio


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A study of somebody else, beside the folder that is served."""
    write_phantom(tmp_path / "outside" / "study", seed=2, slices=2, patient_id="OUTSIDE")
    return tmp_path / "outside" / "study"


@pytest.mark.parametrize("what", ["file", "folder", "pipe"])
async def test_what_is_swapped_between_listing_and_reading_is_a_problem(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    images = tmp_path / "images"
    write_phantom(images / "study", slices=2)
    read = listing.read

    def swap_after(folder: str) -> Listing:
        """Lists, and then does what somebody with the right to write here may do at the same moment."""
        found = read(folder)
        place = images / "study"
        if folder != str(place):
            return found
        victim = place / "0002.dcm"
        if what == "folder":
            place.rename(images / ".moved")
            place.symlink_to(outside)
        elif what == "file":
            victim.unlink()
            victim.symlink_to(outside / "0002.dcm")
        else:
            victim.unlink()
            os.mkfifo(victim)
        return found

    monkeypatch.setattr(listing, "read", swap_after)
    custodian = HpiO(EXAMPLE_PROVIDER)
    async with Store.open(str(tmp_path / "mdg.db")) as store:
        source = FolderSource(store, custodian, [images], default_issuer=ISSUER, time_zone=ZoneInfo("UTC"))
        report = await source.scan()
        async with store.read() as connection:
            problems = await index.file_problems(connection, custodian)
        assert await find(source, [LocalId("OUTSIDE", ISSUER)]) == []
    assert report.problems == len(problems) == (2 if what == "folder" else 1)
    assert {problem.code for problem in problems} == {"E_SOURCE"}
    said = "is not a regular file" if what == "pipe" else "links are not followed"
    assert all(said in problem.message for problem in problems), problems


async def test_what_is_swapped_after_indexing_is_not_packed(start: Start, tmp_path: Path, outside: Path) -> None:
    """Equal bytes do not help: a link is refused before they are looked at."""
    images = tmp_path / "images"
    write_phantom(images / "study", slices=2)
    async with start(sources=folder_source([images])) as running:
        study = (await running.consumer.search()).json()["entry"][0]["resource"]
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        path = f"/api/jmix?studyInstanceUid={uid}"
        place = images / "study"
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
        answer = await running.consumer.ask("GET", path, scopes=("urn:ief:scope:imaging.retrieve",))
        assert answer.status_code == 503, answer.text
        assert answer.json()["resourceType"] == "OperationOutcome"
        place.unlink()
        (tmp_path / "moved").rename(place)
        answer = await running.consumer.ask("GET", path, scopes=("urn:ief:scope:imaging.retrieve",))
        assert answer.status_code == 200


def test_a_named_pipe_never_blocks_a_reader(tmp_path: Path) -> None:
    from mdg._core import digest_file

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputOutput, match="not a regular file"):
        digest_file(str(tmp_path / "pipe"))
