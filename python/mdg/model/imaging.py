"""Studies, series and instances as the gateway knows them: header facts, never pixels.

A DICOM attribute is named by its keyword in the docstrings; the `study key` is (custodian, StudyInstanceUID, version).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mdg.model.identity import HpiO, LocalId
from mdg.model.located import Located


@dataclass(frozen=True, slots=True, order=True)
class StudyKey:
    """What names one state of one study: `version` grows when an instance is added, changed or removed."""

    custodian: HpiO
    uid: str
    version: int


@dataclass(frozen=True, slots=True)
class Series:
    """One series: SeriesInstanceUID, Modality (`OT` when absent), SeriesNumber (None unless it is >= 0)."""

    uid: str
    modality: str
    number: int | None
    description: str | None
    body_part: str | None
    laterality: str | None
    instances: int


@dataclass(frozen=True, slots=True)
class Study:
    """One study as discovery may show it.

    `id` is the random logical id of the ImagingStudy, `patient_id` that of its Patient. `started` is FHIR dateTime
    text (`YYYY`, `YYYY-MM-DD` or with time and offset). `bytes` is the sum of the stored files, in bytes.
    """

    key: StudyKey
    id: str
    patient: LocalId
    patient_id: str
    started: str | None
    description: str | None
    accession: str | None
    accession_issuer: str | None
    modalities: tuple[str, ...]
    series: tuple[Series, ...]
    instances: int
    bytes: int
    updated: datetime
    labels: tuple[str, ...] = ("N",)


@dataclass(frozen=True, slots=True)
class Patient:
    """The demographics that a study carries; the names are the components of PatientName. `birth_date` is `YYYY-MM-DD`,
    `sex` `M`, `F`, `O` or None."""

    id: str
    local: LocalId
    family: str | None
    given: tuple[str, ...]
    birth_date: str | None
    sex: str | None
    prefix: str | None = None
    suffix: str | None = None


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One DICOM object of a study, and where its bytes lie."""

    sop_instance_uid: str
    series_uid: str
    located: Located
