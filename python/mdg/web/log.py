"""Logs: JSON lines, or coloured lines on a terminal; one event each, escaped and cut, never a person's data."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

LONGEST = 1024
"""Characters of one value (security-tests K1)."""


def configure() -> None:
    """Sets up `structlog` and the standard library's logging for a gateway process, on standard error."""
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cut,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if terminal else logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(_StandardError()),  # type: ignore[arg-type] # it writes and flushes
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


class _StandardError:
    """Standard error as it is when a line is written: a progress bar takes its place, to print lines above itself."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _cut(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """No control characters (a line break would forge a line), nothing endless."""
    for name, value in event.items():
        if isinstance(value, str):
            clean = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in value[:LONGEST])
            event[name] = clean
    return event
