"""The admin listener of a running gateway, as commands of its operator ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.errors import InputOutput, Misuse

if TYPE_CHECKING:
    from mdg.outbound import Response

ADMIN = "http://127.0.0.1:8081"
"""Where `admin_bind` is unless the settings say otherwise."""

AdminUrl = Annotated[
    str | None,
    typer.Option("--admin", metavar="URL", help=f"Admin listener of your gateway without --config; {ADMIN}."),
]


class Listener:
    """The listener that `config` names, with its credential, or the one at `admin`. `Misuse` when both are given."""

    def __init__(self, config: Path | None, admin: str | None) -> None:
        if config is not None and admin is not None:
            raise Misuse("--config names the admin listener already; leave --admin out")
        url, self._headers = _of_settings(config) if config is not None else (admin or ADMIN, {})
        self._url = url.rstrip("/")

    def ask(
        self, method: str, path: str, asked: dict[str, str] | None = None, *, content: bytes = b"", form: bool = False
    ) -> Response:
        """The answer to `asked`, sent as JSON or as a `form`, or to JSON that is `content` already, however long it
        takes. The listener is the operator's own, so the rules for asking strangers do
        not apply. `InputOutput` when nothing answers."""
        import httpx2

        from mdg.outbound import Response

        try:
            with httpx2.Client(trust_env=False, timeout=httpx2.Timeout(10, read=None)) as http:
                sent: dict[str, Any] = {"data" if form else "json": asked}
                if content:
                    sent = {"content": content}
                    http.headers["Content-Type"] = "application/json"
                answer = http.request(method, f"{self._url}{path}", headers=self._headers, **sent)
        except httpx2.HTTPError as error:
            why = "nothing answers there; is your gateway running? Its admin_bind is named by --config or --admin"
            raise InputOutput(self._url, why) from error
        return Response(answer.status_code, dict(answer.headers), answer.content)

    def expect(self, answer: Response, status: int) -> Response:
        """`answer`, when it has this status; for another one the error that says why."""
        from mdg.client.answers import refusal

        if answer.status != status:
            raise refusal("your gateway", answer)
        return answer

    def object_of(self, answer: Response, status: int) -> dict[str, Any]:
        """The JSON object of an answer that has this status."""
        got = self.expect(answer, status).json()
        if not isinstance(got, dict):
            raise InputOutput(self._url, "this is not the admin listener of a gateway; --admin or --config names it")
        return got


def _of_settings(config: Path) -> tuple[str, dict[str, str]]:
    """The admin listener that the settings name, as it is reached on this machine, and its credential."""
    from mdg.config import Settings, host_of, port_of

    settings = Settings.load(config)
    host, port = host_of(settings.admin_bind), port_of(settings.admin_bind)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    token = settings.admin_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", headers
