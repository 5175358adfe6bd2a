"""One pass over many files: facts, SHA-256 and check table in the order asked for, and no bad file stops the others."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from tests.dicom.made import write

from mdg import _core
from mdg.sources.headers import index_files

PIECE = 64 << 10


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files whose lengths lie around the borders of pieces and reads; two are no DICOM, one is empty, one is absent."""
    seams = (0, 1, PIECE - 1, PIECE, PIECE + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 57)
    made = []
    for number, length in enumerate(seams):
        path = write(tmp_path / f"{number}.dcm", PatientID=str(number))
        if length > path.stat().st_size + 8:
            tail = length - path.stat().st_size - 12
            with path.open("ab") as file:
                file.write(b"\x11\x00\x10\x10OB\0\0" + tail.to_bytes(4, "little") + os.urandom(tail))
        made.append(path)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no DICOM")
    return [*made, tmp_path / "empty", tmp_path / "text", tmp_path / "absent"]


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_digests_equal_those_of_hashlib_and_digest_file(files: list[Path], threads: int) -> None:
    found = index_files([str(path) for path in files], threads)
    assert [one.path for one in found] == [str(path) for path in files]
    for number, (path, one) in enumerate(zip(files[:-1], found[:-1], strict=True)):
        content = path.read_bytes()
        alone = _core.digest_file(str(path))
        assert one.digest is not None
        assert one.digest.sha256 == alone.sha256 == hashlib.sha256(content).digest()
        assert one.digest.size == alone.size == len(content)
        assert one.digest.check == alone.check
        assert len(alone.check) == 32 * -(-len(content) // PIECE)
        assert one.mtime_ns == path.stat().st_mtime_ns
        if path.suffix == ".dcm":
            assert one.problem is None
            assert one.header is not None
            assert one.header.PatientID == str(number)
    assert [one.problem and one.problem[0] for one in found[-3:]] == ["E_NOT_DICOM", "E_NOT_DICOM", "E_SOURCE"]
    assert (found[-1].digest, found[-1].header, found[-1].mtime_ns) == (None, None, 0)


def test_each_problem_names_its_file_and_what_to_do(files: list[Path]) -> None:
    for one in index_files([str(path) for path in files[-3:]]):
        assert one.problem is not None
        assert one.path in one.problem[1]
        assert "; " in one.problem[1]


def test_check_values_are_of_pieces_of_64_kib(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_bytes(b"a" * PIECE + b"b" * 9)
    (tmp_path / "first").write_bytes(b"a" * PIECE)
    (tmp_path / "second").write_bytes(b"b" * 9)
    pieces = [_core.digest_file(str(tmp_path / name)).check for name in ("first", "second")]
    assert _core.digest_file(str(path)).check == b"".join(pieces)


def test_every_encoding_is_indexed_in_one_call(tmp_path: Path) -> None:
    syntaxes = (ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    paths = [str(write(tmp_path / f"{number}.dcm", syntax)) for number, syntax in enumerate(syntaxes)]
    found = index_files(paths)
    assert [one.header and one.header.TransferSyntaxUID for one in found] == list(syntaxes)
    assert all(one.digest is not None and one.problem is None for one in found)


def test_a_file_that_changes_while_it_is_read_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "growing.dcm"
    write(path)
    with path.open("ab") as file:
        file.write(b"\x11\x00\x10\x10OB\0\0" + (64 << 20).to_bytes(4, "little"))
        file.truncate(file.tell() + (64 << 20))
    stop = threading.Event()

    def touch() -> None:
        while not stop.is_set():
            os.utime(path)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        found = index_files([str(path)])[0]
    finally:
        stop.set()
        toucher.join()
    assert found.problem is not None
    assert found.problem[0] == "E_CHANGED"
    assert (found.header, found.digest) == (None, None)


def test_no_file_is_no_work() -> None:
    assert index_files([]) == []


def test_real_studies_index_without_a_problem(shared_data: Path) -> None:
    paths = [
        str(path) for path in (shared_data / "mr-ge-epi-600").rglob("*") if path.suffix == ".dcm" or not path.suffix
    ]
    found = index_files([path for path in paths if Path(path).is_file() and "SHA256SUMS" not in path])
    assert len(found) == 600
    assert [one.problem for one in found if one.problem] == []
    for one in found[:20]:
        assert one.digest is not None
        assert one.digest.sha256 == hashlib.sha256(Path(one.path).read_bytes()).digest()
