"""The endpoint of a subscriber, for somebody who watches: each notification becomes a line and is answered 200.

It reads what it shows out of the SubscriptionStatus of a notification (Subscriptions R5 Backport 1.1, "Notifications in
R4") and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdg.sandbox.answers import body, problem

Tell = Callable[[Mapping[str, object], str], None]
"""Takes what a notification says, and the same as one line."""


def create_receiver(tell: Tell) -> Starlette:
    """The endpoint, at every path."""

    async def take(request: Request) -> Response:
        try:
            said = _named(orjson.loads(await body(request))["entry"][0]["resource"]["parameter"])
            event = _named(said.get("notification-event", []))
            report = {
                "type": said["type"],
                "number": event.get("event-number"),
                "focus": event["focus"]["reference"] if "focus" in event else None,
                "subscription": said["subscription"]["reference"],
            }
        except (ValueError, KeyError, IndexError, TypeError):
            return problem(400, "this is no notification of a subscription")
        tell(report, "  ".join(str(part) for part in report.values() if part is not None))
        return Response()

    return Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])


def _named(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The value or the parts of each parameter, under its name."""
    return {one["name"]: next(value for key, value in one.items() if key != "name") for one in parameters}
