"""The page at `/` of a listener: what answers here, whether it is ready, and where to go next. It names no patient and
no study, so it is open to everybody who reaches the listener."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from mdg import __version__
from mdg.web.asking import accepts, no_parameters
from mdg.web.page import POLICY, link, page, terms, text

HTML = "text/html"


class HomeDoor:
    """`title` and `about` say what the listener is, `links` has the address behind each text of its list."""

    def __init__(
        self,
        title: str,
        about: str,
        links: Mapping[str, str],
        *,
        ready: Callable[[], Awaitable[bool]],
        sandbox: bool,
    ) -> None:
        self._title = title
        self._about = about
        self._links = links
        self._ready = ready
        self._sandbox = sandbox

    async def home(self, request: Request) -> Response:
        """`GET /`: the page."""
        accepts(request, (HTML,))
        no_parameters(request)
        ready = await self._ready()
        body = (
            f"<p>{text(self._about)}</p>",
            terms(
                {
                    "State": "ready" if ready else "not ready: it cannot answer safely now",
                    "Version": f"mdg {text(__version__)}",
                }
            ),
            "<h2>Where to go</h2>",
            terms({words: link(address) for words, address in self._links.items()}),
        )
        headers = {"Content-Security-Policy": POLICY}
        return Response(page(self._title, body, sandbox=self._sandbox), headers=headers, media_type=HTML)
