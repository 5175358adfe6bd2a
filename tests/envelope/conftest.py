"""A small study and its envelope."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.envelope.envelopes import Parties, write_instance


@pytest.fixture
def parties() -> Parties:
    return Parties.generate()


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Four instances in two series."""
    folder = tmp_path / "study"
    folder.mkdir()
    paths = [folder / f"IM{number}" for number in range(4)]
    for number, path in enumerate(paths):
        write_instance(path, number)
    return paths


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    """Something that is not DICOM."""
    path = tmp_path / "report.txt"
    path.write_text("No abnormality was detected.\n")
    return path


@pytest.fixture
def envelope(parties: Parties, study: list[Path], report_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "envelope.zip"
    parties.pack(study, path, files=[(str(report_file), "report.txt")])
    return path
