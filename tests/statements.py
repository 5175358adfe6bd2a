"""The SQL statements of what a test does, to compare what two questions cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
from sqlalchemy import Engine, event
from starlette.types import ASGIApp, Receive, Scope, Send

_RAN: ContextVar[list[tuple[str, Any]] | None] = ContextVar("ran", default=None)
"""Where the statements of this task and of the tasks that it starts are written, each with its parameters."""
OF_A_REQUEST = ("INSERT INTO audit ", "INSERT INTO replay ")
"""What a request writes. One task writes for all, so these are told by their beginning."""
_WRITTEN: list[str] = []


@event.listens_for(Engine, "before_cursor_execute")
def _note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
    if (found := _RAN.get()) is not None:
        found.append((statement, parameters))
    elif statement.startswith(OF_A_REQUEST):
        _WRITTEN.append(statement)


@contextmanager
def ran() -> Iterator[list[tuple[str, Any]]]:
    """The statements of this task and of the tasks that it starts while this is open, with their parameters."""
    found: list[tuple[str, Any]] = []
    token = _RAN.set(found)
    try:
        yield found
    finally:
        _RAN.reset(token)


@contextmanager
def seen() -> Iterator[list[str]]:
    """The statements that run while this is open, sorted: sources are asked at the same time. What other tasks read is
    not among them."""
    found: list[str] = []
    before = len(_WRITTEN)
    with ran() as read:
        try:
            yield found
        finally:
            found += sorted([*(statement for statement, _ in read), *_WRITTEN[before:]])


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
