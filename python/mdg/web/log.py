"""Logs: JSON lines, or coloured lines on a terminal; one event each, escaped and cut, never a person's data.

A log that cannot be written (a full disk, a closed pipe) never disturbs the work that it tells of: its lines are
dropped and counted.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog
from prometheus_client import Counter

LONGEST = 1024
"""Characters of one value (spec/hostile-input K1)."""

DROPPED = Counter("mdg_log_dropped_lines", "Log lines that could not be written.", registry=None)
"""Of the whole process, which has one log."""


class Lines:
    """A text stream on a file descriptor that never raises. A call of `write` is one line, which is written whole or is
    dropped and counted; nothing is buffered, so that no old line holds up a new one. Without a descriptor all lines are
    dropped."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._torn = False

    def write(self, line: str) -> int:
        """Writes `line` now, or drops it."""
        # What a full disk cut short ends here, so that this line stands alone.
        left = (b"\n" if self._torn else b"") + line.encode("utf-8", "backslashreplace")
        try:
            while left and self._descriptor is not None:
                written = os.write(self._descriptor, left)
                left, self._torn = left[written:], written < len(left)
        except OSError:
            pass
        if left:
            DROPPED.inc()
        return len(line)

    def flush(self) -> None:
        """Nothing waits to be written."""


class Terminal:
    """The terminal as it is when a line is written: a progress bar takes the place of standard error, to print lines
    above itself. Never raises, as `Lines`."""

    def write(self, line: str) -> int:
        """Writes `line` now, or drops it."""
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):
            DROPPED.inc()
        return len(line)

    def flush(self) -> None:
        """Nothing waits to be written."""


def configure() -> None:
    """Sets up `structlog` and the standard library's logging for a gateway process, on standard error."""
    there = sys.stderr is not None
    terminal = there and sys.stderr.isatty()
    lines: Any = Terminal() if terminal else Lines(sys.stderr.fileno() if there else None)
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cut,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=lines, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def _cut(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """No control characters (a line break would forge a line), nothing endless."""
    for name, value in event.items():
        if isinstance(value, str):
            clean = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in value[:LONGEST])
            event[name] = clean
    return event
