"""What the edge refuses before any door sees it, byte by byte over a plain socket (spec/hostile-input F)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect

from mdg.app import routes
from mdg.audit import Audit
from mdg.web import asking, server
from mdg.web.edge import as_problem

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]


async def raw(gateway: Any, request: bytes, listener: str = "url") -> bytes:
    """The bytes that come back until the server closes or falls silent."""
    host, _, port = getattr(gateway, listener).removeprefix("http://").partition(":")
    answer = b""
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request.replace(b"HOST", f"{host}:{port}".encode()))
        with anyio.move_on_after(2):
            try:
                while True:
                    answer += await stream.receive()
                    if b"Content-Length" not in request and b"\r\n\r\n" in answer and b"close" in answer.lower():
                        break
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 200),
        (b"TRACE /livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 405),
        (b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        (b"BREW /livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 405),
        (b"GET /fhir/metadata HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET /fhir/metadata HTTP/1.0\r\n\r\n", 400),
        (b"GET /livez/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET //livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /./livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /x/../livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /%2e%2e/livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez%00 HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez%c0%af HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * 20_000 + b"\r\nConnection: close\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\n" + b"A: b\r\n" * 101 + b"Connection: close\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost : HOST\r\nConnection: close\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\nConnection: close\r\n\r\n", 200),
        (b"POST /livez HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST /livez HTTP/1.1\r\nHost: HOST\r\nContent-Length: +5\r\n\r\n", 400),
        (b"POST /livez HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"OPTIONS /livez HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n", 405),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
        (
            b"GET /livez HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            200,
        ),
        (b"GET /livez HTTP/1.1\r\nHost: HOST\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n", 200),
    ],
)
async def test_odd_requests_have_their_exact_answers(start: Start, request_: bytes, expected: int) -> None:
    async with start() as gateway:
        answer = await raw(gateway, request_)
        assert status(answer) == expected, answer[:300]
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver:" not in head
        assert b"access-control" not in head


@pytest.mark.parametrize(("listener", "other"), [("url", b"/fhir/metadata"), ("admin", b"/health")])
async def test_a_probe_is_answered_by_whatever_name_it_asks(start: Start, listener: str, other: bytes) -> None:
    """Kubernetes and HAProxy ask by IP address; HAProxy's plain check is HTTP/1.0 without Host. No token is needed."""
    async with start(admin_token="t" * 40) as gateway:
        for asked in (
            b" HTTP/1.1\r\nHost: 10.0.0.5:8443\r\nConnection: close\r\n\r\n",
            b" HTTP/1.1\r\nHost: mdg.internal\r\nConnection: close\r\n\r\n",
            b" HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
            b" HTTP/1.0\r\n\r\n",
        ):
            for path in (b"/livez", b"/readyz"):
                answer = await raw(gateway, b"GET " + path + asked, listener)
                assert (status(answer), answer.partition(b"\r\n\r\n")[2]) == (200, b"ok"), answer[:300]
            assert status(await raw(gateway, b"GET " + other + asked, listener)) == 400


@pytest.mark.parametrize("fields", [101, 500])
async def test_a_header_of_too_many_fields_ends_the_connection(start: Start, fields: int) -> None:
    async with start() as gateway:
        asked = b"GET /livez HTTP/1.1\r\nHost: HOST\r\n"
        answer = await raw(gateway, asked + b"A: b\r\n" * fields + b"\r\n" + asked + b"Connection: close\r\n\r\n")
        assert status(answer) == 431
        assert answer.count(b"HTTP/1.1 ") == 1, "what follows is not read"
        assert b"OperationOutcome" in answer


async def test_an_upgrade_to_http2_is_ignored(start: Start) -> None:
    """F7: the answer is one of HTTP/1.1, and the connection goes on in it."""
    async with start() as gateway:
        asked = b"GET /livez HTTP/1.1\r\nHost: HOST\r\n"
        upgrade = (
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"
        )
        answer = await raw(gateway, asked + upgrade + asked + b"Connection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200") == 2
        assert b"101" not in answer


async def test_a_fault_in_a_door_is_an_outcome_without_a_word_about_it(start: Start) -> None:
    """K4: the caller gets an id to quote; file and line go to the log."""
    async with start() as gateway:

        async def broken(*_: Any) -> Any:
            raise ZeroDivisionError("secret text")

        gateway.rooms.discovery.study = broken
        answer = await gateway.consumer.ask("GET", "/fhir/ImagingStudy/x")
        assert answer.status_code == 500
        assert answer.json()["issue"][0]["code"] == "exception"
        assert "secret" not in answer.text
        assert "ZeroDivision" not in answer.text


async def test_the_admin_listener_takes_no_token_of_the_data_plane(start: Start) -> None:
    """K6; and with `admin_token` set, only that one."""
    async with start(admin_token="t" * 32) as gateway:
        http = gateway.consumer.http
        assert (await http.get(f"{gateway.admin}/health")).status_code == 403
        token = await gateway.consumer.tokens.token(f"{gateway.url}/fhir", ("system/Patient.rs",), ihi=None)
        for value in (f"DPoP {token.value}", f"Bearer {token.value}", "Bearer " + "x" * 32):
            assert (await http.get(f"{gateway.admin}/health", headers={"Authorization": value})).status_code == 403
        answer = await http.get(f"{gateway.admin}/health", headers={"Authorization": "Bearer " + "t" * 32})
        assert answer.json()["ready"] is True
        assert (await http.get(f"{gateway.url}/health")).status_code == 404


async def test_readiness_ends_before_the_listener_does(start: Start) -> None:
    async with start() as gateway:
        ready = f"{gateway.url}/readyz"
        assert (await gateway.consumer.http.get(ready)).text == "ok"
        await gateway.rooms.store.write(lambda c: c.exec_driver_sql("ALTER TABLE audit RENAME TO gone"))
        answer = await gateway.consumer.http.get(ready)
        assert (answer.status_code, answer.text) == (503, "not ready")


@pytest.mark.parametrize(
    ("body", "status_"),
    [
        ("{}", 400),
        ("[]", 400),
        ("nonsense", 400),
        ('{"ihi": "8003608833357361", "gateway": "http://127.0.0.1:1", "more": "x"}', 400),
        ('{"ihi": "8003608833357362", "gateway": "http://127.0.0.1:1"}', 400),
        ('{"ihi": "8003608833357361", "gateway": "http://127.0.0.1:65000"}', 403),
        ('{"ihi": "8003608833357362", "ihi": "8003608833357361", "gateway": "http://127.0.0.1:65000"}', 400),
        ('{"ihi": "8003608833357361", "gateway": "file:///etc/passwd"}', 422),
        ('{"ihi": "8003608833357361", "study": "../x"}', 400),
    ],
)
async def test_a_retrieval_that_makes_no_sense_asks_nobody(start: Start, body: str, status_: int) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.post(
            f"{gateway.admin}/retrievals", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == status_, answer.text
        assert "8003608833357361" not in answer.text


async def test_a_method_that_nobody_knows_makes_no_new_series(start: Start) -> None:
    """A stranger may invent any number of methods; metrics and records keep one word for all of them."""
    async with start() as gateway:
        for method in (b"AAAA", b"AAAB", b"AAAC"):
            answer = await raw(gateway, method + b" /livez HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")
            assert status(answer) == 405
        text = gateway.rooms.metrics.text().decode()
        assert 'method="other",status="405"}' in text
        assert "AAA" not in text


@pytest.mark.parametrize("path", ["/fhir/ImagingStudy/", "/sandbox/jwks/", "/sandbox"])
async def test_a_slash_more_is_no_address_and_no_echo(start: Start, path: str) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.url}{path}?patient.identifier=canary")
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "canary" not in answer.text


async def test_readiness_counts_no_records(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask, so it must not cost more the longer the gateway runs."""

    async def count(_: Audit) -> int:
        raise AssertionError("all records were counted")

    async with start() as gateway:
        monkeypatch.setattr(Audit, "count", count)
        assert (await gateway.consumer.http.get(f"{gateway.url}/readyz")).text == "ok"


def test_a_caller_who_leaves_in_the_middle_of_a_body_is_no_fault_of_ours() -> None:
    problem = as_problem(ClientDisconnect())
    assert (problem.status, problem.reason) == (400, "disconnected")


async def test_a_head_that_is_dripped_ends_the_connection(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """spec/hostile-input F13: each byte is no reason to wait longer."""
    monkeypatch.setattr(server, "HEAD", 0.3)
    async with start() as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream, anyio.create_task_group() as tasks:

            async def drip() -> None:
                await stream.send(b"GET /livez HTTP/1.1\r\n")
                while True:
                    await anyio.sleep(0.05)  # the drip
                    await stream.send(b"A")

            async def ended() -> None:
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                tasks.cancel_scope.cancel()

            with anyio.fail_after(30), suppress(anyio.BrokenResourceError):
                tasks.start_soon(ended)
                await drip()


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n"],
    ids=["length", "chunk"],
)
async def test_a_body_that_is_dripped_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch, framing: bytes) -> None:
    """What came already gives the rest a little more time, and not for ever."""
    monkeypatch.setattr(asking, "PATIENCE", 0.3)
    async with start() as gateway:
        path = "/fhir/ImagingStudy/_search"
        shown = await gateway.consumer.credentials("POST", path)
        shown |= {"Host": "HOST", "Content-Type": "application/x-www-form-urlencoded"}
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        answer = await raw(gateway, head.encode() + framing + b"patient")
    assert status(answer) == 408
    assert b"slowly" in answer


async def test_a_refusal_that_comes_before_the_body_keeps_the_connection_for_the_next_request(start: Start) -> None:
    """A client sends head and body apart. The refusal needs only the head; when the body has come, the connection is as
    good as before, and a client that trusts it loses no request."""
    async with start() as gateway:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        head = f"POST /fhir/ImagingStudy/_search HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 7\r\n\r\n".encode()
        async with await anyio.connect_tcp(host, int(port)) as stream:
            for _ in range(2):
                await stream.send(head)
                await anyio.sleep(0.2)  # time enough for the refusal to be ready
                await stream.send(b"patient")
                answer = await stream.receive()
                assert status(answer) == 401
                assert b"connection: close" not in answer.lower()


async def test_a_refusal_whose_body_never_comes_says_that_the_connection_closes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdg.web.edge.REST_TIME", 0.1)
    async with start() as gateway:
        answer = await raw(
            gateway, b"POST /fhir/ImagingStudy/_search HTTP/1.1\r\nHost: HOST\r\nContent-Length: 7\r\n\r\n"
        )
    assert status(answer) == 401
    assert b"connection: close" in answer.lower()


async def test_a_connection_ends_though_its_peer_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """F15: else every reader that stops keeps a socket, and what was written to it, for as long as it likes."""
    monkeypatch.setattr(server, "CLOSING", 0.05)
    ended = anyio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nothing: Any = None
        connection = server.Connection(nothing, nothing, nothing, nothing, nothing, reader, writer)
        writer.write(bytes(64 << 20))
        await connection._close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        with socket.create_connection(listener.sockets[0].getsockname()), anyio.fail_after(10):
            await ended.wait()


@pytest.mark.parametrize(
    ("url", "bind", "named", "foreign"),
    [
        ("http://127.0.0.1:80", "127.0.0.1:80", {"127.0.0.1", "127.0.0.1:80", "[::1]", "localhost"}, "127.0.0.1:443"),
        ("https://mdg.example", "127.0.0.1:8080", {"mdg.example", "mdg.example:443"}, "mdg.example:80"),
        ("https://mdg.example:443", "127.0.0.1:8080", {"mdg.example", "mdg.example:443"}, "mdg.example:8443"),
        ("https://mdg.example:8443", "127.0.0.1:8080", {"mdg.example:8443"}, "mdg.example"),
    ],
)
def test_the_port_of_the_scheme_may_stand_in_host_or_not(url: str, bind: str, named: set[str], foreign: str) -> None:
    hosts = routes._hosts(url, bind)
    assert named <= hosts
    assert foreign not in hosts
