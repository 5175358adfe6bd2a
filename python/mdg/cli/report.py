"""The report on an envelope, for a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdg.cli.terminal import count, megabytes
from mdg.errors import InputOutput, MdgError, Refused

if TYPE_CHECKING:
    from mdg.envelope import Report

Verbose = Annotated[
    bool,
    typer.Option("--verbose", help="Also say what holds for every envelope of this format, and what nothing signs."),
]


NEXT = {
    "E_ZIP_END": "fetch it again, if it should be an envelope: it was cut off, appended to, or is another file",
    "E_ZIP_CRC": "fetch it again: it was damaged on the way",
    "E_PAYLOAD_HASH": "fetch it again: it was damaged or changed on the way",
    "E_SIG_INVALID": "do not use it, and tell the sender: its signature is wrong",
    "E_MANIFEST_MISMATCH": "do not use it, and tell the sender: its manifest was changed after it was signed",
    "E_SIG_KEY": "mdg inspect {path} says who it claims to be from; get that sender's card and name it with --trust",
    "E_NO_RECIPIENT": "name the key whose card the sender had with --key",
    "E_PROFILE_VERSION": "update mdg",
}
"""What to do after a refusal, where the table of error codes has something better than to look at the envelope."""


@contextmanager
def next_step(path: Path) -> Iterator[None]:
    """A refusal of the envelope at `path` says what to do, as docs/reference/error-codes.md does. A file or disk that
    fails has said so, and no other command reads it better."""
    try:
        yield
    except MdgError as error:
        code = error.code if isinstance(error, Refused) else ""
        if not hasattr(error, "__notes__") and not isinstance(error, InputOutput):
            error.add_note(NEXT.get(code, "mdg inspect {path}").format(path=path))
        raise


def envelope_size(path: Path) -> int:
    """Bytes of an envelope, a file or a folder; 0 when it is not there. Its content is about as long."""
    return sum(part.stat().st_size for part in (path.iterdir() if path.is_dir() else [path]) if part.is_file())


def lines(report: Report, *, opened: bool, verbose: bool = False) -> Iterator[str]:
    """What was checked, in the order of the checks. Without the key the content was not looked at, and it says so."""
    yield f"signature: {report.signature}, by a key you trust"
    if opened and report.instances is not None and report.files is not None and report.bytes is not None:
        others = f"{count(report.files, 'other file')}, " if report.files else ""
        yield (
            f"content: {count(report.instances, 'instance')}, {others}{megabytes(report.bytes)}; every SHA-256 equal"
        )
    else:
        yield "content: not opened; the sealed bytes are those that were signed (give --key to check what is inside)"
    yield f"format: {format_of(report)}"
    yield from (f"warning: {warning}" for warning in report.warnings)
    yield from notes(report, verbose)


def format_of(report: Report) -> str:
    """The format, and the dialect where it has another name."""
    return ", ".join(dict.fromkeys((report.profile, *([report.dialect] if report.dialect else []))))


def notes(report: Report, verbose: bool) -> Iterator[str]:
    """What is so of every envelope of the format, and the parts that nothing signs: no news, so only when asked for."""
    if not verbose:
        return
    unsigned = sorted({part.part for part in report.unsigned})
    if unsigned:
        yield f"note: not covered by the signature: {', '.join(unsigned)}"
    yield from (f"note: {note}" for note in report.notes)
