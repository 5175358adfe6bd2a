"""Every error that mdg raises on purpose, drawn as a tree.

```
MdgError
├── Refused          content or a signature breaks a rule; has a code such as E_SIG_INVALID      exit 3
├── Unsupported      valid, but not something this version reads or writes                       exit 3
├── InputOutput      a file, socket or database could not be read or written                     exit 4
├── Misuse           the caller asked for something that makes no sense                          exit 2
└── Problem          an answer of the gateway that is not the one asked for; has an HTTP status  exit 1
    ├── Unauthenticated   401 login
    ├── Forbidden         403 forbidden
    │   └── InsufficientScope
    ├── NotFound          404 not-found
    ├── Invalid           400 invalid
    ├── NotSupported      400 not-supported
    ├── Required          400 required
    ├── MethodNotAllowed  405 not-supported
    ├── NotAcceptable     406 not-supported
    ├── TooSlow           408 timeout
    ├── Conflict          409 conflict
    ├── PreconditionFailed  412 conflict
    ├── TooLarge          413 too-long
    ├── UnsupportedMedia  415 not-supported
    ├── RangeInvalid      416 invalid
    ├── Unprocessable     422 processing
    ├── Throttled         429 throttled
    ├── Unavailable       503 transient
    └── Upstream          502 transient: another service answered, and not with what was asked for
```

Messages say what, where and what to do next. They never hold a person's name, identifier or token. Rust raises the
first four; the map from its enum to these classes is `rust/py/src/error.rs`. HTTP statuses and FHIR issue codes follow
RFC 9110 and https://hl7.org/fhir/R4/valueset-issue-type.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar


class MdgError(Exception):
    """Anything that mdg refuses or fails to do, with the exit code that a command ends with."""

    exit_code: ClassVar[int] = 1


class Refused(MdgError):
    """Content or a signature breaks a rule.

    `code` is one of docs/reference/error-codes.md (`E_…`), `part` names the file, archive entry or element, `at` is the
    byte offset inside that part when it is known.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, code: str, part: str, why: str, at: int | None = None) -> None:
        where = part if at is None else f"{part}, byte {at}"
        super().__init__(f"{code}: {where}: {why}")
        self.code = code
        self.part = part
        self.why = why
        self.at = at


class Unsupported(MdgError):
    """Valid input of a kind that this version does not handle."""

    exit_code: ClassVar[int] = 3

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part
        self.why = why


class InputOutput(MdgError):
    """A file, socket or database could not be read or written."""

    exit_code: ClassVar[int] = 4

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part
        self.why = why


class Misuse(MdgError):
    """The caller asked for something that makes no sense, such as a key of 31 bytes."""

    exit_code: ClassVar[int] = 2


class Problem(MdgError):
    """An HTTP answer other than the one asked for. Each standard renders it in its own form (`web.standard`).

    `diagnostics` reaches the caller; `reason` is a short code that goes to log and audit only; `about` says whom and
    what the refused request was about, and goes to the audit only (`mdg.errors.about`).
    """

    status: ClassVar[int] = 500
    issue: ClassVar[str] = "exception"

    def __init__(self, diagnostics: str = "", *, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(diagnostics or type(self).__name__)
        self.diagnostics = diagnostics
        self.reason = reason or type(self).__name__
        self.headers: dict[str, str] = dict(headers or {})
        self.about: dict[str, Any] = {}


class Unauthenticated(Problem):
    """No token, or one that does not hold (`error` is the RFC 6750/9449 code; empty when no token was sent)."""

    status = 401
    issue = "login"

    def __init__(self, *, reason: str, error: str = "invalid_token") -> None:
        challenge = f'DPoP error="{error}", algs="ES256"' if error else 'DPoP algs="ES256"'
        super().__init__("authentication is required", reason=reason, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """The same body for every cause; the cause is in `reason`."""

    status = 403
    issue = "forbidden"

    def __init__(self, *, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("access is not permitted", reason=reason, headers=headers)


class InsufficientScope(Forbidden):
    """The token is good, but its scopes do not open this operation (RFC 6750 3.1)."""

    def __init__(self) -> None:
        super().__init__(
            reason="insufficient-scope", headers={"WWW-Authenticate": 'DPoP error="insufficient_scope", algs="ES256"'}
        )


class NotFound(Problem):
    """Unknown, hidden or not the caller's: all alike."""

    status = 404
    issue = "not-found"

    def __init__(self, *, reason: str = "not-found") -> None:
        super().__init__("no such resource", reason=reason)


class Invalid(Problem):
    """A parameter or body that cannot be understood."""

    status = 400
    issue = "invalid"


class NotSupported(Problem):
    """A parameter or modifier that this server does not offer; it is refused, never ignored."""

    status = 400
    issue = "not-supported"


class Required(Problem):
    """Something that the request must say is missing."""

    status = 400
    issue = "required"


class MethodNotAllowed(Problem):
    """The address exists, the method does not."""

    status = 405
    issue = "not-supported"


class NotAcceptable(Problem):
    """`Accept` or `_format` admits nothing that is offered."""

    status = 406
    issue = "not-supported"


class TooSlow(Problem):
    """A body that comes so slowly that only a fault or an attack explains it (spec/hostile-input F14)."""

    status = 408
    issue = "timeout"


class Conflict(Problem):
    """The request meets a state that forbids it, such as a nonce that was seen."""

    status = 409
    issue = "conflict"


class PreconditionFailed(Problem):
    """`If-Match` names other representations than the one that is here (RFC 9110 13.1.1)."""

    status = 412
    issue = "conflict"


class TooLarge(Problem):
    """A body over its limit (spec/hostile-input 1)."""

    status = 413
    issue = "too-long"


class UnsupportedMedia(Problem):
    """A `Content-Type` or `Content-Encoding` that this address does not take."""

    status = 415
    issue = "not-supported"


class RangeInvalid(Problem):
    """No range of the request can be satisfied (RFC 9110 15.5.17)."""

    status = 416
    issue = "invalid"


class Unprocessable(Problem):
    """Understood, and not possible here."""

    status = 422
    issue = "processing"


class Throttled(Problem):
    """Too many requests."""

    status = 429
    issue = "throttled"


class Unavailable(Problem):
    """Something needed for a safe answer is not there; nothing was released.

    `failure` says to the operator what could not be read or written, and why. It is never sent to a caller.
    """

    status = 503
    issue = "transient"

    def __init__(
        self,
        diagnostics: str = "try again later",
        *,
        reason: str,
        retry_after: int = 5,
        failure: InputOutput | None = None,
    ) -> None:
        super().__init__(diagnostics, reason=reason, headers={"Retry-After": str(retry_after)})
        self.failure = failure


class Upstream(Problem):
    """Another gateway or service refused, or answered with something that cannot be used.

    `answered` is the status it gave (0 when the answer was of no use); its own words, if any, are in `diagnostics`.
    """

    status = 502
    issue = "transient"

    def __init__(self, diagnostics: str, *, answered: int = 0, reason: str) -> None:
        super().__init__(diagnostics, reason=reason)
        self.answered = answered


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Gives a refusal that is raised inside `facts` for its audit record: fields of `model.event.Event`, such as
    `patient` and `study_uid`. No fact reaches the answer, the log or a metric. What is nearer to the refusal counts
    more."""
    try:
        yield
    except Problem as error:
        error.about = {name: fact for name, fact in facts.items() if fact is not None} | error.about
        raise


def reason(error: BaseException) -> str:
    """Why, for log and audit: a short code, and never the message, which may hold what a stranger wrote."""
    match error:
        case Problem():
            return error.reason
        case Refused():
            return error.code
        case _:
            return type(error).__name__


def where(error: BaseException) -> str:
    """File and line of the innermost frame: enough to find it, and no value of anybody."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename.rpartition('mdg/')[2]}:{frame.tb_lineno}" if frame else ""
