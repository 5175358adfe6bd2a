"""Hostile and broken files get a precise refusal, and memory stays flat (spec/hostile-input I)."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from tests.dicom.made import write

from mdg.errors import InputOutput, Refused
from mdg.sources.headers import index_files, read_header

HEAD = 132
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCE = b"\x40\x00\x30\xa7SQ\0\0" + UNDEFINED
ITEM = b"\xfe\xff\x00\xe0" + UNDEFINED
ENDS = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"


def with_tail(path: Path, tail: bytes) -> Path:
    """An instance without pixel data, and more bytes behind it."""
    write(path)
    with path.open("ab") as file:
        file.write(tail)
    return path


def refusal(path: Path) -> Refused:
    with pytest.raises(Refused) as refused:
        read_header(path)
    assert refused.value.part == str(path)
    return refused.value


@pytest.mark.parametrize(
    "signature", [b"MZ", b"\x7fELF", b"\xfe\xed\xfa\xcf", b"\xca\xfe\xba\xbe", b"#!/bin/sh", b"PK\x03\x04"]
)
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ExplicitVRBigEndian])
def test_i1_a_preamble_that_is_a_program_is_flagged(tmp_path: Path, signature: bytes, syntax: str) -> None:
    path = write(tmp_path / "a.dcm", syntax)
    path.write_bytes(signature.ljust(128, b"\0") + path.read_bytes()[128:])
    assert read_header(path).executable_preamble
    path.write_bytes(b"II*\0".ljust(128, b"\0") + path.read_bytes()[128:])
    assert not read_header(path).executable_preamble


def test_i2_meta_that_lies_or_lacks_the_transfer_syntax_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.dcm").read_bytes()
    path = tmp_path / "bad.dcm"
    path.write_bytes(good[:128] + b"DICX" + good[HEAD:])
    assert (refusal(path).code, refusal(path).at) == ("E_NOT_DICOM", 0)
    for difference in (-2, 1, 2, 200):
        length = int.from_bytes(good[140:144], "little") + difference
        path.write_bytes(good[:140] + length.to_bytes(4, "little") + good[144:])
        assert (refusal(path).code, refusal(path).at) == ("E_DICOM", HEAD)
    at = good.index(b"\x02\x00\x10\x00UI")
    path.write_bytes(good[:at] + b"\x02\x00\x11" + good[at + 3 :])
    assert "no transfer syntax" in str(refusal(path))


def test_i2_group_0002_cut_at_every_byte_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.dcm").read_bytes()
    end = 144 + int.from_bytes(good[140:144], "little")
    path = tmp_path / "cut.dcm"
    for length in range(end):
        path.write_bytes(good[:length])
        assert refusal(path).code == ("E_NOT_DICOM" if length < HEAD else "E_DICOM")


def test_i3_a_length_past_the_end_names_tag_and_byte(tmp_path: Path) -> None:
    path = with_tail(tmp_path / "a.dcm", b"\x11\x00\x10\x00LO\x09\x00short")
    refused = refusal(path)
    assert (refused.code, refused.at) == ("E_DICOM", path.stat().st_size - 13)
    assert "(0011,0010) says 9 bytes, the file has 5 left" in refused.why


@pytest.mark.parametrize("vr", [b"OB", b"OW", b"UT"])
def test_i3_an_undefined_length_on_no_sequence_is_refused(tmp_path: Path, vr: bytes) -> None:
    path = with_tail(tmp_path / "a.dcm", b"\x11\x00\x10\x10" + vr + b"\0\0" + UNDEFINED)
    assert refusal(path).code == "E_DICOM"
    assert "(0011,1010) has an undefined length and is no sequence" in refusal(path).why


def test_i4_sequences_nest_64_deep_and_no_deeper(tmp_path: Path) -> None:
    read_header(with_tail(tmp_path / "a.dcm", (SEQUENCE + ITEM) * 64 + ENDS * 64))
    for levels in (65, 1000):
        path = with_tail(tmp_path / "b.dcm", (SEQUENCE + ITEM) * levels + ENDS * levels)
        start = path.stat().st_size - levels * len(SEQUENCE + ITEM + ENDS)
        assert (refusal(path).code, refusal(path).at) == ("E_LIMIT", start + 64 * len(SEQUENCE + ITEM))


def test_i4_big_endian_nesting_ends_in_a_refusal_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", ExplicitVRBigEndian)
    level = b"\x00\x40\xa7\x30SQ\0\0" + UNDEFINED + b"\xff\xfe\xe0\x00" + UNDEFINED
    with path.open("ab") as file:
        file.write(level * 2000)
    assert refusal(path).code == "E_LIMIT"


MEASURE = """
import resource, sys
from mdg._core import read_header
from mdg.errors import Refused
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def refused(path):
    try:
        read_header(path)
    except Refused as error:
        return error.code
refused(sys.argv[1])
before = peak()
codes = {refused(path) for path in sys.argv[2:]}
print(peak() - before, *codes)
"""


def growth(*paths: Path) -> tuple[int, set[str]]:
    """KiB that a fresh process grows by, and the codes of its refusals; the first file only warms it up."""
    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    kib, *codes = done.stdout.split()
    return int(kib) * (1 if sys.platform == "linux" else 1024), set(codes)


def test_i4_a_million_levels_cost_no_memory(tmp_path: Path) -> None:
    warm = with_tail(tmp_path / "warm.dcm", (SEQUENCE + ITEM) * 65)
    deep = with_tail(tmp_path / "deep.dcm", (SEQUENCE + ITEM) * 1_000_000)
    kib, codes = growth(warm, deep)
    assert codes == {"E_LIMIT"}
    assert kib <= 8 << 10


def test_odd_vrs_in_group_0002_ten_thousand_times_cost_no_memory(tmp_path: Path) -> None:
    good = write(tmp_path / "good.dcm").read_bytes()
    at = good.index(b"\x02\x00\x10\x00UI")
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(good[: at + 4] + b"Z\x00" + good[at + 6 :])
    kib, codes = growth(odd, *[odd] * 10_000)
    assert codes == {"E_DICOM"}
    assert kib <= 8 << 10


def deflated(path: Path, tail: bytes) -> Path:
    """A deflated instance with `tail` behind its elements."""
    write(path, DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    begin = 144 + int.from_bytes(whole[140:144], "little")
    inflated = zlib.decompress(whole[begin:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(whole[:begin] + deflater.compress(inflated + tail) + deflater.flush())
    return path


def test_i6_a_deflated_bomb_stops_at_the_ratio(tmp_path: Path) -> None:
    bomb = b"\x11\x00\x10\x10OB\0\0" + (1 << 28).to_bytes(4, "little") + bytes(1 << 28)
    path = deflated(tmp_path / "bomb.dcm", bomb)
    refused = refusal(path)
    assert refused.code == "E_LIMIT"
    assert int(refused.why.split(" became ")[1]) <= 2 << 20
    kib, codes = growth(deflated(tmp_path / "warm.dcm", b""), path)
    assert codes == {"E_LIMIT"}
    assert kib <= 8 << 10


def test_pixel_data_inside_a_deflate_stream_has_no_offset(tmp_path: Path) -> None:
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + (1 << 22).to_bytes(4, "little") + os.urandom(1 << 22)
    header = read_header(deflated(tmp_path / "image.dcm", pixels))
    assert (header.PatientID, header.pixel_offset, header.pixel_length) == ("17", None, None)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_cut_files_of_other_encodings_are_refused(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "a.dcm", syntax, StudyDescription="x" * 60)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 9, len(whole) - 29):
        path.write_bytes(whole[:length])
        assert refusal(path).code == "E_DICOM"


@pytest.mark.parametrize(
    "uid", ["../../x", "/etc/x", "1.02.3", "1..2", "1.2 3", "1.2\x003", "1." + "2" * 63, ".", "1."]
)
def test_i9_an_invalid_uid_is_refused(tmp_path: Path, uid: str) -> None:
    good = write(tmp_path / "a.dcm").read_bytes()
    at = good.index(b"\x20\x00\x0d\x00UI")
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    path = tmp_path / "b.dcm"
    path.write_bytes(good[: at + 6] + len(padded).to_bytes(2, "little") + padded + good[at + 14 :])
    assert (refusal(path).code, refusal(path).at) == ("E_DICOM", at)
    assert uid not in refusal(path).why


def test_i12_a_megabyte_of_escapes_becomes_replacement_characters(tmp_path: Path) -> None:
    name = b"\x1b%X" * 350_000
    good = write(tmp_path / "good.dcm").read_bytes()
    at = good.index(b"\x10\x00\x20\x00LO")
    path = tmp_path / "a.dcm"
    path.write_bytes(good[:at] + b"\x10\x00\x10\x00UT\0\0" + len(name).to_bytes(4, "little") + name + good[at:])
    found = read_header(path).PatientName
    assert found is not None
    assert found == "\ufffd%X" * 350_000


def test_i13_private_elements_are_read_to_the_limit(tmp_path: Path) -> None:
    element = b"\x11\x00\x10\x10LO\x00\x00"
    read_header(with_tail(tmp_path / "a.dcm", element * 100_000))
    path = with_tail(tmp_path / "b.dcm", element * 1_000_000)
    assert refusal(path).code == "E_LIMIT"


def test_what_is_no_file_is_an_input_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "pipe"):
        with pytest.raises(InputOutput):
            read_header(path)
    codes = [found.problem and found.problem[0] for found in index_files([str(tmp_path / "pipe"), str(tmp_path)])]
    assert codes == ["E_SOURCE", "E_SOURCE"]
