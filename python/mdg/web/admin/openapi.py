"""OpenAPI 3.1 of the listeners, told from their routing tables: what is not routed is not promised, and no door is
hidden; the stand-ins of a sandbox are no part of the gateway. What an address does is the docstring of its door; what
FHIR resources hold is told by `/fhir/metadata`, and what the JMIX answers hold by `docs/spec`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from mdg.fhir import Json
from mdg.web.admin.lock import AdminLock
from mdg.web.asking import FORM
from mdg.web.authentication import Authentication
from mdg.web.fhir.search import SearchDoor
from mdg.web.standard import RefusalForm, Standard

_SCHEMES = {
    "dpop": {"type": "http", "scheme": "dpop", "description": "at+jwt bound to the caller's key (RFC 9068, RFC 9449)"},
    "operator": {"type": "http", "scheme": "bearer", "description": "admin_token"},
}


def openapi(listeners: Mapping[str, Sequence[Standard]], *, version: str) -> Json:
    """The description of all `listeners`, by the address of each; `version` is that of the software."""
    paths: dict[str, dict[str, Any]] = {}
    for server, standards in listeners.items():
        for standard in standards:
            for route in standard.routes:
                if isinstance(route, Route):
                    found = paths.setdefault(route.path, {"servers": []})
                    if {"url": server} not in found["servers"]:
                        found["servers"].append({"url": server})
                    found |= {
                        method.lower(): _operation(route, standard.refusal) for method in sorted(route.methods or ())
                    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Medical Data Gateway", "version": version},
        "paths": paths,
        "components": {"securitySchemes": _SCHEMES},
    }


def _credentials(lock: object) -> list[str]:
    """The name of what opens the lock of a route; none where nothing is asked for."""
    match lock:
        case Authentication():
            return ["dpop"]
        case AdminLock(asks=True):
            return ["operator"]
        case _:
            return []


def _operation(route: Route, refusal: RefusalForm) -> Json:
    does = re.sub(r"^`[^`]*`[.:;]?\s*", "", inspect.getdoc(route.endpoint) or "").replace("\n", " ")
    names = sorted(route.param_convertors)
    text = {"schema": {"type": "string"}}
    parameters = [{"name": name, "in": "path", "required": True, **text} for name in names]
    body: Json = {}
    door = getattr(route.endpoint, "__self__", None)
    if isinstance(door, SearchDoor):
        known = door.table.parameters
        parameters += [
            {"name": name, "in": "query", "description": one.documentation, **text}
            for name, one in known.items()
            if not one.person
        ]
        if route.path.endswith("/_search"):
            fields = {name: {"type": "string", "description": one.documentation} for name, one in known.items()}
            body = {"requestBody": {"content": {FORM: {"schema": {"type": "object", "properties": fields}}}}}
    return {
        "description": does or route.name.replace("_", " "),
        "parameters": parameters,
        **body,
        "security": [{name: []} for name in _credentials(route.app)],
        "responses": {
            "2XX": {"description": "The answer."},
            "default": {"description": "Why there is no answer.", "content": {refusal.media_type: {}}},
        },
    }
