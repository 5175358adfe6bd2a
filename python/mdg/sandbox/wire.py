"""A TCP line between two gateways that can change one byte on its way: what a bad cable or a bad person does.

It understands nothing of what it carries. Bytes that return from the far end are counted from `arm` on, and the one at
the armed position is flipped, once.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketStream

PIECE = 256 * 1024  # bytes carried at once


class Wire:
    """A line to `port` on 127.0.0.1. `listener` is open from the start, so its `port` is known before it carries."""

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
        listener = await anyio.abc.SocketListener.from_socket(self._listener)
        async with anyio.create_task_group() as tasks:
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
                await self._carry(far, near, True)
                tasks.cancel_scope.cancel()

    async def _carry(self, source: ByteReceiveStream, target: ByteSendStream, returning: bool) -> None:
        try:
            while True:
                piece = await source.receive(PIECE)
                await target.send(self._pass(piece) if returning else piece)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

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
