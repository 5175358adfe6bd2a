"""`mdg inspect`: what an envelope says to somebody without any key, and what that does not prove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdg.cli.report import Verbose, format_of, notes
from mdg.cli.terminal import Json, advise, megabytes, say

if TYPE_CHECKING:
    from mdg.envelope import Report

PRESENT = {
    "full": "present, not checked",
    "partial": "present, not checked; it leaves out the security block of the manifest, and so the payload",
    "meaningless": "present, not checked; it covers nothing that matters",
    "none": "none",
}
"""What to say of a signature that no key was tried on, by how far it would reach."""


def inspect(
    path: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A ZIP file or a folder.")],
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Show the clear parts of an envelope, without any key."""
    from mdg import envelope

    with advise("mdg inspect ENVELOPE, a file or folder that mdg pack or a gateway made"):
        report = envelope.inspect(path)
    say({**report.to_json(), "ok": True}, (*_lines(report, path), *notes(report, verbose)), as_json)


def _lines(report: Report, path: Path) -> list[str]:
    receivers = ", ".join(f"{party.name or 'no name'}, {party.id}" for party in report.receiver)
    size = report.payload_bytes
    return [
        f"envelope: {report.id}, made {report.timestamp}",
        f"from: {report.sender.name or 'no name'}, {report.sender.id}",
        f"for: {receivers}",
        f"payload: {'lies open or is missing' if size is None else f'{megabytes(size)}, sealed'}",
        f"signature: {PRESENT[report.signature]}",
        f"format: {format_of(report)}",
        *([f"classification: {report.classification}"] if report.classification else []),
        *([f"answers the request with SHA-256 {report.request}"] if report.request else []),
        *(f"warning: {warning}" for warning in report.warnings),
        "not proved: who signed it, that nothing was changed, what is inside. Anybody can write these lines.",
        f"next: mdg verify {path} --trust CARD",
    ]
