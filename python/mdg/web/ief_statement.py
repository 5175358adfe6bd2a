"""The IEF Capability Statement: the framework's five items about this service, for people and for machines (IEF
CAP5.1 to CAP5.5).

The page is made from the JSON document and carries it, so the two cannot differ. All five items are always there: of a
capability that is switched off, the statement says that it is not offered now, and the date by which it will be. The
statement is public, holds nothing of any patient, and runs no script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mdg.fhir import Json
from mdg.web.asking import accepts, no_parameters
from mdg.web.page import POLICY, link, page, terms, text

HEADINGS = {
    "discovery": "Discovery now, and automated through HealthConnect",
    "retrieval": "Retrieval now, and automated through HealthConnect",
    "registration": "Registration",
    "subscription": "Subscription",
}
LABELS = {
    "name": "Name",
    "hpio": "Organisation number (HPI-O)",
    "contact": "Contact",
    "current": "Now",
    "mechanism": "By",
    "automated": "Automated",
    "url": "Address",
    "automated_healthconnect_by": "Automated through HealthConnect from",
    "healthconnect_by": "Through HealthConnect from",
    "registers_with_healthconnect": "Registers patients now",
    "registries": "Registries that are told",
}
"""The words of the page for the names of the document."""
WORDS = {"fhir-r4": "FHIR R4", "jmix": "JMIX"}
UNSAID = {"contact": "none given", "current": "not by this gateway", "registries": "none", "url": "not offered"}
JSON, HTML = "application/json", "text/html"


def ief_statement(
    capabilities: Mapping[str, bool],
    roadmap: Mapping[str, str | None],
    *,
    public_url: str,
    hpio: str,
    name: str,
    contact: str,
    service_id: str,
    registries: Sequence[str],
) -> Json:
    """The document. `capabilities` says what is on, `roadmap` by when (`YYYY-MM-DD`) each is automated through
    HealthConnect; `registries` are those that are told of what is here."""
    found = {"mechanism": "fhir-r4", "automated": True, "url": f"{public_url}/fhir"}
    fetched = {"mechanism": "jmix", "automated": True, "url": f"{public_url}/api/jmix"}
    return {
        "ief_version": "1.0",
        "organisation": {"name": name, "hpio": hpio, "contact": contact},
        "service_ids": [service_id],
        "discovery": {
            "current": found if capabilities["discovery"] else None,
            "automated_healthconnect_by": roadmap["discovery"],
        },
        "retrieval": {
            "current": fetched if capabilities["retrieval"] else None,
            "automated_healthconnect_by": roadmap["retrieval"],
        },
        "registration": {
            "registers_with_healthconnect": capabilities["registration"],
            "registries": list(registries),
            "healthconnect_by": roadmap["registration"],
        },
        "subscription": {
            "url": f"{public_url}/fhir/Subscription" if capabilities["subscription"] else None,
            "healthconnect_by": roadmap["subscription"],
        },
        "links": {"fhir_metadata": f"{public_url}/fhir/metadata"},
    }


class IefStatementDoor:
    """Answers with `statement`, which does not change while the gateway runs."""

    def __init__(self, statement: Json, *, sandbox: bool) -> None:
        self._json = orjson.dumps(statement)
        title = f"{statement['organisation']['name']}: IEF Capability Statement"
        self._html = page(title, _body(statement, self._json), sandbox=sandbox).encode()

    async def negotiated(self, request: Request) -> Response:
        """`GET /ief-capability-statement`: a page for browsers, JSON for machines, by the weights of `Accept`."""
        return self._answer(request, accepts(request, (JSON, HTML)))

    async def as_json(self, request: Request) -> Response:
        """`GET /ief-capability-statement.json`: the document."""
        accepts(request, (JSON,))
        return self._answer(request, JSON)

    async def as_html(self, request: Request) -> Response:
        """`GET /ief-capability-statement.html`: the page."""
        accepts(request, (HTML,))
        return self._answer(request, HTML)

    def _answer(self, request: Request, type_: str) -> Response:
        no_parameters(request)
        content, other = (self._html, "json") if type_ == HTML else (self._json, "html")
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            "Cache-Control": "max-age=300",
            "Vary": "Accept",
            "Link": f'</ief-capability-statement.{other}>; rel="alternate"',
            "Content-Security-Policy": POLICY,
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=type_)


def _body(statement: Json, document: bytes) -> Iterator[str]:
    """The document, an item to a heading; what it holds is text, whatever it looks like."""
    yield "<p>What this service offers to the Imaging Exchange Framework, today and by which date.</p>"
    yield _list(_flat(statement["organisation"]))
    for item, heading in HEADINGS.items():
        yield f'<h2 id="{item}">{heading}</h2>{_list(_flat(statement[item]))}'
    yield f"<h2>For machines</h2>{terms({'FHIR CapabilityStatement': link(statement['links']['fhir_metadata'])})}"
    embedded = document.decode().replace("<", "\\u003c")
    yield f'<script type="application/json" id="ief">{embedded}</script>'


def _flat(item: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """(name, value) of an item, those of "current" among them."""
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


def _list(said: Iterable[tuple[str, object]]) -> str:
    return terms({LABELS.get(name, name): _said(name, value) for name, value in said})


def _said(name: str, value: object) -> str:
    match value:
        case list():
            return ", ".join(link(str(one)) for one in value) or UNSAID[name]
        case bool():
            return "yes" if value else "no"
        case None:
            return UNSAID.get(name, "no date yet")
        case _:
            return link(str(value), WORDS.get(str(value), "")) or text(UNSAID.get(name, ""))
