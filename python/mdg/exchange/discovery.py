"""Discovery: what imaging of a person is here (IEF CAP1.3, A1.1.4). Metadata only, never a token, never a
pixel.

Order of a search: may the caller search at all and for this person; every source at once; a decision for each study and
each detail; the audit record, durable; what was found. Unknown and hidden are one and the same empty answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mdg.audit import Audit
from mdg.errors import Forbidden, NotFound
from mdg.exchange.catalogue import Catalogue, CatalogueEntry, late
from mdg.exchange.decision import Decisions
from mdg.model.event import Event, Kind, Outcome
from mdg.model.found import Found, FoundPatient, FoundPatients, FoundStudy
from mdg.model.identity import Ihi
from mdg.model.imaging import Patient, Study
from mdg.model.query import Detail, Field, OneOf, Position, Query, matches, select
from mdg.model.request import Action, Requester, Verdict


class Discovery:
    """The discovery side of one gateway. `retrievable`: retrieval is switched on, so studies have an address."""

    def __init__(self, catalogue: Catalogue, decisions: Decisions, audit: Audit, *, retrievable: bool) -> None:
        self._catalogue = catalogue
        self._decisions = decisions
        self._audit = audit
        self._retrievable = retrievable

    async def search(self, requester: Requester, query: Query, asked: bytes, request_id: str) -> Found:
        """The studies that `query` selects; `asked` is the raw request for the record.

        `Forbidden` when it is about another person than the token's, known here or not. `Unavailable` without audit, or
        if nothing matches while a source did not answer: "nothing found" would be believed.
        """
        verdict = self._decisions.admit(requester, Action.DISCOVER, "ImagingStudy")
        ihi = self._searched(requester, query)
        held, unanswered = await self._catalogue.of(ihi)
        visible = {one.study.id: one for one in held if self._allowed(requester, "ImagingStudy", one)}
        studies = [one.study for one in visible.values()]
        selected = select(_of_patients(query, studies), studies)
        if unanswered and not selected.total:
            raise late(unanswered)
        page = [visible[study.id] for study in selected.studies]
        addressed = self._retrievable and Detail.ADDRESS in query.details
        patients: dict[str, Patient] = {}
        if Detail.PATIENT in query.details:
            patients, later = await self._patients(requester, ihi, page)
            unanswered = sorted({*unanswered, *later})
        await self._record_search(requester, verdict, asked, request_id, count=len(page), unanswered=unanswered)
        return Found(
            studies=tuple(
                replace(
                    self._found(one),
                    patient=patients.get(one.study.patient_id),
                    address=addressed and self._allowed(requester, "Endpoint", one),
                )
                for one in page
            ),
            total=selected.total,
            patient_ids=frozenset(study.patient_id for study in studies if _of_named_patient(query, study)),
            unanswered=tuple(unanswered),
            cursor=selected.cursor,
        )

    async def search_patients(self, requester: Requester, query: Query, asked: bytes, request_id: str) -> FoundPatients:
        """The patients of the studies that `query` selects, by logical id. Refusals as of `search`."""
        verdict = self._decisions.admit(requester, Action.DISCOVER, "Patient")
        ihi = self._searched(requester, query)
        held, unanswered = await self._catalogue.of(ihi)
        patients, later = await self._patients(requester, ihi, held)
        unanswered = sorted({*unanswered, *later})
        query = _of_patients(query, [one.study for one in held])
        selected = {one.study.patient_id for one in held if matches(query, one.study)}
        found = [patients[id_] for id_ in sorted(selected & patients.keys())]
        if unanswered and not found:
            raise late(unanswered)
        rest = [one for one in found if query.after is None or one.id > query.after.id]
        page = rest[: query.count]
        await self._record_search(requester, verdict, asked, request_id, count=len(page), unanswered=unanswered)
        return FoundPatients(
            patients=tuple(FoundPatient(one, ihi) for one in page),
            total=len(found),
            patient_ids=frozenset(one.id for one in found),
            unanswered=tuple(unanswered),
            cursor=Position(page[-1].id, "") if len(rest) > len(page) > 0 else None,
        )

    async def study(self, requester: Requester, id_: str, request_id: str, *, version: str | None = None) -> FoundStudy:
        """The study `id_`, if `version` is its present one or not given. `NotFound` when it is absent or hidden, all
        alike."""
        held, verdict = await self._study(requester, "ImagingStudy", id_)
        if version not in (None, str(held.study.key.version)):
            raise NotFound(reason="version")
        await self._record_read(requester, f"ImagingStudy/{id_}", held, verdict, request_id)
        return self._found(held)

    async def address(self, requester: Requester, id_: str, request_id: str) -> FoundStudy:
        """The study `id_`, of which the caller asks only where it is retrieved. `NotFound` also if it cannot be."""
        held, verdict = await self._study(requester, "Endpoint", id_)
        if not self._retrievable:
            raise NotFound(reason="retrieval-off")
        await self._record_read(requester, f"Endpoint/{id_}", held, verdict, request_id)
        return self._found(held)

    async def patient(self, requester: Requester, id_: str, request_id: str) -> FoundPatient:
        """The patient `id_`: only the token's own person, and only while one of their studies may be shown."""
        verdict = self._decisions.admit(requester, Action.DISCOVER, "Patient")
        ihi = requester.patient
        if ihi is None:
            raise NotFound(reason="no-patient-in-token")
        held, unanswered = await self._catalogue.of(ihi)
        patients, later = await self._patients(requester, ihi, held)
        if id_ in patients:
            await self._record_read(requester, f"Patient/{id_}", None, verdict, request_id)
            return FoundPatient(patients[id_], ihi)
        if unanswered or later:
            raise late([*unanswered, *later])
        raise NotFound

    def _searched(self, requester: Requester, query: Query) -> Ihi:
        """The person of the token, who is the person searched; refused before any look-up (spec/hostile-input C1)."""
        if requester.patient is None:
            raise Forbidden(reason="no-patient-in-token")
        if query.person not in (None, requester.patient):
            raise Forbidden(reason="another-patient")
        return requester.patient

    async def _study(self, requester: Requester, scope_type: str, id_: str) -> tuple[CatalogueEntry, Verdict]:
        self._decisions.admit(requester, Action.DISCOVER, scope_type)
        if requester.patient is None:
            raise NotFound(reason="no-patient-in-token")
        held = await self._catalogue.study_by_id(id_, requester.patient)
        if held is None:
            raise NotFound
        verdict = self._decisions.of_study(requester, Action.DISCOVER, scope_type, held)
        if not verdict.allowed:
            raise NotFound(reason="hidden")
        return held, verdict

    async def _patients(
        self, requester: Requester, ihi: Ihi, held: Sequence[CatalogueEntry]
    ) -> tuple[dict[str, Patient], list[tuple[str, str]]]:
        """The patients, by logical id, of those of `held` that may be shown under the scope of Patient, and the sources
        that did not answer."""
        shown = {one.study.patient_id for one in held if self._allowed(requester, "Patient", one)}
        known, unanswered = await self._catalogue.patients(ihi)
        return {one.id: one for one in known if one.id in shown}, unanswered

    def _allowed(self, requester: Requester, scope_type: str, held: CatalogueEntry) -> bool:
        return self._decisions.of_study(requester, Action.DISCOVER, scope_type, held).allowed

    def _found(self, held: CatalogueEntry) -> FoundStudy:
        return FoundStudy(held.study, held.ihi, self._retrievable)

    async def _record_search(
        self,
        requester: Requester,
        verdict: Verdict,
        asked: bytes,
        request_id: str,
        *,
        count: int,
        unanswered: Sequence[tuple[str, str]],
    ) -> None:
        await self._audit.record(
            Event(
                Kind.SEARCH,
                Outcome.SUCCESS,
                request_id,
                requester=requester,
                patient=requester.patient,
                verdict=verdict,
                query=asked,
                count=count,
                details=tuple(("unanswered", name) for name, _ in unanswered),
            )
        )

    async def _record_read(
        self, requester: Requester, resource: str, held: CatalogueEntry | None, verdict: Verdict, request_id: str
    ) -> None:
        await self._audit.record(
            Event(
                Kind.READ,
                Outcome.SUCCESS,
                request_id,
                requester=requester,
                patient=held.ihi if held else requester.patient,
                study_uid=held.study.key.uid if held else None,
                resource=resource,
                verdict=verdict,
                count=1,
            )
        )


def _of_patients(query: Query, studies: Sequence[Study]) -> Query:
    """The query of these studies' patients, who are one person: the sources were asked for that person only."""
    return replace(query, patients=tuple({study.patient for study in studies}))


def _of_named_patient(query: Query, study: Study) -> bool:
    """Whether the patient of `study` is one that the query names by logical id, if it names any."""
    named = [one for one in query.filters if isinstance(one, OneOf) and one.field is Field.PATIENT_ID]
    return all(one.holds(study) for one in named)
