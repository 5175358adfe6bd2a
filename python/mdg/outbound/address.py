"""Which URLs may be asked at all, and which addresses may be connected to (spec/hostile-input E).

A URL is judged as text before anything is resolved; a name is judged again at the moment of connecting, and the
connection goes to the very address that was judged, so that a DNS answer that changes in between changes nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

import anyio
import httpcore2

from mdg.errors import Unprocessable

URL_LIMIT = 2048  # characters
LEGAL = re.compile(r"[!#-;=?-\[\]_a-z~]+", re.IGNORECASE)  # RFC 3986, without space, quotes, <>, \, ^, `, {|}
NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z][a-z0-9-]{0,61}[a-z0-9]\.?", re.IGNORECASE
)
PORTS = {"https": 443, "http": 80}
TRANSLATED = (
    ip_network("64:ff9b::/96"),
    ip_network("64:ff9b:1::/48"),
)  # NAT64: an IPv4 address of the network's choice
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what an allow list names (RFC 6454 4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str, *, sandbox: bool) -> Self:
        """The origin of a URL that may be asked. `Unprocessable` for every other text: another scheme, a user, an
        address in place of a name, an odd port, a character that is none of a URL's. With `sandbox` the loopback and
        http are allowed.
        """
        if len(url) > URL_LIMIT or not LEGAL.fullmatch(url):
            raise Unprocessable("the URL has a character that no URL has, or is too long", reason="url-form")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Unprocessable("the URL cannot be read", reason="url-form") from None
        if parts.scheme not in (PORTS if sandbox else ("https",)):
            raise Unprocessable("only https URLs are asked", reason="url-scheme")
        if "@" in parts.netloc or parts.fragment or not parts.hostname:
            raise Unprocessable("the URL has a user, a fragment or no host", reason="url-form")
        if not (NAME.fullmatch(parts.hostname) or (sandbox and _loopback(parts.hostname))):
            raise Unprocessable("the URL names its host by a DNS name, not by an address", reason="url-host")
        if parts.hostname.rstrip(".").lower() == "localhost" and not sandbox:
            raise Unprocessable("the URL leads back to this machine", reason="url-host")
        if port is None:
            port = PORTS[parts.scheme]
        elif port != PORTS[parts.scheme] and port < 1024:
            raise Unprocessable("ports below 1024 other than 80 and 443 are not asked", reason="url-port")
        return cls(parts.scheme, parts.hostname.lower(), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == PORTS[self.scheme] else f":{self.port}")


def permitted(address: Address, *, sandbox: bool) -> bool:
    """Whether this gateway connects to `address`: public addresses only, and the loopback in a sandbox."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in TRANSLATED):
            return False
        for inner in (address.ipv4_mapped, address.sixtofour, address.teredo[1] if address.teredo else None):
            if inner is not None:
                return permitted(inner, sandbox=sandbox)
    return (address.is_global and not address.is_multicast) or (sandbox and address.is_loopback)


async def resolve(host: str, port: int, *, sandbox: bool) -> str:
    """The address to connect to. `httpcore2.ConnectError` when the name has none, or when any of its addresses is one
    that this gateway does not connect to."""
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore2.ConnectError("its name does not resolve") from error
    addresses = [ip_address(sockaddr[0]) for _, _, _, _, sockaddr in found]
    if not addresses or not all(permitted(address, sandbox=sandbox) for address in addresses):
        raise httpcore2.ConnectError("its name leads to an address inside a network, which is never asked")
    return str(addresses[0])


class CheckedBackend(httpcore2.AnyIOBackend):
    """Resolves, judges and connects to what was judged; TLS still checks the certificate against the name."""

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2 passes it to every backend
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                address = await resolve(host, port, sandbox=self._sandbox)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("its name did not resolve in time") from error
        return await super().connect_tcp(address, port, timeout, local_address, socket_options)


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback and host in ("127.0.0.1", "::1")
    except ValueError:
        return False
