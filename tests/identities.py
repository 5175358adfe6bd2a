"""identity.csv for tests: who the local numbers of a gateway belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mdg.sandbox.identifiers import EXAMPLE_IHI
from mdg.sandbox.phantom import ISSUER, PATIENT_ID

PHANTOM: Mapping[str, str] = {PATIENT_ID: EXAMPLE_IHI}
"""The patient of the phantom study."""


def write_identity_csv(path: Path, people: Mapping[str, str] = PHANTOM, *, issuer: str = ISSUER) -> Path:
    """Writes a table in which each PatientID of `issuer` belongs to the IHI beside it; returns `path`."""
    rows = (f"{patient},{issuer},{ihi},test,2026-01-01\n" for patient, ihi in people.items())
    path.write_text("PatientID,issuer,IHI,source,date\n" + "".join(rows))
    return path
