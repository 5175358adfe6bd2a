"""What every source of images answers. Whatever else a kind of source can do is a protocol of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mdg.model.identity import LocalId
from mdg.model.imaging import Patient, StoredInstance, Study, StudyKey
from mdg.model.located import Located


class Source(Protocol):
    """Studies of local patients. Every method raises `Unavailable` when the source does not answer."""

    name: str

    async def find(self, patients: Sequence[LocalId]) -> Sequence[Study]:
        """All studies of these patients that are fit to be shown, newest first."""

    async def patient(self, local: LocalId) -> Patient | None:
        """The demographics of a patient who has a study here."""

    async def study(self, uid: str, patients: Sequence[LocalId]) -> Study | None:
        """The current version of the study with this StudyInstanceUID, if it is a study of these patients that is fit
        to be shown. The source does the same work for a study of somebody else as for a UID that nobody has: how long
        the answer takes does not tell which studies are here."""

    async def study_by_id(self, logical_id: str, patients: Sequence[LocalId]) -> Study | None:
        """The same by the logical id of the ImagingStudy resource."""

    async def owner(self, uid: str) -> LocalId | None:
        """The patient of the study with this StudyInstanceUID, for what the gateway does of itself; never for a
        caller's question."""

    async def suspect(self, located: Located) -> None:
        """An object is not what was indexed: the source names it to its operator and reads it again."""

    async def instances(self, key: StudyKey) -> Sequence[StoredInstance]:
        """The files of exactly this version, by SeriesInstanceUID and SOPInstanceUID. `NotFound`, reason `version`,
        when the study has moved on."""
