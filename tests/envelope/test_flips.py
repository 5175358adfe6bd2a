"""One byte changed anywhere in an envelope: refused, or among the bytes that the report calls unsigned."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from tests.envelope.envelopes import Parties, write_instance

from mdg.errors import Refused

SIZE = 64 * 1024


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A folder where 65,536 envelopes are opened without a disk in the way."""
    shared = Path("/dev/shm")  # noqa: S108 # a folder of our own in it, made with its parent's protection
    return (shared if shared.is_dir() else tmp_path) / f"mdg-flips-{os.getpid()}"


def test_no_changed_byte_passes_unnoticed(parties: Parties, tmp_path: Path, memory: Path) -> None:
    instance = tmp_path / "instance"
    write_instance(instance, 1, pixels=56 * 1024)
    memory.mkdir()
    sealed, out = memory / "envelope.zip", memory / "out"
    try:
        parties.pack([instance], sealed)
        pristine = sealed.read_bytes()
        assert abs(len(pristine) - SIZE) < 2048
        unsigned = parties.verify(sealed)["unsigned"]
        assert {part["part"] for part in unsigned} == {"audit.json", "ZIP time"}
        free = {at for part in unsigned for at in range(part["start"], part["end"])}
        with zipfile.ZipFile(sealed) as archive:
            entries = len(archive.infolist())
            audit = archive.getinfo("audit.json").file_size
        assert len(free) == audit + 2 * 4 * entries  # the time of each entry stands twice, in four bytes
        with sealed.open("r+b", buffering=0) as file:
            for at, byte in enumerate(pristine):
                os.pwrite(file.fileno(), bytes([byte ^ (1 << at % 8)]), at)
                if at in free:
                    report = parties.verify(sealed)
                    assert any("audit.json" in line or "ZIP times" in line for line in report["warnings"]), at
                else:
                    with pytest.raises(Refused) as refused:
                        parties.open(sealed, out)
                    assert refused.value.exit_code == 3
                os.pwrite(file.fileno(), bytes([byte]), at)
                assert os.listdir(memory) == ["envelope.zip"], at  # noqa: PTH208 # the cheapest call, 65,536 times
        assert parties.open(sealed, out)["ok"]
    finally:
        for path in sorted(memory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        memory.rmdir()


def test_a_cut_or_longer_envelope_is_refused(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    whole = envelope.read_bytes()
    cut = tmp_path / "cut.zip"
    for size in [0, 21, 22, *range(100, len(whole), len(whole) // 10), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(Refused, match="E_ZIP"):
            parties.open(cut, tmp_path / "out")
    cut.write_bytes(whole + b"\0")
    with pytest.raises(Refused, match="E_ZIP"):
        parties.open(cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()
