"""A TCP line between two gateways that can change one byte on its way: what a bad cable or a bad person does.

It understands nothing of what it carries. Bytes that return from the far end are counted from `arm` on, and the one at
the armed position is flipped, once.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketListener, SocketStream


class Wire:
    """A line to `port` on 127.0.0.1. Its own end listens from the start, so that `port` is known before it carries."""

    def __init__(self, port: int) -> None:
        self._far = port
        self._left: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.flipped = 0

    def arm(self, position: int) -> None:
        """Flip the lowest bit of the byte that returns after `position` more bytes."""
        self._left = position

    def disarm(self) -> None:
        """Flip nothing any more."""
        self._left = None

    @asynccontextmanager
    async def carrying(self) -> AsyncIterator[None]:
        """Carries while the block runs."""
        async with await SocketListener.from_socket(self._listener) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._connect)
            yield
            tasks.cancel_scope.cancel()

    async def _connect(self, near: SocketStream) -> None:
        async with near:
            try:
                far = await anyio.connect_tcp("127.0.0.1", self._far)
            except OSError:
                return
            async with far, anyio.create_task_group() as tasks:
                tasks.start_soon(self._carry, near, far, False)
                tasks.start_soon(self._carry, far, near, True)

    async def _carry(self, source: SocketStream, target: SocketStream, returning: bool) -> None:
        """One direction until its end, which is passed on as well."""
        try:
            async for piece in source:
                await target.send(self._pass(piece) if returning else piece)
            await target.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            await anyio.aclose_forcefully(target)

    def _pass(self, piece: bytes) -> bytes:
        if self._left is None:
            return piece
        if self._left >= len(piece):
            self._left -= len(piece)
            return piece
        changed = bytearray(piece)
        changed[self._left] ^= 1
        self._left = None
        self.flipped += 1
        return bytes(changed)
