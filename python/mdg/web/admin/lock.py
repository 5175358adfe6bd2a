"""The lock of the admin listener: the operator's own credential, and no page of the web."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from mdg.errors import Forbidden


class AdminLock:
    """The operator's own credential. Without `token` the listener is on the loopback, which the settings made sure of;
    a token of the data plane opens nothing here (spec/hostile-input K6)."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    @property
    def asks(self) -> bool:
        """Whether a credential is needed."""
        return self._expected is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # A browser names the page that asks (Fetch Standard, "Origin"), and would send the form of a foreign page here.
        if any(name == b"origin" for name, _ in scope["headers"]):
            raise Forbidden(reason="web-page")
        if self._expected is None:
            if given:
                raise Forbidden(reason="admin-credential")
        elif len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            raise Forbidden(reason="admin-credential")
        await self._app(scope, receive, send)
