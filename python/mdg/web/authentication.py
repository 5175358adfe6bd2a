"""The lock on a route: no token that holds, no door (security-tests 3). Put on each route that is not public, in
`app`."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.access import Gate
from mdg.errors import Invalid


class Authentication:
    """Turns `Authorization` and `DPoP` into the `Requester` of the request's state, and nothing else passes."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        if b"access_token=" in scope["query_string"].replace(b"%5f", b"_").replace(b"%5F", b"_"):
            raise Invalid("a token does not stand in a URL", reason="token-in-url")
        state["requester"] = await self._gate.authenticate(
            _all(scope, b"authorization"), _all(scope, b"dpop"), scope["method"], scope["raw_path"].decode("ascii")
        )
        await self._app(scope, receive, send)


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]
