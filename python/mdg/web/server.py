"""Serving one application on one listening socket by hypercorn: HTTP/1.1, no banner, the limits of security-tests 2.

The applications use nothing that only hypercorn has, so another ASGI server can take its place.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from hypercorn import protocol
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from starlette.types import ASGIApp

GRACE = 10.0
"""Seconds that running downloads get after the stop; they resume by Range elsewhere (security-tests X24)."""


class Http11(H11Protocol):
    """HTTP/1.1 and nothing else: every `Upgrade` is ignored and `PRI` is a method that nobody knows (security-tests F6,
    F7). hypercorn switches to HTTP/2 and WebSocket here and has no setting against it."""

    async def _check_protocol(self, event: Any) -> None:
        return

    async def _create_stream(self, request: Any) -> None:
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(replace(request, headers=headers))


protocol.H11Protocol = Http11  # type: ignore[attr-defined]  # the name hypercorn looks up, not one it offers


async def listen(app: ASGIApp, listener: socket.socket, stop: Callable[[], Awaitable[object]]) -> None:
    """Serves until `stop` returns, then lets running answers end for GRACE seconds. `listener` is bound already, and is
    closed by the server."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024  # bytes of request line and header
    config.graceful_timeout = GRACE
    config.keep_alive_timeout = 60.0
    config.accesslog = None  # the edge writes it, without paths and addresses
    config.errorlog = logging.getLogger("mdg.http")
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=stop)  # type: ignore[arg-type]  # hypercorn has ASGI types of its own
