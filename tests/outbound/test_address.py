"""Which URLs and addresses are never asked: spec/hostile-input E, the rows about form."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import anyio
import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdg.errors import Unprocessable
from mdg.outbound.address import Origin, permitted, resolve

E1 = ["http://good.example/"]
E2 = ["https://127.0.0.1/", "https://[::1]/", "https://0.0.0.0/", "https://localhost/", "https://LOCALHOST./x"]
E3 = [
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://[fd00:ec2::254]/",
    "https://100.64.0.1/",
    "https://[::ffff:10.0.0.1]/",
]
E4 = ["https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://0x7f000001/"]
E8 = ["https://good.example@evil.test/", "https://good.example\\@evil.test/", "https://good.example\\.evil.test/"]
E9 = [
    "https://user:secret@good.example/",
    "https://@good.example/",
    "https://good.example:22/",
    "https://good.example:0/",
    "https://good.example:99999/",
    "https://good.example/a\r\nHost: evil",
    "https://good.example/ a",
    "https://good.example/#x",
    "https://good.example/é",
]
E13 = [
    "file:///etc/passwd",
    "gopher://good.example/",
    "ftp://good.example/",
    "data:,x",
    "jar:https://good.example!/",
    "//x",
]
NO_HOST = ["https://", "https:///path", "https:good.example", "https://.good.example/", "https://-a.example/", ""]


@pytest.mark.parametrize("url", [*E1, *E2, *E3, *E4, *E8, *E9, *E13, *NO_HOST])
def test_a_url_that_no_gateway_may_ask_is_refused(url: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        Origin.of(url, sandbox=False)
    assert refused.value.status == 422
    assert "example" not in refused.value.diagnostics


def test_an_origin_is_scheme_host_and_port() -> None:
    assert Origin.of("https://Good.Example/a?b", sandbox=False) == Origin.of("https://good.example:443", sandbox=False)
    assert str(Origin.of("https://good.example:8443/x", sandbox=False)) == "https://good.example:8443"
    assert Origin.of("https://good.example.evil.test/", sandbox=False) != Origin.of(
        "https://good.example/", sandbox=False
    )


def test_a_sandbox_may_ask_the_loopback_and_nothing_else_inside() -> None:
    for url in ("http://127.0.0.1:8080/x", "http://localhost:8080", "http://[::1]:8080/"):
        Origin.of(url, sandbox=True)
    for url in [*E3, *E4, "https://0.0.0.0/", "http://127.0.0.2/"]:
        with pytest.raises(Unprocessable):
            Origin.of(url, sandbox=True)


@given(st.ip_addresses())
def test_an_address_is_permitted_only_when_it_is_public(address: Any) -> None:
    if permitted(address, sandbox=False):
        assert address.is_global
        assert not address.is_private
        assert not address.is_loopback
        assert not address.is_multicast
    assert permitted(address, sandbox=True) or not permitted(address, sandbox=False)


@pytest.mark.parametrize(
    "inside", ["::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b:1::1", "fe80::1", "224.0.0.1", "255.255.255.255", "::"]
)
def test_an_inside_address_in_another_dress_is_inside(inside: str) -> None:
    assert not permitted(ip_address(inside), sandbox=False)


@pytest.mark.anyio
async def test_one_inside_address_among_others_spoils_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers(*_: object, **__: object) -> list[Any]:
        public, inside = ("93.184.216.34", 443), ("10.0.0.1", 443)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (public, inside)]

    monkeypatch.setattr(anyio, "getaddrinfo", answers)
    with pytest.raises(httpcore2.ConnectError, match="inside"):
        await resolve("good.example", 443, sandbox=True)
