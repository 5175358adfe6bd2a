"""`identity.csv`: which patient of which issuer is which IHI, who confirmed it, and when.

The first line is `PatientID,issuer,IHI,source,date`; UTF-8; `date` is `YYYY-MM-DD`. The file is the whole truth: what
is no longer in it is forgotten. One bad line refuses all of it, and every complaint names line and column, never a
value.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from mdg.errors import InputOutput, Refused
from mdg.model.identity import Ihi

COLUMNS = ["PatientID", "issuer", "IHI", "source", "date"]
LARGEST = 256 * 1024 * 1024
"""Bytes: about four million patients."""
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
COMPLAINTS = 20
"""Complaints that one answer lists; the rest are counted."""
MEMORY = 16
"""MiB of a table that are held in memory; the rest lies in a file without a name, which ends with the table."""
AT_ONCE = 5000
"""Lines that are taken from a table at a time."""

NO_ROOM = "there is no room for its lines; make room where temporary files lie (SQLITE_TMPDIR)"

Line: TypeAlias = tuple[str, str, str, str, str]
"""Issuer, PatientID, IHI, source and date."""
_SAME = " AND ".join(f"lines.{name} = now.{name}" for name in ("issuer", "patient", "ihi", "source", "verified"))


@dataclass(frozen=True, slots=True)
class CsvReport:
    """What was loaded: lines with an identity, and how many different patients and IHIs they name."""

    rows: int
    patients: int
    ihis: int


class IdentityTable:
    """The lines of one file, each of them right, in a place on the disk that no other process can open and that ends
    with this object. Used by one thread at a time. Every method blocks, and raises `sqlite3.Error` when the disk is
    full."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            f"""
            PRAGMA cache_size = {-MEMORY * 1024}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            CREATE TABLE lines (number INTEGER PRIMARY KEY, issuer, patient, ihi, source, verified);
            CREATE TABLE now (issuer, patient, ihi, source, verified,
                PRIMARY KEY (issuer, patient, ihi, source, verified)) WITHOUT ROWID;
            BEGIN;
            """
        )

    def close(self) -> None:
        """Gives back memory and disk."""
        self._database.close()

    def add(self, lines: Iterable[tuple[int, str, str, str, str, str]]) -> None:
        """Takes lines of the file, each behind its number."""
        self._database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", lines)

    def repeated(self) -> tuple[int, Sequence[tuple[int, int]]]:
        """How many lines name a patient whom an earlier line names; and of the first COMPLAINTS of them the number of
        the line and of the earlier one."""
        try:
            self._database.execute("CREATE UNIQUE INDEX patients ON lines (issuer, patient)")
        except sqlite3.IntegrityError:
            earlier = "min(number) OVER (PARTITION BY issuer, patient)"
            both = f"FROM (SELECT number, {earlier} AS earlier FROM lines) WHERE number > earlier"  # noqa: S608 -- no value in it
            ((many,),) = self._database.execute(f"SELECT count(*) {both}")
            first = f"SELECT number, earlier {both} ORDER BY number LIMIT {COMPLAINTS}"
            return many, self._database.execute(first).fetchall()
        return 0, ()

    def report(self) -> CsvReport:
        """How much there is."""
        ((rows, ihis),) = self._database.execute("SELECT count(*), count(DISTINCT ihi) FROM lines")
        return CsvReport(rows, rows, ihis)

    def compare(self, now: Iterable[Line]) -> None:
        """Takes a part of what is in force, for `gone` and `come`."""
        self._database.executemany("INSERT INTO now VALUES (?, ?, ?, ?, ?)", now)

    def gone(self) -> Iterator[Sequence[Line]]:
        """What is in force and not in the file, AT_ONCE lines at a time."""
        return self._pages(f"SELECT * FROM now WHERE NOT EXISTS (SELECT 1 FROM lines WHERE {_SAME})")  # noqa: S608 -- no value in it

    def come(self) -> Iterator[Sequence[Line]]:
        """What is in the file and not in force, in the order of the store's index, AT_ONCE lines at a time."""
        new = f"FROM lines WHERE NOT EXISTS (SELECT 1 FROM now WHERE {_SAME})"  # noqa: S608 -- no value in it
        return self._pages(f"SELECT issuer, patient, ihi, source, verified {new} ORDER BY issuer, patient")

    def _pages(self, statement: str) -> Iterator[Sequence[Line]]:
        with closing(self._database.execute(statement)) as cursor:
            while page := cursor.fetchmany(AT_ONCE):
                yield page


def digest(path: Path) -> bytes:
    """SHA-256 of the file. `InputOutput` when it cannot be read. Blocks."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; give the path of an identity file") from error


def check(path: Path) -> None:
    """Reads the file and keeps nothing. Errors as `read`. Blocks."""
    read(path).close()


def read(path: Path) -> IdentityTable:
    """The lines of the file. `Refused` E_IDENTITY with every bad line, `InputOutput` when the file is not there or its
    lines have no room. Memory does not grow with the file. Blocks."""
    table = IdentityTable()
    try:
        _read(path, table)
    except BaseException:
        table.close()
        raise
    return table


def _read(path: Path, table: IdentityTable) -> None:
    part = path.name
    try:
        if path.stat().st_size > LARGEST:
            raise Refused("E_IDENTITY", part, f"larger than {LARGEST} bytes; split it by issuer")
        with path.open(encoding="utf-8-sig", newline="") as file:
            _fill(table, part, csv.reader(file, strict=True))
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; give the path of an identity file") from error
    except UnicodeDecodeError as error:
        why = f"line {_line_of_no_text(path)} is not UTF-8; save the file as UTF-8; nothing was loaded"
        raise Refused("E_IDENTITY", part, why) from error
    except sqlite3.Error as error:
        raise InputOutput(str(path), NO_ROOM) from error


def _line_of_no_text(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1  # the file has been replaced meanwhile


def _fill(table: IdentityTable, part: str, lines: csv._reader) -> None:  # type: ignore[name-defined] # typeshed hides the type
    complaints: list[tuple[int, str]] = []
    wrong = 0
    latest = (datetime.now(UTC) + timedelta(hours=14)).date()  # a date of the easternmost zone, at the latest

    def right() -> Iterator[tuple[int, str, str, str, str, str]]:
        """Every right line; the others are complained of."""
        nonlocal wrong
        rest = filter(None, lines)
        while True:
            try:
                for fields in rest:
                    yield (lines.line_num, *_line(fields, latest))
                return
            except UnicodeDecodeError:
                raise
            except (ValueError, csv.Error) as error:
                wrong += 1
                if len(complaints) < COMPLAINTS:
                    complaints.append((lines.line_num, str(error)))
                if isinstance(error, csv.Error):
                    return

    if next(lines, None) != COLUMNS:
        raise Refused("E_IDENTITY", part, f"line 1 must be {','.join(COLUMNS)}")
    table.add(right())
    again, places = table.repeated()
    complaints += [(line, f"the same PatientID and issuer as line {first}; keep one of them") for line, first in places]
    if complaints:
        said = "; ".join(f"line {line}: {why}" for line, why in sorted(complaints)[:COMPLAINTS])
        more = f"; and {wrong + again - COMPLAINTS} more lines" if wrong + again > COMPLAINTS else ""
        raise Refused("E_IDENTITY", part, said + more + "; nothing was loaded")


def _line(fields: list[str], latest: date) -> Line:
    """One line; `ValueError` says which column is wrong and how it should be, without its value."""
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} columns instead of {len(COLUMNS)}")
    value, issuer, ihi, source, day = stripped = [field.strip() for field in fields]
    if not (all(stripped) and "".join(stripped).isprintable()):
        bad = ((name, one) for name, one in zip(COLUMNS, stripped, strict=True) if not (one and one.isprintable()))
        column, field = next(bad)
        raise ValueError(f"{column} has a control character" if field else f"{column} is empty")
    verified = _date(day)
    if verified > latest:
        raise ValueError("date lies in the future")
    return issuer, value, str(Ihi.parse(ihi)), source, day


@lru_cache(maxsize=4096)
def _date(day: str) -> date:
    """A table names few days, many times."""
    try:
        return date.fromisoformat(day if _DAY.fullmatch(day) else "")
    except ValueError:
        raise ValueError("date must be YYYY-MM-DD") from None
