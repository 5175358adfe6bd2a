"""One study and one patient that the builders of FHIR are tried on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import Patient, Series, Study, StudyKey
from mdg.model.local_numbers import LocalNumbers

CUSTODIAN = HpiO("8003621566684455")
NUMBERS = LocalNumbers(CUSTODIAN, "Example Imaging", "DEMO", "https://w3id.org/mdg")
IHI = Ihi("8003608833357361")


@pytest.fixture
def study() -> Study:
    series = (
        Series("1.2.36.1.99.1.1", "CT", 2, "Axial", "CHEST", None, 119),
        Series("1.2.36.1.99.1.2", "OT", None, None, "LEFT BIG TOE", "L", 1),
    )
    return Study(
        key=StudyKey(CUSTODIAN, "1.2.36.1.99.1", 3),
        id="01JV3W8ZC0D2E4F6G8H0J2K4M6",
        patient=LocalId("DEMO-0001", "DEMO"),
        patient_id="01JV3W8ZC0D2E4F6G8H0J2K4M7",
        started="2026-05-01T09:12:33+10:00",
        description="CT Chest",
        accession="A26-00417",
        accession_issuer=None,
        modalities=("CT", "OT"),
        series=series,
        instances=120,
        bytes=63_000_000,
        updated=datetime(2026, 5, 2, 1, 10, tzinfo=UTC),
    )


@pytest.fixture
def bare(study: Study) -> Study:
    """The least that an index may hold of a study."""
    series = (Series("1.2.3.1", "OT", None, None, None, None, 1),)
    return replace(
        study, started=None, description=None, accession=None, modalities=("OT",), series=series, instances=1
    )


@pytest.fixture
def patient() -> Patient:
    return Patient("01JV3W8ZC0D2E4F6G8H0J2K4M7", LocalId("DEMO-0001", "DEMO"), "Phantom", ("Ada",), "1970-01-31", "F")
