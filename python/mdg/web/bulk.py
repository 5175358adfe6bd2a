"""`BulkResponse`: the one place where a `Release` becomes bytes on a connection (architecture "Bytes"; ecosystem 15).

Pieces of up to 1 MiB are made in worker threads of a limiter of their own, two ahead of the one being sent, so memory
stays at four pieces for any study, and a slow reader slows the reading. The release is decided again every 64 MiB and
every 5 s. A stream that must not go on is broken off: the announced length tells the reader that it is not whole.
"""

from __future__ import annotations

from contextlib import suppress

import anyio
import structlog
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.types import Receive, Scope, Send

from mdg.errors import Conflict, Forbidden, InputOutput, MdgError, NotFound, Problem, Refused, Unavailable
from mdg.exchange.release import Pieces, Release
from mdg.web.metrics import Metrics

AHEAD = 2
"""Pieces made ahead. The pool of a stream has four buffers: one being sent, two waiting, one being filled."""
DECIDE_EVERY = 64 << 20
"""Bytes after which the decision is asked again (security-tests C21)."""
DECIDE_AFTER = 5.0
"""Seconds after which it is asked again too, however little has been sent: a slow reader outlives a withdrawal else."""
SLOWEST = 60.0
"""Seconds that the connection may take for one piece: about 17 kB/s (security-tests F15)."""
WORKERS = anyio.CapacityLimiter(8)
"""Threads that make pieces, for all streams together; the default limiter is left to everything else."""

log = structlog.get_logger("mdg.bulk")


class BulkResponse:
    """Sends one release; an ASGI application for one request."""

    def __init__(self, release: Release, metrics: Metrics) -> None:
        self._release = release
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        release = self._release
        headers = {**release.headers, "Content-Length": str(release.length), "Accept-Ranges": "bytes"}
        start = {
            "type": "http.response.start",
            "status": release.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        sent = _Progress()
        with self._metrics.streams.track_inprogress():
            try:
                # Made before the status is sent: a file that has changed is an answer, 409, as long as none was given.
                pieces = await to_thread.run_sync(release.open, release.start, release.end, limiter=WORKERS)
                first = await to_thread.run_sync(pieces.next, limiter=WORKERS)
                await self._run(first, pieces, sent, start, receive=receive, send=send)
            except Refused as error:
                sent.why = error.code
                raise Conflict("the stored envelope has changed; ask for a new one", reason=error.code) from error
            except InputOutput as error:
                sent.why = "spool"
                raise Unavailable("the stored envelope cannot be read; ask again", reason="spool") from error
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end(sent, scope["state"]["request_id"])

    async def _run(
        self,
        first: memoryview | None,
        pieces: Pieces,
        sent: _Progress,
        start: dict[str, object],
        *,
        receive: Receive,
        send: Send,
    ) -> None:
        give, take = anyio.create_memory_object_stream[memoryview](AHEAD)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        async def make() -> None:
            try:
                with suppress(anyio.BrokenResourceError):  # the sending has ended, for a reason of its own
                    await _make(first, pieces, give)
            except MdgError as error:
                sent.why = str(getattr(error, "code", type(error).__name__))
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gone)
            tasks.start_soon(make)
            await self._send(take, start, sent, send)
            tasks.cancel_scope.cancel()

    async def _send(
        self, take: MemoryObjectReceiveStream[memoryview], start: dict[str, object], sent: _Progress, send: Send
    ) -> None:
        decided, asked = 0, anyio.current_time()
        async with take:
            async for piece in take:
                if sent.bytes == 0:
                    await send(start)
                if sent.bytes - decided >= DECIDE_EVERY or anyio.current_time() >= asked + DECIDE_AFTER:
                    if not await self._still_allowed(sent):
                        return
                    decided, asked = sent.bytes, anyio.current_time()
                last = sent.bytes + len(piece) == self._release.length
                with anyio.move_on_after(SLOWEST) as patience:
                    # A copy: servers other than hypercorn keep the buffer, which is filled again after the fourth
                    # piece.
                    await send({"type": "http.response.body", "body": bytes(piece), "more_body": not last})
                if patience.cancelled_caught:
                    sent.why = "slow-reader"
                    return
                sent.bytes += len(piece)
        if sent.bytes == self._release.length:
            sent.why = "complete"

    async def _still_allowed(self, sent: _Progress) -> bool:
        try:
            await self._release.again()
        except (Forbidden, NotFound):
            sent.why = "aborted-consent"
            return False
        except Problem as error:
            sent.why = error.reason
            return False
        return True

    async def _end(self, sent: _Progress, request_id: str) -> None:
        try:
            await self._release.ended(sent.bytes, sent.why)
        except MdgError:
            # The grant is on record and the bytes are gone: what is missing is how many. Operators must hear of it.
            log.error("end not recorded", request_id=request_id, bytes=sent.bytes, why=sent.why)


class _Progress:
    """How far it came, and why it stopped."""

    bytes = 0
    why = "disconnected"


async def _make(piece: memoryview | None, pieces: Pieces, give: MemoryObjectSendStream[memoryview]) -> None:
    async with give:
        while piece is not None:
            await give.send(piece)
            piece = await to_thread.run_sync(pieces.next, limiter=WORKERS)
