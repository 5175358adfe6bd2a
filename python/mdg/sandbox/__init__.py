"""A stand-in for the national services, for demo, development and tests: token authority, key directory, record
locator.

It proves nothing about anybody: it lives on the loopback interface, says so in every answer (`X-MDG-Sandbox: true`, and
`"sandbox": true` in JSON), and refuses to start elsewhere. `phantom` makes a study, `identifiers` makes identifiers,
`wire` is a line that can change a byte.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdg.access import Clock, Gate, Issuer, Jwks, utc_now
from mdg.errors import Misuse
from mdg.sandbox.answers import is_loopback, problem
from mdg.sandbox.authority import TokenAuthority
from mdg.sandbox.directory import Cards
from mdg.sandbox.locator import Locator

__all__ = ["create_app"]


def create_app(url: str, *, clock: Clock = utc_now) -> Starlette:
    """The sandbox as an ASGI application whose base URL (the `iss` of its tokens) is `url`.

    `Misuse` unless the host of `url` is a loopback address. `app.state.cards` is its directory, for whoever runs in the
    same process.
    """
    if not is_loopback(url):
        raise Misuse("the sandbox runs on this machine only: give it a URL on 127.0.0.1, ::1 or localhost")
    issuer = url.rstrip("/")
    cards, authority = Cards(), TokenAuthority(issuer, clock=clock)
    trusted = Issuer(issuer, Jwks(f"{issuer}/jwks", authority))
    gate = Gate([trusted], cards, authority, issuer, audience=issuer, clock=clock)
    app = Starlette(
        routes=[*authority.routes, *cards.routes, *Locator(gate, clock).routes],
        middleware=[Middleware(_Marked)],
        exception_handlers={HTTPException: _refuse, 404: _refuse, 405: _refuse},
    )
    app.router.redirect_slashes = False
    app.state.cards = cards
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return problem(status, error.detail if isinstance(error, HTTPException) else "internal fault")


class _Marked:
    """Marks every answer, and answers only to a Host on this machine, so that a page in a browser cannot use a name
    that resolves to 127.0.0.1 to read it (DNS rebinding). A request that names an Origin comes from a page, which has
    no business here: it could change the directory without reading the answer (Fetch Standard, "CORS protocol")."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mdg-sandbox", b"true")]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        headers = Headers(scope=scope)
        if not is_loopback(f"http://{headers.get('host', '')}"):
            await problem(421, "the sandbox answers to this machine only")(scope, receive, marked)
            return
        if "origin" in headers:
            await problem(403, "the sandbox answers to no web page")(scope, receive, marked)
            return
        await self._app(scope, receive, marked)
