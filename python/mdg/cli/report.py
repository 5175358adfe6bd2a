"""The report on a verified envelope, for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mdg.cli.terminal import count, megabytes

if TYPE_CHECKING:
    from mdg.envelope import Report


def lines(report: Report, *, opened: bool) -> Iterator[str]:
    """What was checked, in the order of the checks. Without the key the content was not looked at, and it says so."""
    yield f"signature: {report.signature}, by a key you trust"
    if opened and report.instances is not None and report.files is not None and report.bytes is not None:
        inside = (
            f"{count(report.instances, 'instance')}, {count(report.files, 'other file')}, {megabytes(report.bytes)}"
        )
        yield f"content: {inside}; every SHA-256 equal"
    else:
        yield "content: not opened; the sealed bytes are those that were signed (give --key to check what is inside)"
    yield f"format: {report.profile}, {report.dialect}"
    unsigned = sorted({part.part for part in report.unsigned})
    if unsigned:
        yield f"not covered by the signature: {', '.join(unsigned)}"
    yield from (f"warning: {warning}" for warning in report.warnings)
