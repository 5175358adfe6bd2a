"""Discovery: what imaging of a person is here (IEF CAP1.3, A1.1.4). Metadata only, never a token, never a
pixel.

Order of a search: may the caller search at all and for this person; every source at once; a decision for each study and
each included resource; the audit record, durable; the Bundle. Unknown and hidden are one and the same empty answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

from mdg.audit import Audit
from mdg.errors import Forbidden, NotFound
from mdg.exchange.cursor import Cursors, Position
from mdg.exchange.holdings import Held, Holdings, late
from mdg.exchange.judge import Judge
from mdg.fhir import Json
from mdg.fhir.bundle import searchset
from mdg.fhir.endpoint import endpoint_id, jmix_endpoint
from mdg.fhir.imaging_study import imaging_study
from mdg.fhir.local_numbers import LocalNumbers
from mdg.fhir.operation_outcome import partial_outcome
from mdg.fhir.patient import patient as patient_resource
from mdg.fhir.search import ImagingStudySearch
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import Ihi
from mdg.model.imaging import Study
from mdg.model.request import Action, Requester, Verdict


class Discovery:
    """The discovery side of one gateway. `retrievable`: JMIX Endpoints are shown only while retrieval is switched
    on."""

    def __init__(
        self,
        holdings: Holdings,
        judge: Judge,
        audit: Audit,
        cursors: Cursors,
        *,
        numbers: LocalNumbers,
        public_url: str,
        canonical_base: str,
        retrievable: bool,
    ) -> None:
        self._holdings = holdings
        self._judge = judge
        self._audit = audit
        self._cursors = cursors
        self._numbers = numbers
        self._public_url = public_url
        self._canonical_base = canonical_base
        self._retrievable = retrievable

    async def search(
        self,
        requester: Requester,
        search: ImagingStudySearch,
        query: bytes,
        request_id: str,
        after: Position | None = None,
    ) -> Json:
        """The searchset Bundle for `search`; `query` is the raw request for the record, `after` where a page goes on.

        `Forbidden` when it is about another person than the token's, known here or not. `Unavailable` without audit, or
        if nothing matches while a source did not answer: "nothing found" would be believed.
        """
        verdict = self._judge.admit(requester, Action.DISCOVER, "ImagingStudy")
        ihi = self._searched(requester, search)
        held, unanswered = await self._holdings.of(ihi)
        visible = {one.study.id: one.study for one in held if self._allowed(requester, "ImagingStudy", one)}
        patients = {study.patient_id for study in visible.values()}
        matches = search.ordered([study for study in visible.values() if search.matches(study)])
        if unanswered and not matches:
            raise late(unanswered)
        rest = after.rest(matches, search) if after else matches
        page = rest[: search.count]
        included, later = await self._included(requester, ihi, search, page, {one.study.id: one for one in held})
        unanswered = sorted({*unanswered, *later})
        await self._audit.record(
            Event(
                Kind.SEARCH,
                Outcome.SUCCESS,
                request_id,
                requester=requester,
                patient=ihi,
                verdict=verdict,
                query=query,
                count=len(page),
                details=tuple(("unanswered", name) for name, _ in unanswered),
            )
        )
        who = self._patients_of(search, patients)
        more = len(rest) > len(page) > 0
        return searchset(
            f"{self._public_url}/fhir",
            total=len(matches),
            matches=[imaging_study(study, ihi, self._endpoints(study), self._numbers) for study in page],
            included=included,
            outcomes=[partial_outcome(unanswered, request_id)] if unanswered else [],
            self_url=self._url([*who, *search.shareable]),
            next_url=self._url([("_page", self._cursors.seal(requester, search, page[-1], [*who, *search.asked]))])
            if more
            else None,
        )

    async def imaging_study(
        self, requester: Requester, id_: str, request_id: str, *, version: str | None = None
    ) -> Json:
        """ImagingStudy `id_`, if `version` is its present one or not given. `NotFound` when it is absent or hidden, all
        alike."""
        held, ihi, verdict = await self._study(requester, "ImagingStudy", id_)
        if version not in (None, str(held.study.key.version)):
            raise NotFound(reason="version")
        resource = imaging_study(held.study, ihi, self._endpoints(held.study), self._numbers)
        await self._record_read(requester, f"ImagingStudy/{id_}", held, verdict, request_id)
        return resource

    async def endpoint(self, requester: Requester, id_: str, request_id: str) -> Json:
        """Endpoint `id_`, under the decision of the study that it belongs to."""
        held, _, verdict = await self._study(requester, "Endpoint", id_)
        if id_ not in self._endpoints(held.study):
            raise NotFound(reason="retrieval-off")
        await self._record_read(requester, f"Endpoint/{id_}", held, verdict, request_id)
        return jmix_endpoint(held.study, self._public_url, self._canonical_base)

    async def patient(self, requester: Requester, id_: str, request_id: str) -> Json:
        """Patient `id_`: only the token's own person, and only while one of their studies may be shown."""
        verdict = self._judge.admit(requester, Action.DISCOVER, "Patient")
        ihi = requester.patient
        if ihi is None:
            raise NotFound(reason="no-patient-in-token")
        held, unanswered = await self._holdings.of(ihi)
        patients, later = await self._patients(requester, ihi, held)
        for found in patients:
            if found["id"] == id_:
                await self._record_read(requester, f"Patient/{id_}", None, verdict, request_id)
                return found
        if unanswered or later:
            raise late([*unanswered, *later])
        raise NotFound

    def _searched(self, requester: Requester, search: ImagingStudySearch) -> Ihi:
        """The person of the token, who must be the person searched. Said before anything is looked up (C1)."""
        if requester.patient is None:
            raise Forbidden(reason="no-patient-in-token")
        if search.ihi not in (None, requester.patient):
            raise Forbidden(reason="another-patient")
        return requester.patient

    async def _study(self, requester: Requester, scope_type: str, id_: str) -> tuple[Held, Ihi, Verdict]:
        self._judge.admit(requester, Action.DISCOVER, scope_type)
        if requester.patient is None:
            raise NotFound(reason="no-patient-in-token")
        held = await self._holdings.study_by_id(id_, requester.patient)
        if held is None:
            raise NotFound
        verdict = self._judge.of_study(requester, Action.DISCOVER, scope_type, held)
        if not verdict.allowed:
            raise NotFound(reason="hidden")
        return held, held.ihi, verdict

    async def _included(
        self, requester: Requester, ihi: Ihi, search: ImagingStudySearch, page: Sequence[Study], held: dict[str, Held]
    ) -> tuple[list[Json], list[tuple[str, str]]]:
        """Included resources, and the sources that did not answer. Each resource passes the same decision under its own
        scope; what does not pass is left out."""
        included: list[Json] = []
        unanswered: list[tuple[str, str]] = []
        if "ImagingStudy:patient" in search.include:
            wanted = {study.patient_id for study in page}
            shown, unanswered = await self._patients(requester, ihi, [held[study.id] for study in page])
            included += [one for one in shown if one["id"] in wanted]
        if "ImagingStudy:endpoint" in search.include:
            included += [
                jmix_endpoint(study, self._public_url, self._canonical_base)
                for study in page
                if self._endpoints(study) and self._allowed(requester, "Endpoint", held[study.id])
            ]
        return included, unanswered

    async def _patients(
        self, requester: Requester, ihi: Ihi, held: Sequence[Held]
    ) -> tuple[list[Json], list[tuple[str, str]]]:
        """The Patients of those of `held` that may be shown under the scope of Patient, and the sources that did not
        answer."""
        shown = {one.study.patient_id for one in held if self._allowed(requester, "Patient", one)}
        known, unanswered = await self._holdings.patients(ihi)
        resources = [patient_resource(one, ihi, self._numbers) for one in known]
        return [one for one in resources if one["id"] in shown], unanswered

    def _allowed(self, requester: Requester, scope_type: str, held: Held) -> bool:
        return self._judge.of_study(requester, Action.DISCOVER, scope_type, held).allowed

    def _endpoints(self, study: Study) -> list[str]:
        return [endpoint_id(study)] if self._retrievable else []

    def _patients_of(self, search: ImagingStudySearch, patients: set[str]) -> list[tuple[str, str]]:
        """The person of a search as a parameter: the opaque ids of the patients that the answer shows anyway."""
        named = patients if search.patient_ids is None else search.patient_ids & patients
        return [("patient", ",".join(f"Patient/{id_}" for id_ in sorted(named)))] if named else []

    def _url(self, parameters: Sequence[tuple[str, str]]) -> str:
        query = urlencode(parameters, safe="/:|,")
        return f"{self._public_url}/fhir/ImagingStudy" + (f"?{query}" if query else "")

    async def _record_read(
        self, requester: Requester, resource: str, held: Held | None, verdict: Verdict, request_id: str
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


Read = Callable[[Requester, str, str], Awaitable[Json]]
"""`Discovery.imaging_study`, `.patient` or `.endpoint`, as a door calls it: requester, logical id, request id."""
