"""Header facts of any DICOM file: the core reads explicit and implicit little endian, pydicom the rest.

pydicom reads big endian and deflated data sets up to the pixel data, only the attributes that are kept, and they are
handed to the core in explicit little endian: identifiers, text and facts have one meaning, whatever the encoding.
Inflating stops at the pixel data and is bounded (security-tests 2). All functions block: call them in a worker thread.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pydicom.config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian

from mdg import _core
from mdg._core import Header, Indexed
from mdg.errors import InputOutput, MdgError, Refused, Unsupported

# A warning of pydicom about a value holds that value, and may end in a log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

LARGEST_INFLATED = 512 << 20
"""Bytes that a deflated data set may grow to before its pixel data is reached."""
LARGEST_RATIO = 100
RATIO_COUNTS_FROM = 1 << 20
_PIECE = 64 << 10

_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_KEPT: list[BaseTag | int] = [
    Tag(keyword)
    for keyword in (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyDate", "StudyTime", "AccessionNumber"),
        *("IssuerOfAccessionNumberSequence", "Modality", "InstitutionName", "ReferringPhysicianName"),
        *("TimezoneOffsetFromUTC", "StudyDescription", "SeriesDescription", "PatientName", "PatientID"),
        *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex"),
        *("OtherPatientIDs", "OtherPatientIDsSequence", "BodyPartExamined", "StudyInstanceUID"),
        *("SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Laterality", "NumberOfFrames"),
        *("Rows", "Columns", "BitsAllocated"),
    )
]


def read_header(path: str | os.PathLike[str]) -> Header:
    """The facts of one file. `Refused` E_DICOM or E_LIMIT with part and byte, `InputOutput` when it cannot be read."""
    name = os.fspath(path)
    try:
        return _core.read_header(name)
    except Unsupported:
        return _by_pydicom(name)


def index_files(paths: Sequence[str], threads: int = 0) -> list[Indexed]:
    """`_core.index_files`, and what it leaves to pydicom is read as well. Raises nothing for a bad file."""
    return [_completed(found) for found in _core.index_files(paths, threads)]


def _completed(found: Indexed) -> Indexed:
    if found.problem is None or found.problem[0] != "E_UNSUPPORTED":
        return found
    try:
        header = _by_pydicom(found.path)
        now = Path(found.path).stat()
    except Refused as error:
        return found.with_problem(error.code, f"{error}; send the file again from where it came")
    except (MdgError, OSError) as error:
        return found.with_problem("E_SOURCE", f"{error}; check the file and its permissions")
    if found.digest is None or (now.st_mtime_ns, now.st_size) != (found.mtime_ns, found.digest.size):
        why = f"{found.path}: changed while it was read; it is read again when it is at rest"
        return found.with_problem("E_CHANGED", why)
    return found.with_header(header)


def _by_pydicom(name: str) -> Header:
    try:
        with Path(name).open("rb") as file:
            return _transcoded(file, name)
    except OSError as error:
        raise InputOutput(name, error.strerror or "cannot be read") from error
    except MdgError:
        raise
    except Exception as error:  # pydicom raises nearly anything on malformed input, RecursionError included
        raise Refused("E_DICOM", name, f"pydicom cannot read this data set ({type(error).__name__})") from error


def _transcoded(file: BinaryIO, name: str) -> Header:
    """What the core calls `Unsupported`: group 0002 was sound, or the file begins with a data set in big endian."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(132)
    file.seek(132 if start[128:] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    syntax = str(meta.get("TransferSyntaxUID", ExplicitVRBigEndian))
    pixels = _Pixels()
    offset = length = None
    if syntax == ExplicitVRBigEndian:
        data_set = _read(file, name, False, pixels)
        end = file.tell()
        if pixels.found:
            offset, length = end + 12, pixels.length
            end = offset + (length or 0)
    else:
        inflated = Inflating(file, name)
        data_set = _read(inflated, name, True, pixels)
        end, size = inflated.tell(), inflated.size(inflated.tell())
    if end > size:
        raise Refused(
            "E_DICOM", name, f"an element ends at byte {end}, the data set at byte {size}: it was cut off", size
        )
    return _core.header_of(
        _explicit_little_endian(data_set, name),
        name,
        transfer_syntax=syntax,
        pixel_offset=offset,
        pixel_length=length,
        start=start,
    )


def _read(source: _Source, name: str, little_endian: bool, pixels: _Pixels) -> Dataset:
    whole = cast("BinaryIO", _WholeHeads(source, name))
    return read_dataset(whole, False, little_endian, stop_when=pixels.reached, specific_tags=_KEPT)


def _explicit_little_endian(data_set: Dataset, name: str) -> bytes:
    for raw in data_set.values():
        if isinstance(raw, RawDataElement) and raw.length not in (0xFFFFFFFF, len(raw.value or b"")):
            raise Refused("E_DICOM", name, f"{raw.tag} says {raw.length} bytes and was cut off", raw.value_tell)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, data_set)
    return buffer.getvalue()


class _Source(Protocol):
    def tell(self) -> int: ...
    def seek(self, position: int, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


class _WholeHeads:
    """Refuses a source that ends inside the head of an element, where pydicom takes the end for a good one."""

    def __init__(self, source: _Source, name: str) -> None:
        self._source = source
        self._name = name
        self.tell = source.tell
        self.seek = source.seek

    def read(self, size: int) -> bytes:
        found = self._source.read(size)
        if 0 < len(found) < size <= 8:
            raise Refused("E_DICOM", self._name, f"it was cut off: {len(found)} of {size} bytes are left", self.tell())
        return found


class _Pixels:
    """Stops a reader at the pixel data, and keeps its length in bytes (None when undefined)."""

    found = False
    length: int | None = None

    def reached(self, tag: BaseTag, _vr: str | None, length: int) -> bool:
        self.found = tag in _PIXEL_DATA
        self.length = None if length == 0xFFFFFFFF else length
        return self.found


class Inflating:
    """A deflated data set as a file of its inflated bytes, inflated as far as somebody reads (PS3.5 A.5: raw deflate).

    It keeps what it has inflated, at most `LARGEST_INFLATED` bytes: `Refused` E_LIMIT beyond, and past `LARGEST_RATIO`
    times the bytes it came from once it is larger than `RATIO_COUNTS_FROM`."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._inflated = bytearray()
        self._taken = 0
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        end = min(self._position + size, self.size(self._position + size))
        found = bytes(self._inflated[self._position : end])
        self._position += len(found)
        return found

    def size(self, wanted: int) -> int:
        """How many bytes there are, counted up to `wanted` at least."""
        while len(self._inflated) < wanted and not self._inflater.eof:
            piece = self._inflater.unconsumed_tail or self._source.read(_PIECE)
            if not piece:
                raise Refused("E_DICOM", self._name, "the deflated data set was cut off", self._source.tell())
            self._inflated += self._inflater.decompress(piece, _PIECE)
            self._taken += len(piece) - len(self._inflater.unconsumed_tail)
            size = len(self._inflated)
            if size > LARGEST_INFLATED or (size > RATIO_COUNTS_FROM and size > LARGEST_RATIO * self._taken):
                why = f"{self._taken} bytes of deflated data set became {size} before its pixel data was reached"
                raise Refused("E_LIMIT", self._name, why)
        return len(self._inflated)
