"""Asking other machines: the directory, the token authority's keys, the record locator, other gateways.

Small answers come whole (`get`, `post`, `put`); an envelope goes straight to a private file and can be taken up again
where it stopped (`download`). Nothing is followed, unpacked or retried here, no proxy or credential of the environment
is used, and no header of an incoming request is ever passed on. Limits: spec/hostile-input 1.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import httpcore2
import httpx2
from anyio import to_thread

from mdg.errors import Forbidden, InputOutput, Refused
from mdg.outbound.address import CheckedBackend, Origin

BODY_LIMIT = 1 << 20  # bytes of a whole answer
TOTAL_TIME = 10.0  # seconds for a whole answer
STALL_TIME = 60.0  # seconds a download may stand still
SLOWEST = 1 << 20  # bytes that a download brings in STALL_TIME at the least: drops would hold it for ever
CONNECTIONS = 32
PIECE = 1 << 20  # bytes collected before a write to disk

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer: `headers` has lower-case names, `body` is at most 1 MiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> object:
        """The body as JSON. `Refused` E_JSON when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Refused("E_JSON", "answer", "it is not JSON") from None


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a download left in the file: `length` bytes, all of the release when `complete`."""

    status: int
    headers: Mapping[str, str]
    length: int
    complete: bool


class Outbound:
    """The client of one gateway or command. Use it as an async context manager, or call `aclose`.

    `allow` names the origins that may be asked (`https://host[:port]`). `sandbox` admits http and the loopback: the
    caller has made sure that every listener of this process is bound to the loopback.
    """

    def __init__(self, allow: Sequence[str], sandbox: bool = False, *, trust: ssl.SSLContext | None = None) -> None:
        self._sandbox = sandbox
        self._allow = frozenset(Origin.of(origin, sandbox=sandbox) for origin in allow)
        self._client = httpx2.AsyncClient(
            transport=_Transport(trust or ssl.create_default_context(), sandbox=sandbox),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # no server gets to know its callers again
            timeout=httpx2.Timeout(TOTAL_TIME, read=STALL_TIME),
            headers={"Accept-Encoding": "identity", "User-Agent": "mdg"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    def check(self, url: str) -> None:
        """`Unprocessable` when no gateway may ask `url`, `Forbidden` when its origin is not on the allow list."""
        if Origin.of(url, sandbox=self._sandbox) not in self._allow:
            raise Forbidden(reason="origin-not-allowed")

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """A whole answer of any status. `InputOutput` when there is none within 10 s or it is over 1 MiB."""
        return await self._whole("GET", url, headers, None)

    async def post(
        self, url: str, content: bytes, headers: Mapping[str, str], *, patience: float = TOTAL_TIME
    ) -> Response:
        """As `get`; `headers` names the Content-Type. `patience`: seconds for the whole answer, where the other side is
        known to work before it answers."""
        return await self._whole("POST", url, headers, content, patience)

    async def put(self, url: str, content: bytes, headers: Mapping[str, str]) -> Response:
        """As `post`."""
        return await self._whole("PUT", url, headers, content)

    async def download(
        self,
        url: str,
        headers: Mapping[str, str],
        to: Path,
        *,
        start: int = 0,
        etag: str | None = None,
        limit: int,
        progress: Progress | None = None,
    ) -> Downloaded | Response:
        """Streams an answer of 200 or 206 into the file `to` (made with mode 0600), at most `limit` bytes of it in all.

        With `start` the first bytes are in the file already and only the rest is asked for, under `If-Range: etag`; an
        answer of 200 starts the file again. Any other status comes back as a `Response` and the file stays as it was.
        `progress(done, total)` counts bytes of the whole release. `InputOutput` when the connection breaks or stands
        still for 60 s: what arrived is in the file, synced, and a next call goes on from there.
        """
        asked = dict(headers)
        if start:
            if etag is None:
                raise ValueError("to go on with a download its ETag is needed")
            asked |= {"Range": f"bytes={start}-", "If-Range": etag}
        async with self._sent("GET", url, asked, None) as answer:
            if answer.status_code not in (200, 206):
                return await _within(TOTAL_TIME, url, _read_whole(answer))
            first, total = _extent(answer, start)
            if total > limit:
                raise Refused("E_LIMIT", "download", f"it announces {total} bytes, the limit is {limit}")
            file = await to_thread.run_sync(_private_file, to, first)
            try:
                done = await _write(answer, file, first, total, progress)
            finally:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(_close, file)
            return Downloaded(answer.status_code, _lower(answer), done, done == total)

    async def _whole(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        patience: float = TOTAL_TIME,
    ) -> Response:
        async def exchange() -> Response:
            async with self._sent(method, url, headers or {}, content) as answer:
                return await _read_whole(answer)

        return await _within(patience, url, exchange())

    @asynccontextmanager
    async def _sent(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> AsyncGenerator[httpx2.Response]:
        self.check(url)
        try:
            async with self._client.stream(method, url, headers=dict(headers), content=content) as answer:
                yield answer
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise InputOutput(_origin(url), f"the exchange broke: {type(error).__name__}: {error}") from error


class _Transport(httpx2.AsyncHTTPTransport):
    """httpx2's own transport over a pool whose connections go to checked addresses.

    httpx2 has no argument for the network backend, so the pool it made is replaced before its first use; the test
    `test_the_connection_goes_to_the_checked_address` fails should that ever stop to work.
    """

    def __init__(self, trust: ssl.SSLContext, *, sandbox: bool) -> None:
        super().__init__(verify=trust, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=CheckedBackend(sandbox=sandbox),
        )


async def _within(seconds: float, url: str, answer: Awaitable[Response]) -> Response:
    try:
        with anyio.fail_after(seconds):
            return await answer
    except TimeoutError:
        raise InputOutput(_origin(url), f"no whole answer within {seconds:.0f} s") from None


async def _read_whole(answer: httpx2.Response) -> Response:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > BODY_LIMIT:
            raise InputOutput(_origin(str(answer.url)), f"its answer is over {BODY_LIMIT} bytes")
    return Response(answer.status_code, _lower(answer), bytes(body))


async def _write(answer: httpx2.Response, file: BinaryIO, first: int, total: int, progress: Progress | None) -> int:
    done = paced = first
    looked = anyio.current_time()
    held = bytearray()
    try:
        async for piece in answer.aiter_raw():
            held += piece
            done += len(piece)
            if anyio.current_time() >= looked + STALL_TIME:
                if done - paced < SLOWEST and done < total:
                    raise InputOutput(_origin(str(answer.url)), "it sends too slowly to go on with")
                looked, paced = anyio.current_time(), done
            if done > total:
                raise InputOutput(_origin(str(answer.url)), f"it sent more than the {total} bytes it announced")
            if len(held) >= PIECE:
                await to_thread.run_sync(_append, file, bytes(held))
                held.clear()
                if progress is not None:
                    progress(done, total)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_append, file, bytes(held))
    if progress is not None:
        progress(done, total)
    return done


def _extent(answer: httpx2.Response, start: int) -> tuple[int, int]:
    """(first byte, whole length) of what an answer carries. `InputOutput` when it does not say, or is another range."""
    origin = _origin(str(answer.url))
    if answer.status_code == 206:
        found = re.fullmatch(
            r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})", answer.headers.get("content-range", "")
        )
        if found is None or int(found[1]) != start or int(found[2]) + 1 != int(found[3]):
            raise InputOutput(origin, f"it answered another range than the one from byte {start}")
        return start, int(found[3])
    length = answer.headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,15}", length):
        raise InputOutput(origin, "it does not announce the length of what it sends")
    return 0, int(length)


def _private_file(path: Path, length: int) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputOutput(str(path), error.strerror or "it cannot be written") from error
    file = os.fdopen(descriptor, "wb", buffering=0)
    held = os.fstat(descriptor).st_size
    if held < length:
        file.close()
        raise InputOutput(str(path), f"it holds {held} bytes, fewer than the {length} to go on from")
    os.ftruncate(descriptor, length)
    os.lseek(descriptor, length, os.SEEK_SET)
    return file


def _append(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise InputOutput(str(file.name), error.strerror or "it cannot be written") from error


def _close(file: BinaryIO) -> None:
    os.fsync(file.fileno())
    file.close()


def _lower(answer: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _origin(url: str) -> str:
    """Where, for a message: never the path or the query."""
    found = re.match(r"[a-z]+://[^/?#]*", url)
    return found[0] if found else "outbound"
