"""How every command speaks: one JSON object with `--json`, else a few lines; errors and progress on standard error.

Progress is drawn only on a terminal. An error carries its next command as an exception note (`advise`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mdg.errors import InputOutput, MdgError, Misuse, Problem, Refused, Unsupported

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def printable(text: str) -> str:
    """`text` on one line: each character that a terminal would act on, or not show, is written as `\\u001b`.

    File names and the text of an envelope are a stranger's, and could fake lines or drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "".join(f"\\u{unit:04x}" for unit in _utf16(c)) for c in text)


def _utf16(character: str) -> Sequence[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


def say(report: Mapping[str, object], lines: Iterable[str], as_json: bool) -> None:
    """The answer of a command: `report` with `ok: true` as JSON, or `lines` for a person."""
    if as_json:
        _say_json({"ok": True, **report})
        return
    for line in lines:
        typer.echo(printable(line))


def _say_json(value: object) -> None:
    """One line of JSON. It has a spelling for each character, so `printable` changes no value."""
    typer.echo(printable(json.dumps(value, ensure_ascii=False)))


def complain(error: MdgError, as_json: bool) -> int:
    """Prints why a command failed and what to try next; returns its exit code."""
    if as_json:
        _say_json({"ok": False, "code": code_of(error), "message": str(error)})
    typer.echo(f"mdg: {printable(str(error))}", err=True)
    for command in getattr(error, "__notes__", ()):
        typer.echo(f"try: {printable(command)}", err=True)
    return error.exit_code


def command() -> str:
    """How `mdg` was called, for lines that are there to be copied: `make` runs one that is not on the user's path."""
    called = sys.argv[0]
    if Path(called).name != "mdg" or shutil.which("mdg") == called:
        return "mdg"
    return called


def room_for(out: Path, size: int) -> None:
    """`InputOutput` unless the disk of `out` has `size` bytes left: better said now than after a long write."""
    free = shutil.disk_usage(out.absolute().parent).free
    if free < size:
        raise InputOutput(str(out.absolute().parent), f"{megabytes(size)} needed, {megabytes(free)} free")


def new_place(out: Path) -> None:
    """`InputOutput` unless something new can be put at `out`; asked before any work is done."""
    if out.exists():
        raise InputOutput(str(out), "is already there; name another --out")
    if not out.parent.is_dir():
        raise InputOutput(str(out.parent), "is not a folder; make it, or name another --out")


def code_of(error: MdgError) -> str:
    """The machine-readable name of a failure: a code of docs/reference/error-codes.md."""
    match error:
        case Refused():
            return error.code
        case Problem():
            return error.reason
        case Unsupported():
            return "unsupported"
        case InputOutput():
            return "input-output"
        case Misuse():
            return "usage"
        case _:
            return "internal"


@contextmanager
def advise(command: str) -> Iterator[None]:
    """An error raised inside names `command` as what to try next, unless something nearer already did."""
    try:
        yield
    except MdgError as error:
        if not hasattr(error, "__notes__"):
            error.add_note(command)
        raise


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar over bytes as `callback(done, total)`; None when standard error is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(what), total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield show


def passed_over_line(names: Sequence[str], most: int = 5) -> str:
    """What was not looked at because it is no part of a study, named so that nobody wonders."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{count(len(names), 'file')} passed over: {', '.join(names[:most])}{more}"


def count(number: int, noun: str) -> str:
    """`1 study`, `2 studies`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def no_file(lines: int) -> str:
    """`1 line of identity.csv matches no file`."""
    return f"{count(lines, 'line')} of identity.csv {'matches' if lines == 1 else 'match'} no file"


def megabytes(size: int) -> str:
    """A size in bytes for a person, in units of 10^6 as networks and disks are sold."""
    return (
        f"{size / 1e6:,.0f} MB"
        if size >= 10_000_000
        else f"{size / 1e6:,.1f} MB"
        if size >= 100_000
        else f"{size:,} bytes"
    )
