"""Another gateway as a client meets it: a few routes on a real loopback socket, to say whatever a test wants it to
say."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mdg.client import Gateway, Tokens
from mdg.keys import Card, Ed25519Key, Keyring, X25519Key
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_PROVIDER

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class Stranger:
    """What it answers, by path, and what it was asked. `/token` gives a token unless a test says otherwise."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def respond(self, request: Request) -> Response:
        """Any request."""
        self.asked.append((request.url.path, dict(request.headers), await request.body()))
        answer = self.answers.get(request.url.path)
        if answer is not None:
            return await answer(request)
        if request.url.path == "/token":
            scope = dict(part.split("=", 1) for part in self.asked[-1][2].decode().split("&"))["scope"]
            granted = scope.replace("+", " ").replace("%3A", ":").replace("%2F", "/")
            given = {"access_token": f"t{len(self.asked)}", "token_type": "DPoP", "expires_in": 300, "scope": granted}
            return JSONResponse(given)
        return JSONResponse({"error": "not_found"}, 404)

    def paths(self) -> list[str]:
        """The paths it was asked for, tokens left out."""
        return [path for path, _, _ in self.asked if path != "/token"]


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    listener = socket.create_server(("127.0.0.1", 0))
    other = Stranger(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "CRITICAL"
    config.graceful_timeout = 0.1
    stopping = anyio.Event()
    app = Starlette(routes=[Route("/{path:path}", other.respond, methods=["GET", "POST", "PUT"])])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(app, config, shutdown_trigger=stopping.wait))  # type: ignore[arg-type]  # hypercorn has ASGI types of its own
        yield other
        stopping.set()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path, id=EXAMPLE_CONSUMER.uri, name="Consumer", contact="")


@pytest.fixture
def provider_key() -> Ed25519Key:
    return Ed25519Key.generate()


@pytest.fixture
def provider(provider_key: Ed25519Key) -> Card:
    return Card.issue(
        id=EXAMPLE_PROVIDER.uri,
        name="Provider",
        contact="",
        x25519=X25519Key.generate().public,
        signer=provider_key,
    )


@pytest.fixture
async def outbound(stranger: Stranger) -> AsyncIterator[Outbound]:
    async with Outbound([stranger.url], sandbox=True) as client:
        yield client


@pytest.fixture
def tokens(stranger: Stranger, outbound: Outbound, keyring: Keyring) -> Tokens:
    return Tokens(f"{stranger.url}/token", outbound, keyring, EXAMPLE_CONSUMER)


@pytest.fixture
def gateway(stranger: Stranger, outbound: Outbound, keyring: Keyring, tokens: Tokens) -> Gateway:
    return Gateway(stranger.url, outbound, keyring, tokens)
