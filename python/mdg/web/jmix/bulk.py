"""`BulkResponse`: the one place where a `Release` becomes bytes on a connection (spec/storage 5).

A stream holds at most three pieces of 512 KiB: one that is being sent, the next one, and one that the core makes ahead.
So memory does not grow with the study, and a slow reader slows the reading. A piece is one bytes object, made by the
core and handed on by the server as it is. The release is decided again every 64 MiB, and beside the sending every 4 s,
also while a reader takes minutes over one piece. A stream that must not go on is broken off: the announced length tells
the reader that it is not whole.

The end of a stream is recorded with the number of bytes that were handed to the connection. Of a stream that was broken
off the reader has at most that many: the last piece, and what the operating systems had buffered, may not have arrived.
"""

from __future__ import annotations

import anyio
import anyio.lowlevel
import structlog
from anyio import to_thread
from starlette.types import Receive, Scope, Send

from mdg.errors import Conflict, Forbidden, InputOutput, MdgError, NotFound, Problem, Refused, Unavailable
from mdg.exchange.release import Pieces, Release
from mdg.web.metrics import Metrics

DECIDE_EVERY = 64 << 20
"""Bytes after which the decision is asked again."""
DECIDE_AFTER = 4.0
"""Seconds between two decisions, however little is sent meanwhile. The directory's answer may be `requester.STILL`
seconds old, so a stream ends within 5 s of a withdrawal, a revocation or a suspension."""
PACE = 1 << 20
SLOWEST = 60.0
"""Seconds in which the connection must take PACE bytes: about 17 kB/s."""
WORKERS = anyio.CapacityLimiter(8)
"""Threads that make pieces, for all streams together; the default limiter is left to everything else."""

NOT_MODIFIED = 304
"""The caller has it: no body, and no length of one (RFC 9110 8.6)."""

log = structlog.get_logger("mdg.bulk")


class BulkResponse:
    """Sends one release; an ASGI application for one request."""

    def __init__(self, release: Release, metrics: Metrics) -> None:
        self._release = release
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        release = self._release
        headers = dict(release.headers)
        if release.status != NOT_MODIFIED:
            headers |= {"Content-Length": str(release.length), "Accept-Ranges": "bytes"}
        start = {
            "type": "http.response.start",
            "status": release.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        if scope["method"] == "HEAD" or release.status == NOT_MODIFIED:
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        sent = _Progress()
        with self._metrics.streams.track_inprogress():
            try:
                # Made before the status is sent: a file that has changed is an answer, 409, as long as none was given.
                pieces = await to_thread.run_sync(release.open, release.start, release.end, limiter=WORKERS)
                sent.piece = await to_thread.run_sync(pieces.next, limiter=WORKERS)
                await self._run(pieces, sent, start, receive=receive, send=send)
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
        self, pieces: Pieces, sent: _Progress, start: dict[str, object], *, receive: Receive, send: Send
    ) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            sent.why = "disconnected"
            tasks.cancel_scope.cancel()

        async def no_longer_allowed() -> None:
            allowed = True
            while allowed:
                await anyio.sleep(DECIDE_AFTER)
                allowed = await self._still_allowed(sent)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gone)
            tasks.start_soon(no_longer_allowed)
            await send(start)
            with anyio.move_on_after(SLOWEST) as patience:
                await self._send(pieces, sent, patience, send)
            if patience.cancelled_caught:
                sent.why = "slow-reader"
            tasks.cancel_scope.cancel()
        if sent.why == "complete":
            # The answer is ended when nobody waits for `http.disconnect` any more: hypercorn gives that message also
            # when its own answer has ended, which must not be taken for a reader that left.
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, pieces: Pieces, sent: _Progress, patience: anyio.CancelScope, send: Send) -> None:
        decided = paced = 0
        while sent.piece is not None:
            if sent.bytes - decided >= DECIDE_EVERY:
                if not await self._still_allowed(sent):
                    return
                decided = sent.bytes
            if sent.bytes - paced >= PACE:
                paced, patience.deadline = sent.bytes, anyio.current_time() + SLOWEST
            body, sent.piece = sent.piece, None
            sent.bytes += len(body)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if sent.bytes == self._release.length:
                break  # at once: a reader that has all may close before another piece is asked for
            try:
                sent.piece = await to_thread.run_sync(pieces.next, limiter=WORKERS)
            except MdgError as error:
                sent.why = str(getattr(error, "code", type(error).__name__))
                return
        # If the connection breaks, hypercorn returns from `send` and gives `http.disconnect`: `gone` reads it now.
        await anyio.lowlevel.checkpoint()
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
    """How far it came, and why it stopped: because the gateway did, until something else is known."""

    piece: bytes | None = None
    """The piece that is sent next."""
    bytes = 0
    why = "stopped"
