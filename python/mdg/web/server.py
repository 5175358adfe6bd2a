"""Serves one application on one listening socket by hypercorn: HTTP/1.1, no banner (spec/hostile-input 1, F).

The applications use nothing that only hypercorn has, so another ASGI server can take its place.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import h11
from hypercorn import protocol
from hypercorn.asyncio import run, serve
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from starlette.types import ASGIApp

HEAD = 10.0
"""Seconds that a new connection has for the head of its first request (spec/hostile-input F13)."""
KEPT = 60.0
"""Seconds that a used connection has for the next one."""
CLOSING = 60.0
"""Seconds that a peer has to take what was written before its connection was closed."""
GRACE = 10.0
"""Seconds that running downloads get after the stop; they resume by Range elsewhere (spec/hostile-input X24)."""
CHUNK = 1 << 20
"""Bytes of the largest chunk of a body; every body here is smaller (spec/hostile-input F4)."""


class Framing(h11.Connection):
    """The framing of one connection. h11 takes a chunk of 20 hexadecimal digits, and a peer that announces one would be
    waited for."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        came = len(event.data) if isinstance(event, h11.Data) else 0
        if getattr(self._reader, "_bytes_in_chunk", 0) + came > CHUNK:
            self._process_error(self.their_role)  # as for a chunk that h11 refuses itself
            raise h11.RemoteProtocolError("the chunk is too large", error_status_hint=400)
        return event


class Http11(H11Protocol):
    """HTTP/1.1 and nothing else: every `Upgrade` is ignored and `PRI` is an unknown method (spec/hostile-input F6, F7).
    hypercorn switches to HTTP/2 and WebSocket here and has no setting against it."""

    async def initiate(self) -> None:
        self.connection = Framing(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        self.answered = asyncio.Event()

    async def _check_protocol(self, event: Any) -> None:
        return

    async def _create_stream(self, request: Any) -> None:
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        self.answered.clear()
        await super()._create_stream(replace(request, headers=headers))

    async def _close_stream(self) -> None:
        await super()._close_stream()
        self.answered.set()


class Connection(TCPServer):
    """A connection that ends: one on which no request comes, and one whose peer takes nothing any more."""

    used = False
    closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        # A `send` returns when the kernel has all of it: a stream keeps nothing in the transport's buffer, and what was
        # sent is not lost with that buffer.
        self.writer.transport.set_write_buffer_limits(high=0)
        await super().run()

    async def _read_data(self) -> None:
        """Reads until the peer sends no more. A peer may end its half of the connection after a whole request (RFC 9112
        9.6); the answer reaches it all the same. hypercorn would break the answer off. If the peer has left altogether,
        the next bytes that are sent to it say so."""
        data = None
        with suppress(OSError):
            while data != b"":
                data = await self.reader.read(MAX_RECV)
                await self.protocol.handle(RawData(data))
            inner = self.protocol.protocol
            if isinstance(inner, Http11) and inner.stream is not None and inner.connection.their_state is h11.CLOSED:
                await inner.answered.wait()
        await self.protocol.handle(Closed())

    async def _idle_timeout(self) -> None:
        """Begun when the connection is new and after each answer, ended by the head of a request. hypercorn would be as
        patient with a stranger's first byte as with the pause of somebody known (spec/hostile-input F13)."""
        patience, self.used = KEPT if self.used else HEAD, True
        with suppress(TimeoutError):
            await asyncio.wait_for(self.context.terminated.wait(), patience)
        await asyncio.shield(self._initiate_server_close())

    async def protocol_send(self, event: Event) -> None:
        """Sends bytes or closes. If an answer was broken off, what the process still holds of it is not sent: a slow
        reader would take half a minute for the last piece after its download was withdrawn."""
        inner = self.protocol.protocol
        broken_off = isinstance(inner, H11Protocol) and inner.connection.our_state is h11.SEND_BODY
        if broken_off and isinstance(event, Closed):
            self.writer.transport.abort()
        await super().protocol_send(event)

    async def _close(self) -> None:
        """Closes when the peer has taken all that was written, or after CLOSING: a peer that takes nothing would keep
        the socket, and what was written to it, for ever.

        If the caller is cancelled, the close goes on: an application may cancel its own last `send`. Only the end of
        the server, which cancels every connection after GRACE, ends the close at once.
        """
        if self.closing is None:
            self.closing = asyncio.create_task(self._close_in_time())
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self._abort_if_stopping()
        try:
            await asyncio.shield(self.closing)
        except asyncio.CancelledError:
            self._abort_if_stopping()
            raise

    async def _close_in_time(self) -> None:
        closing = asyncio.create_task(super()._close())
        await asyncio.wait([closing], timeout=CLOSING)
        if not closing.done():
            self.writer.transport.abort()
        await closing

    def _abort_if_stopping(self) -> None:
        if self.context.terminated.is_set():
            self.writer.transport.abort()


protocol.H11Protocol = Http11  # type: ignore[attr-defined]  # the name hypercorn looks up, not one it offers
run.TCPServer = Connection  # type: ignore[attr-defined]  # likewise


async def listen(app: ASGIApp, listener: socket.socket, stop: Callable[[], Awaitable[object]]) -> None:
    """Serves until `stop` returns, then lets running answers end for GRACE seconds. `listener` is bound already, and is
    closed by the server."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024  # bytes of request line and header
    config.graceful_timeout = GRACE
    config.accesslog = None  # the edge writes it, without paths and addresses
    config.errorlog = logging.getLogger("mdg.http")
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=stop)  # type: ignore[arg-type]  # hypercorn has ASGI types of its own
