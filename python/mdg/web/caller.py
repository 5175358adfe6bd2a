"""The network address of a caller, for the record. A header says it only if a trusted proxy sent it."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from uuid import UUID

from starlette.types import Scope

from mdg.model.caller import Caller

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;,\s]*))', re.IGNORECASE)
_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?")
"""An address with or without a port: RFC 7239 6 writes IPv6 in brackets."""


def caller(scope: Scope, proxies: Collection[Network], header: str) -> Caller:
    """Who calls: the peer of the socket, or, when that is one of `proxies`, whom the proxy names in `header`."""
    return Caller(_address(scope, proxies, header), callers_id(scope))


def callers_id(scope: Scope) -> str | None:
    """The X-Request-ID that the caller sent, if it sent one and it is a UUID."""
    given = _values(scope, "x-request-id")
    try:
        return str(UUID(given[0])) if len(given) == 1 else None
    except ValueError:
        return None


def _address(scope: Scope, proxies: Collection[Network], header: str) -> str:
    peer = _parsed(scope["client"][0]) if scope.get("client") else None
    if peer is None:
        return ""
    named = _forwarded(scope) if header == "Forwarded" else _forwarded_for(scope)
    for value in reversed(named):  # each proxy adds the one that it got the request from at the end
        if not any(peer in network for network in proxies):
            break
        before = _parsed(value) if "%" not in value else None  # RFC 7239 6 has no zone; it may be any text
        if before is None:
            break
        peer = before
    return str(peer)


def _forwarded_for(scope: Scope) -> list[str]:
    """`X-Forwarded-For`: addresses, the oldest first."""
    return [part for value in _values(scope, "x-forwarded-for") for part in value.split(",")]


def _forwarded(scope: Scope) -> list[str]:
    """`Forwarded` (RFC 7239 4): elements with a parameter `for`, the oldest first."""
    elements = [part for value in _values(scope, "forwarded") for part in value.split(",")]
    found = [_FOR.search(element) for element in elements]
    return [(match[1] or match[2] or "") if match else "" for match in found]


def _values(scope: Scope, name: str) -> list[str]:
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name.encode()]


def _parsed(text: str) -> Address | None:
    text = text.strip()
    try:
        if match := _PORT.fullmatch(text):
            text = match[1] or match[2]
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
