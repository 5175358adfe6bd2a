"""The client against real servers on the loopback: redirects, limits, resume, certificates, and whose address is
used."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.streams.tls
import pytest
from anyio.abc import SocketStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mdg.errors import Forbidden, InputOutput, Refused
from mdg.outbound import Downloaded, Outbound, Response
from mdg.outbound import client as outbound_client

pytestmark = pytest.mark.anyio
Reply = Callable[[bytes], bytes]


class Server:
    """A server that keeps the requests it got and answers each with whatever bytes `reply` makes."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.port = port
        self.requests: list[bytes] = []

    @property
    def connections(self) -> int:
        return len(self.requests)


@asynccontextmanager
async def serving(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server = Server(listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - anyio's, not Django's

    async def handle(stream: Any) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive()
        server.requests.append(request)
        await stream.send(reply(request))

    async def plain(stream: SocketStream) -> None:
        async with stream:
            try:
                if tls is None:
                    await handle(stream)
                else:
                    await handle(await anyio.streams.tls.TLSStream.wrap(stream, server_side=True, ssl_context=tls))
            except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
                return

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, plain)
        yield server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def asking(reply: Reply) -> AsyncGenerator[tuple[Server, Outbound]]:
    async with serving(reply) as server, Outbound([server.origin], sandbox=True) as outbound:
        yield server, outbound


def answer(body: bytes, status: str = "200 OK", *fields: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_a_whole_answer_of_any_status_comes_back() -> None:
    async with asking(lambda _: answer(b'{"a":1}', "418 Teapot", "X-A: b")) as (server, outbound):
        got = await outbound.post(f"{server.origin}/x", b"body", {"Content-Type": "text/plain"})
    assert (got.status, got.headers["x-a"], got.json()) == (418, "b", {"a": 1})
    assert server.requests[0].startswith(b"POST /x HTTP/1.1\r\n")


async def test_only_listed_origins_are_asked() -> None:
    async with asking(lambda _: answer(b"")) as (server, outbound):
        with pytest.raises(Forbidden):
            await outbound.get(f"http://127.0.0.1:{server.port + 1}/")
        assert server.connections == 0


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with asking(lambda _: answer(b"", "302 Found", "Location: http://127.0.0.1:1/inside")) as (server, outbound):
        assert (await outbound.get(server.origin)).status == 302
    assert server.connections == 1


async def test_an_answer_over_1_mib_is_cut_off() -> None:
    async with asking(lambda _: answer(bytes(1 << 20))) as (server, outbound):
        assert len((await outbound.get(server.origin)).body) == 1 << 20
    async with asking(lambda _: answer(bytes((1 << 20) + 1))) as (server, outbound):
        with pytest.raises(InputOutput, match="over 1048576 bytes"):
            await outbound.get(server.origin)


async def test_a_slow_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound_client, "TOTAL_TIME", 0.2)
    async with asking(lambda _: answer(b"x", length=2)) as (server, outbound):
        with pytest.raises(InputOutput):
            await outbound.get(server.origin)


async def test_no_proxy_and_no_credentials_of_the_environment_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with asking(lambda _: answer(b"")) as (server, outbound):
        await outbound.get(server.origin)
    sent = server.requests[0].lower()
    assert b"authorization" not in sent
    assert b"cookie" not in sent


async def test_cookies_are_not_kept() -> None:
    async with asking(lambda _: answer(b"", "200 OK", "Set-Cookie: a=b")) as (server, outbound):
        await outbound.get(server.origin)
        await outbound.get(server.origin)
    assert b"cookie" not in server.requests[1].lower()


async def test_the_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS that answers another address on each question: the connection goes where the first, checked answer led
    (E7)."""
    asked: list[str] = []

    async def changing(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.255.255.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async with serving(lambda _: answer(b"here")) as server:
        url = f"http://good.example:{server.port}"
        async with Outbound([url], sandbox=True) as outbound:
            monkeypatch.setattr(anyio, "getaddrinfo", changing)
            assert (await outbound.get(url)).body == b"here"
            assert asked == ["good.example"]
            with pytest.raises(InputOutput, match="inside a network"):
                await outbound.get(url)
    assert b"host: good.example" in server.requests[0].lower()


async def test_a_listed_name_that_leads_inside_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loopback(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with serving(lambda _: answer(b"")) as server:
        url = f"https://good.example:{server.port}"
        async with Outbound([url]) as outbound:
            monkeypatch.setattr(anyio, "getaddrinfo", loopback)
            with pytest.raises(InputOutput, match="inside a network"):
                await outbound.get(url)
        assert server.connections == 0


def make_certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's context with a certificate for `name`, a client's context that trusts it)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "server.pem").write_bytes(pem + private)
    server.load_cert_chain(folder / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_a_certificate_of_another_name_fails(tmp_path: Path) -> None:
    for name, good in (("localhost", True), ("other.example", False)):
        server_side, trust = make_certificate(name, tmp_path)
        async with serving(lambda _: answer(b"secret"), server_side) as server:
            url = f"https://localhost:{server.port}"
            async with Outbound([url], sandbox=True, trust=trust) as outbound:
                if good:
                    assert (await outbound.get(url)).body == b"secret"
                else:
                    with pytest.raises(InputOutput, match=r"CERTIFICATE_VERIFY_FAILED"):
                        await outbound.get(url)
                    assert server.connections == 0


def ranged(content: bytes, etag: str = '"e1"', *, cut: int | None = None) -> Reply:
    """A server of one file that honours Range under If-Range, and breaks off after `cut` bytes of a body."""

    def reply(request: bytes) -> bytes:
        lines = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if ": " in line)
        fields = {name.lower(): value for name, value in lines.items()}
        if "range" in fields and fields.get("if-range") == etag:
            start = int(fields["range"].removeprefix("bytes=").removesuffix("-"))
            body = content[start:]
            extent = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"
            return answer(body[:cut], "206 Partial Content", extent, f"ETag: {etag}", length=len(body))
        return answer(content[:cut], "200 OK", f"ETag: {etag}", length=len(content))

    return reply


def always(reply: bytes) -> Reply:
    return lambda _: reply


CONTENT = bytes(range(256)) * 1000


async def test_a_download_goes_to_a_private_file(tmp_path: Path) -> None:
    file, seen = tmp_path / "part", []
    async with asking(ranged(CONTENT)) as (server, outbound):
        got = await outbound.download(
            server.origin, {}, file, limit=1 << 20, progress=lambda done, total: seen.append((done, total))
        )
    assert isinstance(got, Downloaded)
    assert (got.length, got.complete) == (len(CONTENT), True)
    assert file.read_bytes() == CONTENT
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert seen[-1] == (len(CONTENT), len(CONTENT))


async def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = tmp_path / "part"
    async with asking(ranged(CONTENT, cut=100_000)) as (server, outbound):
        with pytest.raises(InputOutput):
            await outbound.download(server.origin, {}, file, limit=1 << 20)
    held = file.stat().st_size
    assert file.read_bytes() == CONTENT[:held]
    async with asking(ranged(CONTENT)) as (server, outbound):
        got = await outbound.download(server.origin, {}, file, start=held, etag='"e1"', limit=1 << 20)
    assert isinstance(got, Downloaded)
    assert (got.status, got.complete) == (206, True)
    assert file.read_bytes() == CONTENT
    assert f"range: bytes={held}-".encode() in server.requests[0].lower()


async def test_a_file_that_changed_meanwhile_starts_again(tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"old" * 100)
    async with asking(ranged(CONTENT, '"e2"')) as (server, outbound):
        got = await outbound.download(server.origin, {}, file, start=300, etag='"e1"', limit=1 << 20)
    assert isinstance(got, Downloaded)
    assert got.status == 200
    assert file.read_bytes() == CONTENT


async def test_another_range_than_the_one_asked_for_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "part"
    file.write_bytes(b"0123456789")
    for extent in ("bytes 9-19/20", "bytes 10-18/20", "bytes 10-19/*", "10-19/20"):
        reply = answer(b"x" * 10, "206 Partial Content", f"Content-Range: {extent}")
        async with asking(always(reply)) as (server, outbound):
            with pytest.raises(InputOutput, match="another range"):
                await outbound.download(server.origin, {}, file, start=10, etag='"e"', limit=100)
    assert file.read_bytes() == b"0123456789"


async def test_a_refusal_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "part"
    async with asking(lambda _: answer(b"{}", "403 Forbidden")) as (server, outbound):
        got = await outbound.download(server.origin, {}, file, limit=100)
    assert isinstance(got, Response)
    assert got.status == 403
    assert not file.exists()


async def test_a_download_over_its_limit_or_without_a_length_is_not_begun(tmp_path: Path) -> None:
    file = tmp_path / "part"
    async with asking(ranged(CONTENT)) as (server, outbound):
        with pytest.raises(Refused, match="E_LIMIT"):
            await outbound.download(server.origin, {}, file, limit=len(CONTENT) - 1)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    async with asking(lambda _: chunked) as (server, outbound):
        with pytest.raises(InputOutput, match="length"):
            await outbound.download(server.origin, {}, file, limit=100)
    assert not file.exists()


async def test_a_download_never_writes_through_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "part"
    target.write_bytes(b"keep")
    link.symlink_to(target)
    async with asking(ranged(CONTENT)) as (server, outbound):
        with pytest.raises(InputOutput):
            await outbound.download(server.origin, {}, link, limit=1 << 20)
    assert target.read_bytes() == b"keep"


async def test_a_refusal_of_a_download_that_drips_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else than an error with a name would pass by the record of the retrieval."""

    async def drips(_: object) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(outbound_client, "TOTAL_TIME", 0.05)
    async with asking(lambda _: answer(b"", "403 Forbidden")) as (server, outbound):
        monkeypatch.setattr(outbound_client, "_read_whole", drips)
        with pytest.raises(InputOutput, match="no whole answer"):
            await outbound.download(server.origin, {}, tmp_path / "e.zip", limit=100)


async def test_a_download_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(ranged(CONTENT)) as (server, outbound):
        monkeypatch.setattr(outbound_client, "STALL_TIME", 0.0)
        monkeypatch.setattr(outbound_client, "SLOWEST", 1 << 40)
        with pytest.raises(InputOutput, match="too slowly"):
            await outbound.download(server.origin, {}, tmp_path / "e.zip", limit=len(CONTENT))
