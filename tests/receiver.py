"""A subscriber's HTTP endpoint on the loopback: it keeps what it is sent and answers as it is told to."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdg.web.server import listen

Json = dict[str, Any]


@dataclass
class Receiver:
    """`answers` are given in turn, then `usual`: a status, with headers or without. `got` are the Bundles, those
    answered with a failure included; `taken` maps each number that was answered with a success to its focus."""

    origin: str
    usual: int = 200
    answers: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    got: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    taken: dict[str, str | None] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    open: anyio.Event | None = None
    """No answer before it is set, when there is one."""

    @property
    def url(self) -> str:
        return f"{self.origin}/notified"

    @property
    def kinds(self) -> list[str]:
        return [str(parameters(bundle)["type"]) for bundle in self.got]

    async def take(self, request: Request) -> Response:
        bundle = json.loads(await request.body())
        self.got.append(bundle)
        self.headers.append(dict(request.headers))
        if self.open is not None:
            await self.open.wait()
        status, headers = self.answers.popleft() if self.answers else (self.usual, {})
        event = event_of(bundle)
        if event and 200 <= status < 300:
            number = event["event-number"]
            if number in self.taken:
                self.repeated.append(number)
            self.taken[number] = event.get("focus", {}).get("reference")
        return Response(b"x" * 10, status, headers)


def parameters(bundle: Json) -> Json:
    """The values of the SubscriptionStatus, each under its name."""
    return _named(bundle["entry"][0]["resource"]["parameter"])


def event_of(bundle: Json) -> Json | None:
    """The parts of the event that a notification tells of."""
    event = parameters(bundle).get("notification-event")
    return None if event is None else _named(event)


def _named(parameters: list[Json]) -> Json:
    return {one["name"]: next(value for name, value in one.items() if name != "name") for one in parameters}


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """A receiver that listens."""
    listener, stop = socket.create_server(("127.0.0.1", 0)), anyio.Event()
    receiver = Receiver(f"http://127.0.0.1:{listener.getsockname()[1]}")
    app = Starlette(routes=[Route("/notified", receiver.take, methods=["POST"])])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, app, listener, stop.wait)
        try:
            yield receiver
        finally:
            stop.set()


async def until(true: Callable[[], bool]) -> None:
    """Waits for what another server does."""
    with anyio.fail_after(20):
        while not true():  # noqa: ASYNC110 - the other server rings no bell
            await anyio.sleep(0.05)  # between two looks
