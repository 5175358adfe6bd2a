"""The edge of a listener: what holds for every request, whatever is behind the address (spec/hostile-input F, K).

It gives the request an id of its own, refuses what no door should see, renders every error in the form of the standard,
records every refusal before it is answered, and writes one line of log with the path template, never the path. The
X-Request-ID that a caller sends is kept apart as the caller's and returned as X-Correlation-ID (FHIR R4 3.1.0.1.4), so
that nobody can write into the records of another's request. `Server` is never sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import unquote_plus
from uuid import uuid4

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdg.audit import Audit
from mdg.errors import Invalid, MdgError, MethodNotAllowed, NotFound, Problem, TooLarge, Unavailable, where
from mdg.fhir.search import names_person, person_in_url
from mdg.model.caller import serving
from mdg.model.event import Event, Outcome
from mdg.web.attempt import attempt
from mdg.web.caller import Network, caller
from mdg.web.metrics import Metrics
from mdg.web.standard import RefusalForm, Standard, routes_of

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
REST = 64 * 1024
"""Bytes of a body that are taken though its answer is ready: the largest form."""
REST_TIME = 2.0
"""Seconds for that."""
HEADER_BYTES = 16 * 1024
HEADER_FIELDS = 100
_PATH = re.compile(rb"(?:/(?!\.{0,2}(?:/|\Z))[A-Za-z0-9\-._~$:@!&'()*+,=]+)+/?|/")
"""A path in its one form: no empty or dot segment, nothing escaped, no backslash, no NUL (spec/hostile-input F22)."""
IN_URL = "identifier-in-url"
_PROBES = (b"/livez", b"/readyz")
"""Addresses at which `Host` is not checked: orchestrators and proxies ask by IP address, or name no host at all."""
_ALWAYS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

Whose: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""What a refusal was about, completed by whose study it is. The same statements are run whether the study is there or
not, so that the time of an answer says nothing."""

log = structlog.get_logger("mdg.access")


class HttpVersionNotSupported(Problem):
    """HTTP/1.1 is what this listener speaks (RFC 9110 15.6.6)."""

    status = 505
    issue = "not-supported"


class HeaderTooLarge(Problem):
    """Request line and header over their limit (RFC 6585 5)."""

    status = 431
    issue = "too-long"


class Edge:
    """Wraps the application of one listener. `hosts` are the names it answers to, compared with `Host`; `standards` is
    its route table, whose last entry covers every address; `fhir` is the base that a refusal may point to; `proxies`
    are the networks whose `proxy_header` says who called."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        audit: Audit,
        hosts: Collection[str],
        standards: Sequence[Standard],
        metrics: Metrics,
        fhir: str,
        whose: Whose,
        proxies: Collection[Network] = (),
        proxy_header: str = "X-Forwarded-For",
    ) -> None:
        self._app = app
        self._audit = audit
        self._fhir = fhir
        self._resource_metadata = f"{fhir.removesuffix('/fhir')}/.well-known/oauth-protected-resource/fhir"
        self._hosts = frozenset(host.lower() for host in hosts)
        self._standards = standards
        self._doors: dict[object, str] = {
            route.endpoint: route.path for route in routes_of(standards) if isinstance(route, Route)
        }
        self._metrics = metrics
        self._whose = whose
        self._proxies = proxies
        self._proxy_header = proxy_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        state = scope.setdefault("state", {})
        state["request_id"] = id_ = str(uuid4())
        with serving(caller(scope, self._proxies, self._proxy_header)) as who:
            body = _Body(receive, whole=scope["method"] not in WITH_BODY)
            sent = _Sent(send, id_, who.request_id, body, head=scope["method"] == "HEAD")
            await self._serve(scope, body, sent)

    async def _serve(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        id_ = scope["state"]["request_id"]
        began = time.perf_counter()
        reason = ""
        try:
            _check(scope, self._hosts)
            await self._app(scope, receive, sent)
        except Exception as error:
            problem = as_problem(error)
            if problem.status == 405 and scope["method"] == "POST" and scope["path"].endswith("/_search"):
                problem = NotFound(reason="not-searched")  # `_search` is no id: a type that is not searched has none
            if problem.status in (400, 404, 405) and problem.reason != IN_URL and _names_person(scope):
                problem = person_in_url(self._fhir)  # at every address (spec/hostile-input K3)
            if problem.headers.get("WWW-Authenticate", "").startswith("DPoP "):  # RFC 9728 5.1
                problem.headers["WWW-Authenticate"] += f', resource_metadata="{self._resource_metadata}"'
            reason = problem.reason
            if problem.status >= 500:
                failure = getattr(problem, "failure", None)
                why = {"why": str(failure)} if failure is not None else {}
                log.error(
                    "failed", request_id=id_, reason=reason, error=type(error).__name__, where=where(error), **why
                )
            if sent.status is None:
                problem = await self._record(problem, scope, id_)
                await self._form(scope).answer(problem, id_)(scope, receive, sent)
        finally:
            self._note(scope, sent, reason, time.perf_counter() - began)

    async def _record(self, problem: Problem, scope: Scope, id_: str) -> Problem:
        """The refusal, recorded; `Unavailable` in its place when the record cannot be made."""
        method, door = _method(scope), self._template(scope)
        details = (("method", method), ("door", door), ("status", str(problem.status)))
        try:
            about = await self._whose(problem.about)
            about = {"requester": scope["state"].get("requester"), **about}
            await self._audit.record(
                Event(
                    attempt(method, door, problem.status, problem.reason),
                    Outcome.FAILURE if problem.status >= 500 else Outcome.REFUSED,
                    id_,
                    reason=problem.reason,
                    details=(*details, *about.pop("details", ())),
                    **about,
                )
            )
        except MdgError:
            return Unavailable(reason="audit")
        return problem

    def _form(self, scope: Scope) -> RefusalForm:
        return next(one.refusal for one in self._standards if one.covers(scope["path"]))

    def _template(self, scope: Scope) -> str:
        """The path template of the matched route: `/fhir/Patient/{id}`, never the path."""
        if scope.get("root_path"):  # a mounted application, such as the sandbox, has addresses of its own
            return f"{scope['root_path']}/…"
        return self._doors.get(scope.get("endpoint"), "unmatched")

    def _note(self, scope: Scope, sent: _Sent, reason: str, seconds: float) -> None:
        door, status = self._template(scope), sent.status or 0
        self._metrics.request(door, _method(scope), status, seconds, sent.bytes)
        if scope.get("root_path"):  # the sandbox inside a gateway: its first users look for the lines of the gateway
            return
        who = scope["state"].get("requester")
        log.info(
            "request",
            request_id=scope["state"]["request_id"],
            **({"callers_request_id": sent.callers_id} if sent.callers_id else {}),
            method=_method(scope),
            door=door,
            status=status,
            bytes=sent.bytes,
            ms=round(seconds * 1000, 1),
            **({"client": who.client_id[:256]} if who is not None else {}),
            **({"reason": reason} if reason else {}),
        )


class _Body:
    """The body of one request, as an application takes it. `whole` says whether all of it has been taken."""

    def __init__(self, receive: Receive, *, whole: bool) -> None:
        self._receive = receive
        self._begun = False
        self.whole = whole

    async def __call__(self) -> Message:
        self._begun = True
        return await self._take()

    async def take_rest(self) -> None:
        """Takes what an answer did not wait for, up to REST bytes and for REST_TIME: the client is still sending that,
        and would lose the answer if the connection ended meanwhile (RFC 9112 9.6). A body that an application has begun
        to take and gave up was too large or too slow, and is not waited for."""
        taken = 0
        with anyio.move_on_after(0 if self._begun else REST_TIME):
            while not self.whole and taken <= REST:
                taken += len((await self._take()).get("body", b""))

    async def _take(self) -> Message:
        message = await self._receive()
        self.whole = self.whole or not message.get("more_body", False)
        return message


class _Sent:
    """Sends on, with the headers that every answer has, and counts. An answer that comes before the `body` of the
    request is whole closes the connection, and says so."""

    def __init__(self, send: Send, request_id: str, callers_id: str | None, body: _Body, *, head: bool) -> None:
        self._send = send
        self._body = body
        self._ids = [(b"x-request-id", request_id.encode())]
        if callers_id is not None:
            self._ids.append((b"x-correlation-id", callers_id.encode()))
        self._head = head
        self.callers_id = callers_id
        self.status: int | None = None
        self.bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            names = {name for name, _ in given}
            given += [(name, value) for name, value in _ALWAYS if name not in names]
            await self._body.take_rest()
            if not self._body.whole and b"connection" not in names:
                given.append((b"connection", b"close"))
            message = {**message, "headers": [*given, *self._ids]}
        elif message["type"] == "http.response.body":
            self.bytes += 0 if self._head else len(message.get("body", b""))
        await self._send(message)


def as_problem(error: Exception) -> Problem:
    """What the caller is told. An error that is no refusal of ours says nothing but that there was one."""
    match error:
        case Problem():
            return error
        case HTTPException(status_code=404):
            return NotFound(reason="no-such-address")
        case HTTPException(status_code=405):
            return MethodNotAllowed("this address does not take that method", headers=error.headers)
        case HTTPException(status_code=413):
            return TooLarge("the body is too large")
        case ClientDisconnect():
            return Invalid("the body did not arrive whole", reason="disconnected")
        case _:
            name = type(error).__name__
            reason = str(getattr(error, "code", name)) if isinstance(error, MdgError) else f"fault-{name}"
            return Problem("the request could not be answered", reason=reason)


def _method(scope: Scope) -> str:
    """The method for log, metrics and record: strangers may invent any number of them."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _names_person(scope: Scope) -> bool:
    return names_person(unquote_plus(f"{scope['path']}?{scope['query_string'].decode('latin-1')}"))


def _check(scope: Scope, hosts: frozenset[str]) -> None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if scope["method"] not in METHODS:
        raise MethodNotAllowed("no such method here", headers={"Connection": "close", "Allow": "GET, HEAD, POST"})
    if scope["http_version"] not in ("1.0", "1.1"):
        raise HttpVersionNotSupported("speak HTTP/1.1", reason="http-version")
    line = len(scope["raw_path"]) + len(scope["query_string"])
    if len(headers) > HEADER_FIELDS or line + sum(len(n) + len(v) + 4 for n, v in headers) > HEADER_BYTES:
        raise HeaderTooLarge(
            f"at most {HEADER_BYTES} bytes and {HEADER_FIELDS} fields", headers={"Connection": "close"}
        )
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        raise Invalid("a body is framed in one way", reason="framing", headers={"Connection": "close"})
    named = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if scope["raw_path"] not in _PROBES and (len(named) != 1 or named[0] not in hosts):
        raise Invalid("Host is not a name of this gateway", reason="host")
    if not _PATH.fullmatch(scope["raw_path"]):
        raise Invalid("the path is not in its one form", reason="path-form")
