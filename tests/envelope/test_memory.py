"""Memory does not grow with the study: packing, verifying and opening stay within 24 MiB of an idle interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.envelope.envelopes import write_instance

MIB = 1 << 20

WORK = """
import sys
from pathlib import Path
from mdg import _core
from tests.envelope.envelopes import Parties
step, folder = sys.argv[1], Path(sys.argv[2])
if step == "keys":
    Parties.generate().signer.write(str(folder / "signer"))
    Parties.generate().recipient.write(str(folder / "recipient"))
parties = Parties(_core.Ed25519Key.read(str(folder / "signer")), _core.X25519Key.read(str(folder / "recipient")))
if step == "pack":
    parties.pack([folder / "instance"], folder / "e.zip")
if step == "verify":
    parties.verify(folder / "e.zip")
if step == "open":
    parties.open(folder / "e.zip", folder / "out")
"""


def peak(step: str, folder: Path) -> float:
    """MiB of a process that does one step."""
    with subprocess.Popen([sys.executable, "-c", WORK, step, str(folder)]) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.mark.parametrize("size", [96 * MIB, pytest.param(2048 * MIB - 2 * MIB, marks=pytest.mark.slow)])
def test_memory_is_flat(tmp_path: Path, size: int) -> None:
    instance = tmp_path / "instance"
    written = write_instance(instance, 1, pixels=1024)
    header = len(written) - 1024
    with instance.open("r+b") as file:
        file.seek(header - 4)
        file.write(size.to_bytes(4, "little"))
        file.truncate(header + size)
    base = peak("keys", tmp_path)
    for step in ("pack", "verify", "open"):
        assert peak(step, tmp_path) <= base + 24, step
    assert (tmp_path / "out" / "dicom" / "1.2.3.1.1.dcm").stat().st_size == header + size
    for path in (tmp_path / "e.zip", tmp_path / "out" / "dicom" / "1.2.3.1.1.dcm"):
        path.unlink()
