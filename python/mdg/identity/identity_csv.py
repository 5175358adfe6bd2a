"""`identity.csv`: which patient of which issuer is which IHI, who confirmed it, and when.

The first line is `PatientID,issuer,IHI,source,date`; UTF-8; `date` is `YYYY-MM-DD`. The file is the whole truth: what
is no longer in it is forgotten. One bad line refuses all of it, and every complaint names line and column, never a
value.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from mdg.errors import InputOutput, Refused
from mdg.identity.enrichment import Claim
from mdg.model.identity import Ihi, LocalId

COLUMNS = ["PatientID", "issuer", "IHI", "source", "date"]
LARGEST = 256 * 1024 * 1024
"""Bytes: about four million patients."""
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
COMPLAINTS = 20
"""Complaints that one answer lists; the rest are counted."""


@dataclass(frozen=True, slots=True)
class CsvReport:
    """What was loaded: lines with an identity, and how many different patients and IHIs they name."""

    rows: int
    patients: int
    ihis: int


def digest(path: Path) -> bytes:
    """SHA-256 of the file. `InputOutput` when it cannot be read. Blocks."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; give the path of an identity file") from error


def read(path: Path) -> list[Claim]:
    """The claims of the file. `Refused` E_IDENTITY with every bad line, `InputOutput` when it is not there. Blocks."""
    part = path.name
    try:
        if path.stat().st_size > LARGEST:
            raise Refused("E_IDENTITY", part, f"larger than {LARGEST} bytes; split it by issuer")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _claims(part, csv.reader(file, strict=True))
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; give the path of an identity file") from error
    except UnicodeDecodeError as error:
        raise Refused("E_IDENTITY", part, "not UTF-8; save it as UTF-8", at=error.start) from error


def _claims(part: str, lines: csv._reader) -> list[Claim]:  # type: ignore[name-defined] # typeshed hides the type
    claims: list[Claim] = []
    first_seen: dict[LocalId, int] = {}
    complaints: list[str] = []
    try:
        if next(lines, None) != COLUMNS:
            raise Refused("E_IDENTITY", part, f"line 1 must be {','.join(COLUMNS)}")
        for fields in lines:
            if not fields:
                continue
            try:
                claim = _claim(fields)
                before = first_seen.setdefault(claim.local, lines.line_num)
                if before != lines.line_num:
                    raise ValueError(f"the same PatientID and issuer as line {before}; keep one of them")
                claims.append(claim)
            except ValueError as error:
                complaints.append(f"line {lines.line_num}: {error}")
    except csv.Error as error:
        complaints.append(f"line {lines.line_num}: {error}")
    if complaints:
        more = f"; and {len(complaints) - COMPLAINTS} more lines" if len(complaints) > COMPLAINTS else ""
        raise Refused("E_IDENTITY", part, "; ".join(complaints[:COMPLAINTS]) + more + "; nothing was loaded")
    return claims


def _claim(fields: list[str]) -> Claim:
    """One line; `ValueError` says which column is wrong and how it should be, without its value."""
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} columns instead of {len(COLUMNS)}")
    value, issuer, ihi, source, day = (field.strip() for field in fields)
    for column, field in zip(COLUMNS, (value, issuer, ihi, source, day), strict=True):
        if not field:
            raise ValueError(f"{column} is empty")
        if not field.isprintable():
            raise ValueError(f"{column} has a control character")
    try:
        verified = date.fromisoformat(day if _DAY.fullmatch(day) else "")  # strptime takes a third of an import
    except ValueError:
        raise ValueError("date must be YYYY-MM-DD") from None
    if verified > (datetime.now(UTC) + timedelta(hours=14)).date():  # a date of the easternmost zone, at the latest
        raise ValueError("date lies in the future")
    return Claim(LocalId(value, issuer), Ihi.parse(ihi), source, verified)
