"""Discovery over several sources: partial answers are named, pages cover all once, hidden things do not count."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mdg.access import RecordedConsents
from mdg.audit import Audit
from mdg.audit.event import Agent
from mdg.errors import Forbidden, InsufficientScope, NotFound, Unavailable
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.decision import Decisions
from mdg.exchange.discovery import Discovery
from mdg.identity import Identities
from mdg.identity.enrichment import Claim, replace_csv
from mdg.model.found import Found, FoundPatients
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import Patient, Series, StoredInstance, Study, StudyKey
from mdg.model.query import Detail, Field, Filter, OneOf, Query, matches
from mdg.model.request import Requester
from mdg.sandbox.identifiers import made_up
from mdg.store import Store

pytestmark = pytest.mark.anyio

CUSTODIAN = HpiO("8003621566684455")
IHI = Ihi("8003608833357361")
LOCAL = LocalId("DEMO-0001", "DEMO")
NOW = datetime(2026, 5, 2, 1, 10, tzinfo=UTC)
SCOPE = "system/ImagingStudy.rs"


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

    async def find(self, query: Query) -> Sequence[Study]:
        return [study for study in await self._answer() if matches(query, study)]

    async def patient(self, local: LocalId) -> Patient | None:
        known = any(study.patient == local for study in await self._answer())
        return Patient("pt-1", local, "Phantom", ("Ada",), "1970-01-31", "F") if known else None

    async def owner(self, uid: str) -> LocalId | None:
        return next((study.patient for study in await self._answer() if study.key.uid == uid), None)

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
async def discovery(tmp_path: Path, *sources: Shelf) -> AsyncIterator[Discovery]:
    clock = Clock()
    async with Store.open(str(tmp_path / "mdg.sqlite")) as store:
        await store.write(lambda c: replace_csv(c, CUSTODIAN, [Claim(LOCAL, IHI, "test", NOW.date())]))
        consents = RecordedConsents(store, CUSTODIAN, clock)
        yield Discovery(
            Catalogue(sources, Identities(store, CUSTODIAN), consents, budget=0.2),
            Decisions(clock=clock),
            Audit(store, CUSTODIAN, Agent("mdg", "1", "https://mdg.example")),
            retrievable=True,
        )


async def search(story: Discovery, *filters: Filter, who: Requester | None = None, **changed: Any) -> Found:
    return await story.search(who or requester(), Query(IHI, filters=filters, **changed), b"", "request")


def one_of(field: Field, *values: str) -> OneOf:
    return OneOf(field, frozenset(values))


async def test_a_source_that_does_not_answer_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    """X43: the slow one costs its budget, the failing one nothing."""
    good, slow = Shelf("good", [study(1)]), Shelf("slow", [study(2)], delay=30)
    failing = Shelf("failing", [study(3)], fault=Unavailable(reason="pacs"))
    async with discovery(tmp_path, slow, good, failing) as story:
        found = await search(story)
    assert [one.study.id for one in found.studies] == ["st-001"]
    assert found.unanswered == (("failing", "incomplete"), ("slow", "timeout"))


async def test_no_answer_at_all_is_not_an_empty_result(tmp_path: Path) -> None:
    async with discovery(tmp_path, Shelf("slow", [], delay=30)) as story:
        with pytest.raises(Unavailable):
            await search(story)
        with pytest.raises(Unavailable):
            await story.study(requester(), "st-001", "request")


@pytest.mark.parametrize("fault", [None, Unavailable(reason="pacs")])
async def test_nothing_found_is_not_said_while_a_source_that_may_hold_it_is_silent(
    tmp_path: Path, fault: Exception | None
) -> None:
    silent = Shelf("silent", [study(2)], fault=fault, delay=0 if fault else 30)
    async with discovery(tmp_path, silent, Shelf("empty", [])) as story:
        with pytest.raises(Unavailable) as late:
            await search(story)
        with pytest.raises(Unavailable):
            await story.patient(requester(), "pt-1", "request")
        with pytest.raises(Unavailable):
            await story.search_patients(requester(), Query(IHI), b"", "request")
    assert late.value.headers["Retry-After"]
    hidden = Shelf("hidden", [study(1, labels=("R",))])
    async with discovery(tmp_path, silent, hidden, Shelf("other", [study(3, modalities=("MR",))])) as story:
        with pytest.raises(Unavailable):  # the same, whether or not something is there that is hidden or not searched
            await search(story, one_of(Field.LOGICAL_ID, "st-002"))


async def test_a_source_that_falls_silent_before_its_patients_are_included_is_named(tmp_path: Path) -> None:
    class Fading(Shelf):
        async def patient(self, local: LocalId) -> Patient | None:
            raise Unavailable(reason="pacs")

    async with discovery(tmp_path, Shelf("good", []), Fading("fading", [study(1)])) as story:
        found = await search(story, details=frozenset({Detail.PATIENT}))
    assert [(one.study.id, one.patient) for one in found.studies] == [("st-001", None)]
    assert found.unanswered == (("fading", "incomplete"),)


async def test_a_study_in_two_sources_is_shown_once_from_the_first(tmp_path: Path) -> None:
    second = study(1, id="copy")
    async with discovery(tmp_path, Shelf("first", [study(1)]), Shelf("second", [second])) as story:
        found = await search(story)
    assert [one.study.id for one in found.studies] == ["st-001"]
    assert found.total == 1


async def test_nobody_is_asked_for_another_patient(tmp_path: Path) -> None:
    shelf = Shelf("one", [study(1)])
    async with discovery(tmp_path, shelf) as story:
        with pytest.raises(Forbidden):
            await search(story, who=requester(patient=made_up(Ihi, "another person")))
    assert shelf.asked == 0


async def test_hidden_studies_do_not_count(tmp_path: Path) -> None:
    hidden = study(2, labels=("R",))
    stranger = study(3, patient=LocalId("X", "DEMO"), patient_id="pt-2")
    async with discovery(tmp_path, Shelf("one", [study(1), hidden, stranger])) as story:
        found = await search(story)
        assert (found.total, len(found.studies)) == (1, 1)
        for id_ in ("st-002", "st-003", "st-004"):
            with pytest.raises(NotFound):
                await story.study(requester(), id_, "request")
        only_hidden = await search(story, one_of(Field.STUDY_UID, "1.2.2"))
        unknown = await search(story, one_of(Field.STUDY_UID, "1.2.9"))
        assert only_hidden == unknown == Found((), 0, frozenset({"pt-1"}))


async def test_pages_show_every_study_once_and_in_order(tmp_path: Path) -> None:
    async with discovery(tmp_path, Shelf("one", [study(number) for number in range(23)])) as story:
        page = await search(story, one_of(Field.MODALITY, "CT"), count=5)
        seen = [*page.studies]
        while page.cursor is not None:
            page = await search(story, one_of(Field.MODALITY, "CT"), count=5, after=page.cursor)
            assert page.total == 23
            seen += page.studies
    assert len({one.study.id for one in seen}) == len(seen) == 23
    dates = [one.study.started or "" for one in seen]
    assert dates == sorted(dates, reverse=True)


async def test_details_are_given_where_asked_and_each_under_its_own_scope(tmp_path: Path) -> None:
    both = frozenset({Detail.PATIENT, Detail.ADDRESS})
    async with discovery(tmp_path, Shelf("one", [study(1)])) as story:
        (plain,) = (await search(story)).studies
        (full,) = (await search(story, details=both)).studies
        (scant,) = (await search(story, details=both, who=requester(scopes=frozenset({SCOPE})))).studies
    assert (plain.patient, plain.address, plain.retrievable) == (None, False, True)
    assert (full.patient is not None and full.patient.family, full.address) == ("Phantom", True)
    assert (scant.patient, scant.address, scant.retrievable) == (None, False, True)


async def test_patients_are_those_of_studies_that_may_be_shown(tmp_path: Path) -> None:
    studies = [study(1), study(2, patient_id="pt-1"), study(3, labels=("R",), patient_id="pt-9")]
    async with discovery(tmp_path, Shelf("one", studies)) as story:
        found = await story.search_patients(requester(), Query(IHI), b"", "request")
        assert [one.patient.id for one in found.patients] == ["pt-1"]
        assert (found.total, found.patient_ids, found.cursor) == (1, frozenset({"pt-1"}), None)
        other = await story.search_patients(
            requester(), Query(filters=(one_of(Field.PATIENT_ID, "pt-9"),)), b"", "request"
        )
        assert other == FoundPatients((), 0, frozenset())
        with pytest.raises(Forbidden):
            await story.search_patients(requester(), Query(made_up(Ihi, "another person")), b"", "request")
        with pytest.raises(InsufficientScope):
            await story.search_patients(requester(scopes=frozenset({SCOPE})), Query(IHI), b"", "request")


async def test_pages_of_patients_show_each_once(tmp_path: Path) -> None:
    """One person whose studies come from five departments, each of which has a record of the person."""

    class Department(Shelf):
        async def patient(self, local: LocalId) -> Patient | None:
            return Patient(self.studies[0].patient_id, local, None, (), None, None)

    departments = [Department(f"d{n}", [study(n, patient_id=f"pt-{n}")]) for n in (3, 1, 2, 5, 4)]
    async with discovery(tmp_path, *departments) as story:
        page = await story.search_patients(requester(), Query(IHI, count=2), b"", "request")
        seen = [*page.patients]
        while page.cursor is not None:
            assert page.total == 5
            page = await story.search_patients(requester(), Query(IHI, count=2, after=page.cursor), b"", "request")
            seen += page.patients
    assert [one.patient.id for one in seen] == ["pt-1", "pt-2", "pt-3", "pt-4", "pt-5"]
