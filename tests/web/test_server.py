"""`web.server`: what it relies on in hypercorn is there, and a connection ends neither too early nor never."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import h11
import pytest
from hypercorn import protocol
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.web import server
from mdg.web.server import Connection, Http11, listen

pytestmark = pytest.mark.anyio

BYTES = 32 << 20
"""More than the kernel buffers of one connection of the loopback."""


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[tuple[tuple[str, int], anyio.Event]]:
    """(address, stop) of `app` in the server as the gateway starts it."""
    listener, stop = socket.create_server(("127.0.0.1", 0)), anyio.Event()
    address = listener.getsockname()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, app, listener, stop.wait)
        try:
            yield address, stop
        finally:
            stop.set()


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [
        (Http11, H11Protocol, "_check_protocol"),
        (Http11, H11Protocol, "_close_stream"),
        (Http11, H11Protocol, "_create_stream"),
        (Http11, H11Protocol, "initiate"),
        (Connection, TCPServer, "_close"),
        (Connection, TCPServer, "_idle_timeout"),
        (Connection, TCPServer, "_read_data"),
        (Connection, TCPServer, "protocol_send"),
        (Connection, TCPServer, "run"),
    ],
)
def test_what_is_replaced_in_hypercorn_is_there_with_the_same_parameters(ours: type, theirs: type, name: str) -> None:
    assert name in vars(ours)
    assert name in vars(theirs), "hypercorn has another version than web/server.py was written for"
    given, wanted = (inspect.signature(getattr(one, name)).parameters for one in (theirs, ours))
    assert len(given) == len(wanted)
    assert inspect.iscoroutinefunction(getattr(theirs, name))


def test_what_is_used_of_hypercorn_is_there() -> None:
    assert inspect.iscoroutinefunction(TCPServer._initiate_server_close)
    assert "terminated" in vars(WorkerContext(None))
    assert {"loop", "config", "context", "reader", "writer"} <= set(inspect.signature(TCPServer).parameters)
    assert vars(protocol)["H11Protocol"] is Http11
    assert vars(run)["TCPServer"] is Connection
    for setting in ("include_server_header", "h11_max_incomplete_size", "graceful_timeout", "alpn_protocols"):
        assert hasattr(Config, setting), setting


def test_what_is_used_of_h11_is_there() -> None:
    """Without the length of a chunk `Framing` would let every chunk in."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nx")
    while not isinstance(connection.next_event(), h11.Data):
        pass
    assert vars(connection._reader)["_bytes_in_chunk"] == 0x1000 - 1
    assert callable(connection._process_error)


async def test_a_request_goes_through_the_classes_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(of: type, name: str) -> None:
        theirs: Callable[..., Awaitable[None]] = getattr(of, name)

        async def note(self: Any, *args: Any) -> None:
            seen.append(f"{type(self).__name__}.{name}")
            await theirs(self, *args)

        monkeypatch.setattr(of, name, note)

    for of, name in (
        (Http11, "_check_protocol"),
        (Http11, "_create_stream"),
        (Connection, "_close"),
        (Connection, "_idle_timeout"),
    ):
        noted(of, name)
    async with listening(answering) as (address, _), await anyio.connect_tcp(*address) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"ok" in await everything(stream)
    assert set(seen) == {
        "Http11._check_protocol",
        "Http11._create_stream",
        "Connection._close",
        "Connection._idle_timeout",
    }


def test_a_piece_is_not_copied_between_the_application_and_the_socket() -> None:
    """hypercorn makes `bytes()` of a body, which is the same object for bytes, and h11 frames it by a length that was
    sent before."""
    assert "data=bytes(message" in inspect.getsource(HTTPStream.app_send)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")
    connection.next_event()
    piece = bytes(1 << 19)
    connection.send(h11.Response(status_code=200, headers=[("Content-Length", str(2 * len(piece)))]))
    assert bytes(piece) is piece
    assert connection.send(h11.Data(data=piece)) is piece


async def test_a_send_returns_when_the_process_holds_nothing_of_it_any_more() -> None:
    held: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % BYTES)]})
        for sent in range(0, BYTES, 1 << 20):
            more = sent + (1 << 20) < BYTES
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": more})
            if more:
                held.extend(connection.writer.transport.get_write_buffer_size() for connection in connections)

    connections: list[Connection] = []
    begun = Connection.run

    async def note(self: Connection) -> None:
        connections.append(self)
        await begun(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "run", note)
        async with listening(app) as (address, _), await anyio.connect_tcp(*address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert len(body(await everything(stream))) == BYTES
    assert held == [0] * 31


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, anyio.abc.SocketStream]]:
    """A connection of the server with a task of nobody's, and the peer at its other end."""
    made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        app: Any = answering
        made.set_result(Connection(app, made.get_loop(), Config(), WorkerContext(None), {}, reader, writer))

    listener = await asyncio.start_server(opened, "127.0.0.1", 0)
    async with listener, await anyio.connect_tcp(*listener.sockets[0].getsockname()) as peer:
        yield await made, peer


async def test_a_close_that_is_cancelled_by_the_application_delivers_what_was_written() -> None:
    """Such as by an application that takes the end of its own answer for a reader that left."""
    async with connected() as (connection, peer):
        connection.writer.write(bytes(BYTES))
        with anyio.move_on_after(0.05) as own:
            await connection._close()
        assert own.cancelled_caught
        assert connection.writer.transport.get_write_buffer_size() > 0, "the peer has taken nothing yet"
        assert len(await everything(peer)) == BYTES


async def test_a_peer_that_takes_nothing_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLOSING", 0.05)
    async with connected() as (connection, peer):
        connection.writer.write(bytes(BYTES))
        with anyio.fail_after(30):
            await connection._close()
        assert connection.writer.transport.get_write_buffer_size() == 0
        with pytest.raises((anyio.BrokenResourceError, AssertionError)):
            assert len(await everything(peer)) == BYTES


async def test_a_server_that_stops_waits_for_no_peer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", 0.05)
    monkeypatch.setattr(server, "CLOSING", 3600)
    started = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % BYTES)]})
        started.set()
        await send({"type": "http.response.body", "body": bytes(BYTES)})

    with anyio.fail_after(30):
        async with listening(app) as (address, stop), await anyio.connect_tcp(*address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await started.wait()
            stop.set()


async def test_a_client_that_ends_its_half_gets_the_whole_answer() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % BYTES)]})
        async with anyio.create_task_group() as tasks:

            async def gone() -> None:
                ended.append((await receive())["type"])
                tasks.cancel_scope.cancel()

            tasks.start_soon(gone)
            for _ in range(0, BYTES, 1 << 20):
                await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            tasks.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as (address, _):
        async with await anyio.connect_tcp(*address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.send_eof()
            assert len(body(await everything(stream))) == BYTES
        assert ended == []
        async with await anyio.connect_tcp(*address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive(1)
        with anyio.fail_after(30):
            while not ended:  # noqa: ASYNC110 -- nothing else tells that the server has noticed
                await anyio.sleep(0.01)
        assert ended == ["http.disconnect"], "a client that leaves altogether is noticed"


async def test_a_client_that_ends_its_half_within_its_request_is_refused() -> None:
    async with listening(answering) as (address, _), await anyio.connect_tcp(*address) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le")
        await stream.send_eof()
        with anyio.fail_after(30):
            answer = await everything(stream)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"ok" not in answer


@pytest.mark.parametrize("size", [b"100001", b"10000000000000000", b"ffffffffffffffffffff"])
async def test_a_chunk_that_is_larger_than_any_body_is_refused_before_it_comes(size: bytes) -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        message = await receive()
        while message["type"] == "http.request" and message["more_body"]:
            message = await receive()
        ended.append(message["type"])
        await answering(scope, receive, send)

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listening(app) as (address, _):
        for piece in (b"", b"x" * 100):
            async with await anyio.connect_tcp(*address) as stream:
                await stream.send(head + size + b"\r\n" + piece)
                with anyio.fail_after(30):
                    answer = await everything(stream)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"connection: close" in answer.lower()
            assert body(answer) == b""
        async with await anyio.connect_tcp(*address) as stream:
            await stream.send(head + b"2\r\nok\r\n0\r\n\r\n")
            assert b" 200 " in await stream.receive()
    assert ended == ["http.disconnect", "http.disconnect", "http.request"]


async def everything(stream: anyio.abc.ByteReceiveStream) -> bytes:
    """What comes until the other side closes."""
    received = bytearray()
    try:
        while True:
            received += await stream.receive(1 << 20)
    except anyio.EndOfStream:
        return bytes(received)


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]
