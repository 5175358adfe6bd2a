"""What discovery found and may show, before a standard renders it. Metadata only, never a token, never a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from mdg.model.identity import Ihi
from mdg.model.imaging import Patient, Study
from mdg.model.query import Position


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One study and the person it is about.

    `retrievable`: the study can be retrieved here as a JMIX envelope. `patient` and `address` are the details of a
    query: the patient as the study names them, None if not asked for, not known or not to be shown; and whether the
    address of the envelope may be shown as a resource of its own.
    """

    study: Study
    ihi: Ihi
    retrievable: bool
    patient: Patient | None = None
    address: bool = False


@dataclass(frozen=True, slots=True)
class FoundPatient:
    """One local patient and the person whom that patient is."""

    patient: Patient
    ihi: Ihi


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search for studies.

    `total` counts the studies of all pages, `cursor` is where the next page begins (None on the last one), and
    `patient_ids` are the logical ids by which the search may name its patients. `unanswered` are the sources whose
    studies are missing: (name, `timeout` or `incomplete`).
    """

    studies: tuple[FoundStudy, ...]
    total: int
    patient_ids: frozenset[str]
    unanswered: tuple[tuple[str, str], ...] = ()
    cursor: Position | None = None


@dataclass(frozen=True, slots=True)
class FoundPatients:
    """One page of a search for patients, as `Found`."""

    patients: tuple[FoundPatient, ...]
    total: int
    patient_ids: frozenset[str]
    unanswered: tuple[tuple[str, str], ...] = ()
    cursor: Position | None = None
