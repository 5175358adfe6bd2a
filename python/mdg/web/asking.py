"""What doors read from a request: its id, its parameters, its body under a limit, what it accepts. Strict, and no
value is repeated in a refusal (spec/hostile-input 1, F, G)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from urllib.parse import parse_qsl

import anyio
from starlette.requests import Request

from mdg.errors import Invalid, NotAcceptable, NotSupported, TooLarge, TooSlow, UnsupportedMedia
from mdg.fhir.search import Pairs, check_format
from mdg.model.request import Requester

FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 64 * 1024
"""Bytes of a search; a parameter has at most 1024 characters and there are at most 100."""
FIELDS = 100
PATIENCE = 30.0
"""Seconds that a body may take, whatever its size."""
SLOWEST = 1000
"""Bytes a second that a body must come with after that (spec/hostile-input F14)."""
_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)
"""RFC 9110 12.4.2."""
FHIR_TYPES = ("application/fhir+json", "application/json", "application/json+fhir")


def request_id(request: Request) -> str:
    """The id that the edge gave or took."""
    return str(request.scope["state"]["request_id"])


def requester(request: Request) -> Requester:
    """Who asks; only routes behind `Authentication` may call this. Anywhere else it is a `RuntimeError`: such a
    route must fail, not be open, also under `python -O`."""
    found = request.scope["state"].get("requester")
    if not isinstance(found, Requester):
        raise RuntimeError("a route without authentication asks who its caller is")
    return found


def query(request: Request) -> Pairs:
    """The parameters of the URL."""
    return _pairs(request.scope["query_string"])


def no_parameters(request: Request, **allowed: Collection[str]) -> None:
    """`NotSupported` for any parameter but `_format` and `_pretty`, which each read of a resource takes, and those with
    one of their `allowed` values."""
    for name, value in query(request):
        if name in ("_format", "_pretty"):
            check_format(name, value)
        elif value not in allowed.get(name, ()):
            raise NotSupported("this address does not take that parameter, or not with that value")


async def body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes; `TooLarge` before more is read, `UnsupportedMedia` when it is packed,
    `TooSlow` when its sender drips it."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("a body is sent as it is, without Content-Encoding")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(f"a body here has at most {limit} bytes")
    received = bytearray()
    with anyio.move_on_after(PATIENCE) as patience:
        async for piece in request.stream():
            received += piece
            patience.deadline += len(piece) / SLOWEST
            if len(received) > limit:
                raise TooLarge(f"a body here has at most {limit} bytes")
        return bytes(received)
    raise TooSlow("the body comes too slowly; send it in one piece", reason="slow-body")


async def form(request: Request) -> tuple[Pairs, bytes]:
    """The fields of a form body, and the body as it came for the record."""
    media_type(request, (FORM,))
    raw = await body(request, FORM_LIMIT)
    return _pairs(raw), raw


def media_type(request: Request, accepted: Collection[str]) -> None:
    """`UnsupportedMedia` unless the body is declared as one of `accepted`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in accepted:
        raise UnsupportedMedia("Content-Type is " + " or ".join(accepted))


def accepts(request: Request, offered: Sequence[str], body: Pairs = ()) -> str:
    """The one of the `offered` media types that `Accept` prefers (RFC 9110 12.5.1), the first of equals;
    `NotAcceptable` if it admits none. `_format` of a FHIR request, in its URL or `body`, counts before `Accept`."""
    formats = [value for name, value in (*query(request), *body) if name == "_format"] if offered == FHIR_TYPES else []
    for value in formats:
        check_format("_format", value)
    wanted = ",".join(request.headers.getlist("accept"))
    if formats or not wanted.strip():
        return offered[0]
    weights = {type_: _weight(wanted.split(","), type_) for type_ in offered}
    best = max(offered, key=lambda type_: weights[type_])
    if weights[best] <= 0:
        raise NotAcceptable("offered here: " + ", ".join(offered))
    return best


def _weight(ranges: Sequence[str], type_: str) -> float:
    """The weight that the most specific of the media ranges gives to a type; 0 if none of them admits it."""
    patterns = (type_, type_.split("/", maxsplit=1)[0] + "/*", "*/*")
    best = (len(patterns), 0.0)
    for part in ranges:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        pairs = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in parameters)}
        if name not in patterns or pairs.get("fhirversion", "4.0") not in ("4.0", "4.0.1"):
            continue
        weight = float(pairs["q"]) if _QVALUE.fullmatch(pairs.get("q", "")) else 1.0
        best = min(best, (patterns.index(name), weight), key=lambda one: (one[0], -one[1]))
    return best[1]


def _pairs(raw: bytes) -> Pairs:
    try:
        return parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=FIELDS,
        )
    except ValueError:
        raise Invalid("the parameters are not form-encoded UTF-8, or more than 100") from None
