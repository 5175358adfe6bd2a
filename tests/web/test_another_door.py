"""The story of discovery through a door of another standard: QIDO-RS (PS3.18 10.6), written in this file alone.

It reads matching attributes into a `Query` and renders what was `Found` as DICOM JSON (PS3.18 Annex F). The story, the
decision, the record and the cursor are those of the FHIR door; a refusal is a problem document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mdg.app import Rooms
from mdg.cli.serve import folder_source
from mdg.model.found import Found, FoundStudy
from mdg.model.query import Field, OneOf, Query
from mdg.sandbox.phantom import write_phantom
from mdg.web.asking import query, request_id, requester
from mdg.web.authentication import Authentication
from mdg.web.cursor import Cursors
from mdg.web.edge import Edge
from mdg.web.fhir.answers import OPERATION_OUTCOME
from mdg.web.standard import PROBLEM_DOCUMENT, Standard

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
STUDIES = "/dicomweb/studies"
FIELDS = {"StudyInstanceUID": Field.STUDY_UID, "ModalitiesInStudy": Field.MODALITY, "BodyPartExamined": Field.BODY_PART}


def dataset(found: FoundStudy) -> dict[str, Any]:
    """A study as QIDO-RS answers it (PS3.18 table 10.6.3-3)."""

    def element(vr: str, *values: object) -> dict[str, Any]:
        return {"vr": vr, "Value": [*values]}

    study = found.study
    return {
        "00080020": element("DA", (study.started or "")[:10].replace("-", "")),
        "00080061": element("CS", *study.modalities),
        "00080056": element("CS", "ONLINE" if found.retrievable else "OFFLINE"),
        "00100020": element("LO", str(found.ihi)),
        "00100021": element("LO", found.ihi.system),
        "0020000D": element("UI", study.key.uid),
        "00201206": element("IS", len(study.series)),
        "00201208": element("IS", study.instances),
    }


class QidoDoor:
    def __init__(self, rooms: Rooms) -> None:
        self._discovery, self._cursors = rooms.discovery, Cursors(rooms.clock)

    async def studies(self, request: Request) -> JSONResponse:
        asked, after = query(request), None
        if asked[:1] and asked[0][0] == "after":
            asked, after = self._cursors.open(asked[0][1], requester(request), "dicomweb studies")
        filters = tuple(OneOf(FIELDS[name], frozenset(value.split(","))) for name, value in asked if name in FIELDS)
        limit = int(dict(asked).get("limit", "50"))
        found = await self._discovery.search(
            requester(request), Query(filters=filters, count=limit, after=after), b"", request_id(request)
        )
        return JSONResponse([dataset(one) for one in found.studies], 200, self._headers(request, asked, found))

    def _headers(self, request: Request, asked: Any, found: Found) -> dict[str, str]:
        headers = {"X-Total": str(found.total)}
        if found.unanswered:
            headers["Warning"] = '299 mdg "a source did not answer"'
        if found.cursor is not None:
            page = self._cursors.seal(requester(request), "dicomweb studies", asked, found.cursor)
            headers["Link"] = f'<{STUDIES}?after={page}>; rel="next"'
        return headers


def application(rooms: Rooms, url: str) -> Starlette:
    door = QidoDoor(rooms)
    routes = [Route(STUDIES, door.studies, middleware=[Middleware(Authentication, gate=rooms.gate)])]
    edge = Middleware(
        Edge,
        audit=rooms.audit,
        hosts=[url.removeprefix("http://")],
        standards=[Standard("/dicomweb", PROBLEM_DOCUMENT, routes), Standard("", OPERATION_OUTCOME, [])],
        metrics=rooms.metrics,
        fhir=f"{url}/fhir",
        whose=nobody,
    )
    return Starlette(routes=routes, middleware=[edge])


async def nobody(about: Mapping[str, Any]) -> dict[str, Any]:
    return dict(about)


async def test_another_standard_renders_the_same_story(start: Start, tmp_path: Path) -> None:
    for seed in (1, 2):
        write_phantom(tmp_path / "images" / str(seed), seed=seed, slices=1)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        bundle = (await gateway.consumer.search(_count="1")).json()
        by_fhir = bundle["entry"][0]["resource"]
        transport = httpx2.ASGITransport(application(gateway.rooms, gateway.url))
        async with httpx2.AsyncClient(transport=transport, base_url=gateway.url) as http:

            async def ask(parameters: str) -> httpx2.Response:
                shown = await gateway.consumer.credentials("GET", STUDIES)
                return await http.get(f"{STUDIES}?{parameters}", headers=shown)

            first = await ask("ModalitiesInStudy=CT&limit=1")
            (study,) = first.json()
            assert (first.status_code, first.headers["x-total"]) == (200, str(bundle["total"]))
            assert study["0020000D"]["Value"] == [by_fhir["identifier"][0]["value"].removeprefix("urn:oid:")]
            assert study["00201208"]["Value"] == [by_fhir["numberOfInstances"]]
            assert study["00080061"]["Value"] == [one["code"] for one in by_fhir["modality"]]
            second = await ask(first.headers["link"].partition("?")[2].partition(">")[0])
            assert second.json()[0]["0020000D"] != study["0020000D"]
            assert "link" not in second.headers
            assert (await ask("ModalitiesInStudy=MR")).json() == []
            (event,) = await gateway.records(first.headers["x-request-id"])
            assert (event["outcome"], event["type"]["code"]) == ("0", "rest")
            bare = await http.get(STUDIES)
            assert bare.headers["content-type"] == "application/problem+json"
            assert (bare.status_code, bare.json()["code"]) == (401, "login")
            assert bare.headers["www-authenticate"].startswith("DPoP ")
