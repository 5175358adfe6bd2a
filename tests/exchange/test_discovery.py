"""Discovery over several sources: partial answers are named, pages cover all once, hidden things do not count."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import anyio
import pytest

from mdg.access import RecordedConsents
from mdg.audit import Audit
from mdg.audit.event import Agent
from mdg.errors import Forbidden, NotFound, Unavailable
from mdg.exchange.cursor import Cursors
from mdg.exchange.discovery import Discovery
from mdg.exchange.holdings import Holdings
from mdg.exchange.judge import Judge
from mdg.fhir.local_numbers import LocalNumbers
from mdg.fhir.search import Terms, parse
from mdg.identity import Identities
from mdg.identity.enrichment import Claim, replace_csv
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import Patient, Series, StoredInstance, Study, StudyKey
from mdg.model.located import Located
from mdg.model.request import Requester
from mdg.sandbox.identifiers import made_up
from mdg.store import Store

pytestmark = pytest.mark.anyio

CUSTODIAN = HpiO("8003621566684455")
IHI = Ihi("8003608833357361")
LOCAL = LocalId("DEMO-0001", "DEMO")
ZONE = ZoneInfo("Australia/Sydney")
NOW = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)
NUMBERS = LocalNumbers(CUSTODIAN, "Example Imaging", "DEMO", "https://w3id.org/mdg")
TERMS = Terms(ZONE, "https://mdg.example/fhir", NUMBERS)
WHO = ("patient.identifier", f"{Ihi.system}|{IHI}")


@dataclass
class Shelf:
    """A source in memory. `fault` and `delay` are what a PACS does at times."""

    name: str
    studies: list[Study]
    fault: Exception | None = None
    delay: float = 0.0
    asked: int = field(default=0)

    async def _answer(self) -> list[Study]:
        self.asked += 1
        await anyio.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        return self.studies

    async def find(self, patients: Sequence[LocalId]) -> Sequence[Study]:
        return [study for study in await self._answer() if study.patient in patients]

    async def patient(self, local: LocalId) -> Patient | None:
        known = any(study.patient == local for study in await self._answer())
        return Patient("pt-1", local, "Phantom", ("Ada",), "1970-01-31", "F") if known else None

    async def patient_by_id(self, id: str) -> Patient | None:  # noqa: A002 -- the word of the protocol
        return await self.patient(LOCAL) if id == "pt-1" else None

    async def owner(self, uid: str) -> LocalId | None:
        return next((study.patient for study in await self._answer() if study.key.uid == uid), None)

    async def suspect(self, located: Located) -> None:
        raise NotImplementedError

    async def study(self, uid: str, patients: Sequence[LocalId]) -> Study | None:
        return next((study for study in await self.find(patients) if study.key.uid == uid), None)

    async def study_by_id(self, logical_id: str, patients: Sequence[LocalId]) -> Study | None:
        return next((study for study in await self.find(patients) if study.id == logical_id), None)

    async def instances(self, key: StudyKey) -> Sequence[StoredInstance]:
        return []


def study(number: int, **changed: Any) -> Study:
    uid = f"1.2.{number}"
    one = Study(
        key=StudyKey(CUSTODIAN, uid, 1),
        id=f"st-{number:03d}",
        patient=LOCAL,
        patient_id="pt-1",
        started=f"2026-05-{1 + number % 7:02d}",
        description=None,
        accession=None,
        accession_issuer=None,
        modalities=("CT",),
        series=(Series(f"{uid}.1", "CT", 1, None, None, None, 1),),
        instances=1,
        bytes=1,
        updated=NOW,
    )
    return replace(one, **changed)


def requester(**changed: Any) -> Requester:
    one = Requester(
        issuer="https://as.example",
        subject="client",
        client_id="client",
        organisation=HpiO("8003626566707032"),
        practitioner=None,
        purposes=("TREAT",),
        patient=IHI,
        scopes=frozenset({"system/ImagingStudy.rs", "system/Patient.rs", "system/Endpoint.rs"}),
        jkt="key",
        token_id="token",
        expires=NOW + timedelta(minutes=5),
    )
    return replace(one, **changed)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def discovery(
    tmp_path: Path, *sources: Shelf, clock: Clock | None = None
) -> AsyncIterator[tuple[Discovery, Cursors]]:
    clock = clock or Clock()
    async with Store.open(str(tmp_path / "mdg.sqlite")) as store:
        await store.write(lambda c: replace_csv(c, CUSTODIAN, [Claim(LOCAL, IHI, "test", NOW.date())]))
        consents, cursors = RecordedConsents(store, CUSTODIAN, clock), Cursors(clock)
        yield (
            Discovery(
                Holdings(sources, Identities(store, CUSTODIAN), consents, budget=0.2),
                Judge(clock=clock),
                Audit(store, CUSTODIAN, Agent("mdg", "1", "https://mdg.example")),
                cursors,
                numbers=NUMBERS,
                public_url="https://mdg.example",
                canonical_base="https://w3id.org/mdg",
                retrievable=True,
            ),
            cursors,
        )


async def search(stories: tuple[Discovery, Cursors], *more: tuple[str, str], who: Requester | None = None) -> Any:
    asked = parse((), (WHO, *more), TERMS)
    return await stories[0].search(who or requester(), asked, b"", "request")


async def test_a_source_that_does_not_answer_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    """X43: the slow one costs its budget, the failing one nothing."""
    good, slow = Shelf("good", [study(1)]), Shelf("slow", [study(2)], delay=30)
    failing = Shelf("failing", [study(3)], fault=Unavailable(reason="pacs"))
    async with discovery(tmp_path, slow, good, failing) as stories:
        bundle = await search(stories)
    modes = [entry["search"]["mode"] for entry in bundle["entry"]]
    assert modes == ["match", "outcome"]
    issues = bundle["entry"][1]["resource"]["issue"]
    assert {(issue["code"], issue["diagnostics"].split()[1]) for issue in issues[:2]} == {
        ("timeout", "slow"),
        ("incomplete", "failing"),
    }


async def test_no_answer_at_all_is_not_an_empty_result(tmp_path: Path) -> None:
    async with discovery(tmp_path, Shelf("slow", [], delay=30)) as stories:
        with pytest.raises(Unavailable):
            await search(stories)
        with pytest.raises(Unavailable):
            await stories[0].imaging_study(requester(), "st-001", "request")


@pytest.mark.parametrize("fault", [None, Unavailable(reason="pacs")])
async def test_nothing_found_is_not_said_while_a_source_that_may_hold_it_is_silent(
    tmp_path: Path, fault: Exception | None
) -> None:
    silent = Shelf("silent", [study(2)], fault=fault, delay=0 if fault else 30)
    async with discovery(tmp_path, silent, Shelf("empty", [])) as stories:
        with pytest.raises(Unavailable) as late:
            await search(stories)
        with pytest.raises(Unavailable):
            await stories[0].patient(requester(), "pt-1", "request")
    assert late.value.headers["Retry-After"]
    hidden = Shelf("hidden", [study(1, labels=("R",))])
    async with discovery(tmp_path, silent, hidden, Shelf("other", [study(3, modalities=("MR",))])) as stories:
        with pytest.raises(Unavailable):  # the same, whether or not something is there that is hidden or not searched
            await search(stories, ("_id", "st-002"))


async def test_a_source_that_falls_silent_before_its_patients_are_included_is_named(tmp_path: Path) -> None:
    class Fading(Shelf):
        async def patient(self, local: LocalId) -> Patient | None:
            raise Unavailable(reason="pacs")

    async with discovery(tmp_path, Shelf("good", []), Fading("fading", [study(1)])) as stories:
        bundle = await search(stories, ("_include", "ImagingStudy:patient"))
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "outcome"]
    assert "fading" in bundle["entry"][1]["resource"]["issue"][0]["diagnostics"]


async def test_a_study_in_two_sources_is_shown_once_from_the_first(tmp_path: Path) -> None:
    second = study(1, id="copy")
    async with discovery(tmp_path, Shelf("first", [study(1)]), Shelf("second", [second])) as stories:
        bundle = await search(stories)
    assert [entry["resource"]["id"] for entry in bundle["entry"]] == ["st-001"]
    assert bundle["total"] == 1


async def test_nobody_is_asked_for_another_patient(tmp_path: Path) -> None:
    shelf = Shelf("one", [study(1)])
    async with discovery(tmp_path, shelf) as stories:
        with pytest.raises(Forbidden):
            await search(stories, who=requester(patient=made_up(Ihi, "another person")))
    assert shelf.asked == 0


async def test_hidden_studies_do_not_count(tmp_path: Path) -> None:
    hidden = study(2, labels=("R",))
    stranger = study(3, patient=LocalId("X", "DEMO"), patient_id="pt-2")
    async with discovery(tmp_path, Shelf("one", [study(1), hidden, stranger])) as stories:
        bundle = await search(stories)
        assert bundle["total"] == 1
        for id_ in ("st-002", "st-003", "st-004"):
            with pytest.raises(NotFound):
                await stories[0].imaging_study(requester(), id_, "request")
        only_hidden = await search(stories, ("identifier", "1.2.2"))
        unknown = await search(stories, ("identifier", "1.2.9"))
        unlinked = [json.dumps(one).replace("1.2.2", "1.2.9") for one in (only_hidden, unknown)]
        assert unlinked[0] == unlinked[1]


async def test_pages_show_every_study_once_and_in_order(tmp_path: Path) -> None:
    shelf = Shelf("one", [study(number) for number in range(23)])
    async with discovery(tmp_path, shelf) as stories:
        bundle, seen = await search(stories, ("_count", "5"), ("modality", "CT")), []
        while True:
            assert bundle["total"] == 23
            seen += [entry["resource"] for entry in bundle["entry"]]
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            assert str(IHI) not in json.dumps(links)
            if "next" not in links:
                break
            ((name, cursor),) = parse_qsl(urlsplit(links["next"]).query)
            assert (name, urlsplit(links["next"]).path) == ("_page", "/fhir/ImagingStudy")
            parameters, after = stories[1].open(cursor, requester())
            asked = parse((), parameters, TERMS)
            bundle = await stories[0].search(requester(), asked, b"", "request", after)
    assert len({one["id"] for one in seen}) == len(seen) == 23
    dates = [one["started"] for one in seen]
    assert dates == sorted(dates, reverse=True)


async def test_a_cursor_is_for_its_holder_and_its_time(tmp_path: Path) -> None:
    clock = Clock()
    async with discovery(tmp_path, Shelf("one", [study(1), study(2)]), clock=clock) as stories:
        bundle = await search(stories, ("_count", "1"))
        cursor = parse_qsl(urlsplit(bundle["link"][1]["url"]).query)[0][1]
        assert stories[1].open(cursor, requester())
        for changed in ({"client_id": "other"}, {"subject": "other"}, {"issuer": "other"}, {"patient": None}):
            with pytest.raises(NotFound):
                stories[1].open(cursor, requester(**changed))
        for text in (cursor[:-2], cursor + "AA", "", "A", "%", cursor.swapcase()):
            with pytest.raises(NotFound):
                stories[1].open(text, requester())
        clock.now += timedelta(minutes=16)
        with pytest.raises(NotFound):
            stories[1].open(cursor, requester())
