"""Who is at the other end of the connection that is being served. The edge of a listener says so once, and each event
that is made meanwhile names this caller: a door or a story cannot forget it. Work behind the answers has no caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """`address` is the caller's network address, "" when it is not known; `request_id` is the X-Request-ID that the
    caller sent, None without one. A stranger may send any id: it says nothing about whose request it was."""

    address: str
    request_id: str | None


_SERVED: ContextVar[Caller | None] = ContextVar("caller", default=None)


def served() -> Caller | None:
    """The caller whose request is being served, None outside of a request. It is known in the task of the request only,
    and not in the one that writes to the database."""
    return _SERVED.get()


@contextmanager
def serving(caller: Caller) -> Iterator[Caller]:
    """Each event that is made inside names this caller."""
    before = _SERVED.set(caller)
    try:
        yield caller
    finally:
        _SERVED.reset(before)
