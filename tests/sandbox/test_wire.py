"""The line between two gateways: it carries everything, and changes one byte when told to."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import anyio
import pytest

from mdg.sandbox.wire import Wire

pytestmark = pytest.mark.anyio


async def exchange(wire: Wire, sent: bytes) -> bytes:
    """What comes back through the wire from a far end that echoes and hangs up."""
    received = bytearray()
    async with await anyio.connect_tcp("127.0.0.1", wire.port) as near, anyio.create_task_group() as tasks:

        async def send() -> None:
            await near.send(sent)
            await near.send_eof()

        tasks.start_soon(send)
        async for piece in near:
            received += piece
    return bytes(received)


async def echo(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        async for piece in stream:
            await stream.send(piece)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as far,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(far.serve, echo)
        line = Wire(far.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 -- a socket's attribute, no query
        async with line.carrying():
            yield line
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, 1, 300_000, 2_000_000])
async def test_it_carries_what_it_is_given(wire: Wire, size: int) -> None:
    sent = secrets.token_bytes(size)
    assert await exchange(wire, sent) == sent
    assert wire.flipped == 0


@pytest.mark.parametrize("position", [0, 1, 262_143, 262_144, 999_999])
async def test_an_armed_wire_changes_that_byte_once(wire: Wire, position: int) -> None:
    sent = secrets.token_bytes(1_000_000)
    wire.arm(position)
    received = await exchange(wire, sent)
    assert [i for i, (a, b) in enumerate(zip(sent, received, strict=True)) if a != b] == [position]
    assert wire.flipped == 1
    assert await exchange(wire, sent) == sent
