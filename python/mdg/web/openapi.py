"""OpenAPI 3.1 of the listeners, told from their routing tables: what is not routed is not promised, and no door is
hidden; the stand-ins of a sandbox are no part of the gateway. What an address does is the docstring of its door; what
FHIR resources hold is told by `/fhir/metadata`, and what the JMIX answers hold by `docs/spec`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route

from mdg.fhir import Json
from mdg.web.admin import AdminLock
from mdg.web.authentication import Authentication

_SCHEMES = {
    "dpop": {"type": "http", "scheme": "dpop", "description": "at+jwt bound to the caller's key (RFC 9068, RFC 9449)"},
    "operator": {"type": "http", "scheme": "bearer", "description": "admin_token"},
}


def openapi(listeners: Mapping[str, Iterable[BaseRoute]], *, version: str) -> Json:
    """The description of all `listeners`, by the address of each; `version` is that of the software."""
    paths: dict[str, dict[str, Any]] = {}
    for server, routes in listeners.items():
        for route in routes:
            if isinstance(route, Route):
                found = paths.setdefault(route.path, {"servers": []})
                if {"url": server} not in found["servers"]:
                    found["servers"].append({"url": server})
                found |= {method.lower(): _operation(route) for method in sorted(route.methods or ())}
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


def _operation(route: Route) -> Json:
    does = re.sub(r"^`[^`]*`[.:;]?\s*", "", inspect.getdoc(route.endpoint) or "").replace("\n", " ")
    names = sorted(route.param_convertors)
    return {
        "description": does or route.name.replace("_", " "),
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names],
        "security": [{name: []} for name in _credentials(route.app)],
        "responses": {"default": {"description": "The answer, or why there is none, as an OperationOutcome."}},
    }
