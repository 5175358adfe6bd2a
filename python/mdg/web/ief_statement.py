"""The IEF Capability Statement: the framework's five items about this service, for people and for machines (IEF
Conformance 1 to 5; fhir-au 8.3).

The page is made from the JSON document and carries it, so the two cannot differ. What is switched off is not in it. It
is public, holds nothing of any patient, and runs no script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mdg.fhir import Json
from mdg.web.asking import accepts, no_parameters

HEADINGS = {
    "discovery": "Discovery now, and automated through HealthConnect",
    "retrieval": "Retrieval now, and automated through HealthConnect",
    "registration": "Registration",
    "subscription": "Subscription",
}
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
    items: dict[str, Json] = {
        "discovery": {
            "current": {"mechanism": "fhir-r4", "automated": True, "url": f"{public_url}/fhir"},
            "automated_healthconnect_by": roadmap["discovery"],
        },
        "retrieval": {
            "current": {"mechanism": "jmix", "automated": True, "url": f"{public_url}/api/jmix"},
            "automated_healthconnect_by": roadmap["retrieval"],
        },
        "registration": {"registries": list(registries), "healthconnect_by": roadmap["registration"]},
        "subscription": {"url": f"{public_url}/fhir/Subscription", "healthconnect_by": roadmap["subscription"]},
    }
    return {
        "ief_version": "1.0",
        "organisation": {"name": name, "hpio": hpio, "contact": contact},
        "service_ids": [service_id],
        **{item: said for item, said in items.items() if capabilities[item]},
        "links": {"fhir_metadata": f"{public_url}/fhir/metadata"},
    }


class IefStatementDoor:
    """Answers with `statement`, which does not change while the gateway runs."""

    def __init__(self, statement: Json) -> None:
        self._json = orjson.dumps(statement)
        self._html = "".join(_page(statement, self._json)).encode()

    async def negotiated(self, request: Request) -> Response:
        """`GET /ief-capability-statement`: a page for browsers, JSON for machines."""
        accepts(request, (JSON, HTML))
        return self._answer(request, HTML if HTML in request.headers.get("accept", "") else JSON)

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
            "Content-Security-Policy": "default-src 'none'",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=type_)


def _page(statement: Json, document: bytes) -> Iterator[str]:
    """The document, an item to a heading; what it holds is text, whatever it looks like."""
    title = escape(f"{statement['organisation']['name']}: IEF Capability Statement")
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>'
    yield f"<h1>{title}</h1>{_list(statement['organisation'])}"
    for item, heading in HEADINGS.items():
        if item in statement:
            yield f'<h2 id="{item}">{heading}</h2>{_list(statement[item])}'
    embedded = document.decode().replace("<", "\\u003c")
    yield f'<script type="application/json" id="ief">{embedded}</script></body></html>'


def _list(said: Mapping[str, object]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{_text(said[name])}</dd>" for name in said)
        + "</dl>"
    )


def _text(value: object) -> str:
    match value:
        case dict():
            return _list(value)
        case list():
            return escape(", ".join(map(str, value))) or "none"
        case bool():
            return "yes" if value else "no"
        case None:
            return "no date yet"
        case _:
            return escape(str(value)) or "not said"
