"""A `Release`: bytes that may leave now, and what must happen while and after they do.

A release is made after the decision and the durable record, so code that has a release may send it. `web.jmix.bulk`
alone turns a release into bytes on a connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants of a release: `GET` or `HEAD`, and the fields `Range`, `If-Range`, `If-Match` and
    `If-None-Match` as they came."""

    method: str
    range: str | None
    if_range: str | None
    if_match: str | None = None
    if_none_match: str | None = None


class Pieces(Protocol):
    """Blocking reader of one range: `_core.Stream`. None is the end."""

    def next(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Release:
    """`status` 200, 206 or 304 with its `headers`, and bytes [start, end) from `open`, which blocks, so in a worker.

    `again` decides anew and raises when the answer has changed; `ended` records how many bytes were handed to the
    connection and why it stopped: `complete`, `disconnected`, `slow-reader`, `aborted-consent`, `aborted-requester`,
    `stopped` with the gateway, or the code of an error.
    """

    status: int
    headers: Mapping[str, str]
    start: int
    end: int
    open: Callable[[int, int], Pieces] = field(repr=False)
    again: Callable[[], Awaitable[None]] = field(repr=False)
    ended: Callable[[int, str], Awaitable[None]] = field(repr=False)

    @property
    def length(self) -> int:
        """Bytes of the body, exactly."""
        return self.end - self.start
