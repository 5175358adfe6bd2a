"""The sandbox on a real socket, with a door that can be shut, and a gateway's own client of its locator."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdg.client import Tokens
from mdg.keys import Keyring
from mdg.model.identity import HpiO
from mdg.outbound import Outbound
from mdg.registry import Registry
from mdg.sandbox import create_app
from mdg.sandbox.identifiers import EXAMPLE_PROVIDER
from mdg.web.server import listen


class Door:
    """In front of a service: while it is `shut` nobody gets in, and while it is `mute` the work is done and the answer
    is lost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.shut = False
        self.mute = False
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def heard() -> Message:
            message = await receive()
            self.bodies.append(message.get("body", b""))
            return message

        async def lost(_: Message) -> None:
            return

        told = scope["type"] == "http" and scope["path"].startswith("/v1/")
        if told and not self.shut:
            await self.app(scope, heard, lost if self.mute else send)
        if told and (self.shut or self.mute):
            await Response(status_code=503)(scope, receive, send)
        elif not told:
            await self.app(scope, receive, send)


@dataclass
class Locator:
    """A running one: where it is, what stands before it, and how an organisation talks to it."""

    url: str
    door: Door
    registry: Registry


@asynccontextmanager
async def calling(url: str, folder: Path, organisation: HpiO) -> AsyncIterator[Registry]:
    """The client of an organisation, whose keys are kept in `folder`."""
    keyring = Keyring.open(folder, id=organisation.uri, name="", contact="")
    async with Outbound([url], sandbox=True) as outbound:
        yield Registry(url, outbound, Tokens(f"{url}/token", outbound, keyring, organisation), keyring.dpop)


@asynccontextmanager
async def locator(folder: Path) -> AsyncIterator[Locator]:
    """Runs while the block does; the keys of its one caller are kept in `folder`."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    door, stopping = Door(create_app(url)), anyio.Event()
    async with anyio.create_task_group() as tasks, calling(url, folder, EXAMPLE_PROVIDER) as registry:
        tasks.start_soon(listen, door, listener, stopping.wait)
        try:
            yield Locator(url, door, registry)
        finally:
            stopping.set()
