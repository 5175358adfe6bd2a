"""The work of this room beside an event loop: in worker threads, as many at a time as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TypeVar

from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import RunVar

from mdg.envelope import Progress

T = TypeVar("T")

_cores: RunVar[CapacityLimiter] = RunVar("mdg.envelope.cores")


async def beside(work: Callable[[Progress], T], progress: Progress | None = None) -> T:
    """`work` in a worker thread; what it is given must be the `progress` of the function that it calls.

    By it the core asks between two pieces whether the caller has gone: by a cancel scope, or by the cancellation of
    the task, of which a cancel scope knows nothing (as when Ctrl-C ends `asyncio.run`).
    """
    gone = False

    def told(done: int, total: int) -> None:
        from_thread.check_cancelled()
        if gone:
            raise CancelledError
        if progress is not None:
            progress(done, total)

    try:
        limiter = _cores.get()
    except LookupError:
        limiter = CapacityLimiter(os.cpu_count() or 1)
        _cores.set(limiter)
    try:
        return await to_thread.run_sync(work, told, limiter=limiter)
    finally:
        gone = True
