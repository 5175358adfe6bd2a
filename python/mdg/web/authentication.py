"""Checks the token of each call before its route (spec/access 1). Put on each route that is not public, in
`app`."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.access import Gate
from mdg.errors import Invalid
from mdg.web.asking import FORM, FORM_LIMIT

PATIENCE = 2.0
"""Seconds that a caller without a token has for its body."""


class Authentication:
    """Turns `Authorization` and `DPoP` into the `Requester` of the request's state, and nothing else passes."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        if _names_a_token(scope["query_string"]):
            raise Invalid("a token does not stand in a URL", reason="token-in-url")
        authorization = _all(scope, b"authorization")
        if not authorization and await _in_body(scope, receive):
            raise Invalid("a token does not stand in a body", reason="token-in-body")
        state["requester"] = await self._gate.authenticate(
            authorization, _all(scope, b"dpop"), scope["method"], scope["raw_path"].decode("ascii")
        )
        await self._app(scope, receive, send)


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]


def _names_a_token(pairs: bytes) -> bool:
    return b"access_token=" in pairs.replace(b"%5f", b"_").replace(b"%5F", b"_")


async def _in_body(scope: Scope, receive: Receive) -> bool:
    """Whether a form carries the token that no header does (RFC 6750 2.2). The call is refused either way, so the body
    may be used up here; a client that asks first (`Expect`) or is slow gets its answer without."""
    if _all(scope, b"content-type") != [FORM] or _all(scope, b"expect"):
        return False
    read = bytearray()
    with anyio.move_on_after(PATIENCE):
        while len(read) <= FORM_LIMIT:
            message = await receive()
            read += message.get("body", b"")
            if not message.get("more_body", False):
                break
    return _names_a_token(bytes(read))
