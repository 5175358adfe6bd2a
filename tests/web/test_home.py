"""The pages for people: at `/` of both listeners, and the frame that all pages have."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from mdg import __version__
from mdg.app import routes
from mdg.web.page import POLICY, STYLE, link, page, terms

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("listener", ["url", "admin"])
async def test_the_page_says_what_answers_and_each_of_its_links_works(start: Start, listener: str) -> None:
    async with start() as gateway:
        at, http = getattr(gateway, listener), gateway.consumer.http
        home = await http.get(f"{at}/", headers=BROWSER)
        assert home.status_code == 200
        assert home.headers["content-type"] == "text/html; charset=utf-8"
        assert f"mdg {__version__}" in home.text
        assert "<dd>ready</dd>" in home.text
        links = re.findall('<a href="([^"]+)"', home.text)
        assert len(links) >= 4
        for address in links:
            assert (await http.get(f"{at}{address}", headers=BROWSER)).status_code == 200, address
        assert (await http.get(f"{at}/", headers={"Accept": "image/png"})).status_code == 406


async def test_the_page_says_when_the_gateway_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_ready(_rooms: object) -> bool:
        return False

    monkeypatch.setattr(routes, "ready", not_ready)
    async with start() as gateway:
        home = await gateway.consumer.http.get(f"{gateway.url}/")
    assert "not ready: it cannot answer safely now" in home.text


async def test_the_operators_page_has_the_operators_lock(start: Start) -> None:
    token = "t" * 32
    async with start(admin_token=token) as gateway:
        http = gateway.consumer.http
        assert (await http.get(f"{gateway.admin}/")).status_code == 403
        opened = await http.get(f"{gateway.admin}/", headers={"Authorization": f"Bearer {token}"})
    assert "for operators</h1>" in opened.text


async def test_pages_of_a_sandbox_are_marked(start: Start) -> None:
    async with start() as gateway:
        for address in ("/", "/ief-capability-statement.html"):
            answer = await gateway.consumer.http.get(f"{gateway.url}{address}", headers=BROWSER)
            assert '<p class="sandbox">Sandbox: made-up people' in answer.text
            assert answer.headers["content-security-policy"] == POLICY
    assert "sandbox" not in page("Title", (), sandbox=False).removeprefix(STYLE).split("</style>")[1]


def test_the_policy_admits_the_style_of_the_page_and_nothing_else() -> None:
    styles = re.findall("<style>(.*?)</style>", page("Title", (), sandbox=True), re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
    assert [f"style-src 'sha256-{digest}'" for digest in digests] == re.findall("style-src [^;]+", POLICY)
    assert POLICY.startswith("default-src 'none';")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", 'https://a/"onclick="b', "<b>"])
def test_what_a_setting_holds_stays_text(address: str) -> None:
    shown = terms({address: link(address)})
    assert "<b>" not in shown
    assert 'href="javascript' not in shown
    assert 'href="data' not in shown
    assert '"onclick=' not in shown
