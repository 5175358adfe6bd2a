"""What all doors of the sandbox share: bounded bodies, errors, and what counts as this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

BODY_LIMIT = 64 * 1024  # bytes; a card has about 500, a token request less


async def body(request: Request) -> bytes:
    """The whole body; 413 when it is over `BODY_LIMIT`."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > BODY_LIMIT:
            raise HTTPException(413, f"a body has at most {BODY_LIMIT} bytes")
    return bytes(received)


async def form(request: Request) -> dict[str, str]:
    """The fields of a form body, each at most once; 415 for another media type, 400 for a field given twice."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send application/x-www-form-urlencoded")
    try:
        fields = parse_qsl((await body(request)).decode(), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
    named = dict(fields)
    if len(named) != len(fields):
        raise HTTPException(400, "a field is there twice")
    return named


def problem(status: int, why: str, error: str = "invalid_request") -> Response:
    """An error as RFC 6749 5.2 writes it, marked as the sandbox's."""
    return JSONResponse({"error": error, "error_description": why, "sandbox": True}, status)


def is_loopback(url: str) -> bool:
    """Whether the host of `url` is this machine, by its literal address or the name `localhost`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
