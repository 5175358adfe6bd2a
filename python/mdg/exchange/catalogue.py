"""What this gateway can show: all its sources asked at once, each study together with who it is about.

A source that does not answer in time is named, and the others' answer is given. If no source answers, the call fails:
an empty result would be believed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio

from mdg.access import Consents
from mdg.access.rules.consent_valid import NORMAL
from mdg.errors import MdgError, Unavailable
from mdg.identity import Identities
from mdg.model.identity import Ihi
from mdg.model.imaging import Patient, StoredInstance, Study
from mdg.model.query import Field, OneOf, Query
from mdg.model.request import Consent
from mdg.sources.source import Finds

T = TypeVar("T")

BUDGET = 3.0
"""Seconds that a source has to answer a search (spec/hostile-input X43)."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One study, where it is, and who it is about, which is beyond doubt."""

    source: Finds
    study: Study
    ihi: Ihi
    consents: Sequence[Consent]
    """What this person has permitted or denied, read together with the study."""

    @property
    def normal(self) -> bool:
        """Whether it may be pointed to at all: that a study of a more sensitive kind is there says something already
        (spec/events 3)."""
        return bool(self.study.labels) and NORMAL.issuperset(self.study.labels)


class Catalogue:
    """All sources of one gateway, in the order of preference when two hold the same study."""

    def __init__(
        self, sources: Sequence[Finds], identities: Identities, consents: Consents, budget: float = BUDGET
    ) -> None:
        self._sources = tuple(sources)
        self._identities = identities
        self._consents = consents
        self._budget = budget

    async def of(self, ihi: Ihi) -> tuple[list[CatalogueEntry], list[tuple[str, str]]]:
        """All studies of a person, and (source, issue code) of each source that did not answer.

        `local_ids` names only those whose one IHI this is, and `find` gives only what is fit to be shown, so neither is
        asked again for each study.
        """
        locals_ = tuple(await self._identities.local_ids(ihi))
        answers, unanswered = await self._ask_all(lambda source: source.find(Query(ihi, locals_)))
        studies = {study.key.uid: (source, study) for source, found in reversed(answers) for study in found}
        consents = await self._consents.of(ihi)
        return [CatalogueEntry(source, study, ihi, consents) for source, study in studies.values()], unanswered

    async def patients(self, ihi: Ihi) -> tuple[list[Patient], list[tuple[str, str]]]:
        """Every local patient that is this person, and (source, issue code) of each source that did not answer."""
        locals_ = tuple(await self._identities.local_ids(ihi))

        async def known(source: Finds) -> Sequence[Patient]:
            return [one for local in locals_ if (one := await source.patient(local)) is not None]

        answers, unanswered = await self._ask_all(known)
        found = {one.id: one for _, ones in reversed(answers) for one in ones}
        return list(found.values()), unanswered

    async def study(self, uid: str, ihi: Ihi) -> CatalogueEntry | None:
        """The present version of a study of this person by its StudyInstanceUID. A study of somebody else, one in doubt
        and an unknown one are looked up by the same statements and are None alike."""
        return await self._one(ihi, Field.STUDY_UID, uid)

    async def study_by_id(self, id_: str, ihi: Ihi) -> CatalogueEntry | None:
        """The same by its logical id."""
        return await self._one(ihi, Field.LOGICAL_ID, id_)

    async def whose(self, uid: str) -> CatalogueEntry | None:
        """The present version of a study of any patient; None if no IHI leads to the study."""
        owners, unanswered = await self._ask_all(lambda source: source.owner(uid))
        for local in dict.fromkeys(owner for _, owner in owners if owner is not None):
            ihi = await self._identities.ihi_of(local)
            if ihi is not None and (held := await self.study(uid, ihi)) is not None:
                return held
        if unanswered:
            raise late(unanswered)
        return None

    async def instances(self, held: CatalogueEntry) -> Sequence[StoredInstance]:
        """The files of a study, as they were when it was indexed."""
        return await held.source.instances(held.study.key)

    async def _one(self, ihi: Ihi, field: Field, value: str) -> CatalogueEntry | None:
        locals_ = tuple(await self._identities.local_ids(ihi))
        query = Query(ihi, locals_, (OneOf(field, frozenset({value})),))
        answers, unanswered = await self._ask_all(lambda source: source.find(query))
        consents = await self._consents.of(ihi)  # last: the decision knows the latest; also when nothing is found
        for source, studies in answers:
            for study in studies:
                return CatalogueEntry(source, study, ihi, consents)
        if unanswered:
            raise late(unanswered)
        return None

    async def _ask_all(
        self, ask: Callable[[Finds], Awaitable[T]]
    ) -> tuple[list[tuple[Finds, T]], list[tuple[str, str]]]:
        answers: dict[str, T] = {}
        failed: dict[str, str] = {}

        async def one(source: Finds) -> None:
            try:
                with anyio.fail_after(self._budget):
                    answers[source.name] = await ask(source)
            except TimeoutError:
                failed[source.name] = "timeout"
            except (MdgError, OSError):
                failed[source.name] = "incomplete"

        async with anyio.create_task_group() as tasks:
            for source in self._sources:
                tasks.start_soon(one, source)
        if failed and not answers:
            raise Unavailable("no source answered; try again later", reason="sources")
        return [(s, answers[s.name]) for s in self._sources if s.name in answers], sorted(failed.items())


def late(unanswered: Sequence[tuple[str, str]]) -> Unavailable:
    """The error when nothing was found but a source that may hold it did not answer."""
    return Unavailable("a source of images did not answer; try again later", reason="source-" + unanswered[0][1])
