"""The SQL statements of what a test does, to compare what two questions cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio
from sqlalchemy import Engine, event
from starlette.types import ASGIApp, Receive, Scope, Send

_SEEN: ContextVar[list[str] | None] = ContextVar("seen", default=None)
"""Where the statements of this task and of the tasks that it starts are written."""
OF_A_REQUEST = ("INSERT INTO audit ", "INSERT INTO replay ")
"""What a request writes. One task writes for all, so these are told by their beginning."""
_WRITTEN: list[str] = []


@event.listens_for(Engine, "before_cursor_execute")
def _note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    if (seen := _SEEN.get()) is not None:
        seen.append(statement)
    elif statement.startswith(OF_A_REQUEST):
        _WRITTEN.append(statement)


@contextmanager
def seen() -> Iterator[list[str]]:
    """The statements that run while this is open, sorted: sources are asked at the same time. What other tasks read is
    not among them."""
    found: list[str] = []
    before = len(_WRITTEN)
    token = _SEEN.set(found)
    try:
        yield found
    finally:
        _SEEN.reset(token)
        found += _WRITTEN[before:]
        found.sort()


class Costs:
    """The statements of each request that an application has answered."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}
        self._more = anyio.Condition()

    def counted(self, app: ASGIApp) -> ASGIApp:
        """`app`, counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            with seen() as statements:
                await app(scope, receive, send)
            async with self._more:
                self._of[scope.get("state", {}).get("request_id", "")] = statements
                self._more.notify_all()

        return counted

    async def of(self, request_id: str) -> list[str]:
        """The statements of one request, which ends a moment after its last byte has arrived."""
        with anyio.fail_after(10):
            async with self._more:
                while request_id not in self._of:
                    await self._more.wait()
                return self._of[request_id]
