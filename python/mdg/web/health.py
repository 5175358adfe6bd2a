"""Liveness and readiness: one word for a caller without a token (spec/hostile-input K8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response


class HealthDoor:
    """`ready` tells whether the gateway can answer safely now."""

    def __init__(self, ready: Callable[[], Awaitable[bool]]) -> None:
        self._ready = ready

    async def livez(self, request: Request) -> Response:
        """`GET /livez`: the process answers."""
        return PlainTextResponse("ok")

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: it can do its work; 503 while it cannot, or while it stops."""
        return PlainTextResponse("ok") if await self._ready() else PlainTextResponse("not ready", 503)
