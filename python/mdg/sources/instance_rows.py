"""A batch of files becomes index rows: header facts, SHA-256 and check table of each (`headers`), or why it cannot be
served. Blocks; runs in a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdg._core import Indexed
from mdg.errors import InputOutput, Refused, Unsupported
from mdg.sources import facts, headers, other_files
from mdg.sources.listing import File
from mdg.store.index import PASSED_OVER, object_row

BATCH = 32
"""Files of one call and one commit: a kill costs a scan of 10,000 files at most 0.32 % of them."""

Rows = list[dict[str, Any]]


def read(files: Sequence[File]) -> tuple[Rows, Rows]:
    """(rows of `instances` as `index.keep` takes them, rows of `problems`), one row for each file."""
    found: Rows = []
    bad: Rows = []
    readable = [file for file in files if file.unreadable is None and not other_files.is_hidden(file.name)]
    indexed = dict(zip(readable, headers.index_files([file.path for file in readable]), strict=True))
    for file in files:
        try:
            if other_files.is_hidden(file.name) and file.unreadable is None:
                _look_at_hidden(file)
            found.append(_instance(file, indexed.get(file)))
        except Refused as error:
            read = indexed.get(file)
            passed = other_files.passed_over(file.name, read.header if read else None, error.code)
            passed |= other_files.is_hidden(file.name) and file.unreadable is not None
            bad.append(
                object_row(file.path, file.version, file.size)
                | {"code": PASSED_OVER if passed else error.code, "message": error.why}
            )
    return found, bad


def _look_at_hidden(file: File) -> None:
    """Never an instance, so its bytes are not digested: it may be a large file that is being copied. `Refused` why."""
    try:
        headers.read_header(file.path)
    except (Unsupported, InputOutput) as error:
        raise Refused("E_SOURCE", file.path, error.why) from error
    other_files.check_shown(file.name, file.path)


def _instance(file: File, read: Indexed | None) -> dict[str, Any]:
    """The row of a file that can be served; `Refused` says why it cannot and what to do."""
    if read is None:
        raise Refused("E_DICOM", file.path, file.unreadable or "it cannot be read")
    header = read.header
    if header is not None and header.is_directory:
        raise Refused("E_DICOM", file.path, "it is the DICOMDIR of a disk, which lists other files")
    if header is None or read.digest is None:
        code, why = read.problem or ("E_DICOM", "it cannot be read")
        raise Refused(code, file.path, why.removeprefix(f"{code}: ").removeprefix(file.path).lstrip(":, "))
    study, series, uid, kept = facts.facts(header, file.path)
    return object_row(file.path, str(read.mtime_ns), read.digest.size) | {
        "sha256": read.digest.sha256,
        "check": read.digest.check,
        "study": study,
        "series": series,
        "uid": uid,
        "facts": kept,
    }
