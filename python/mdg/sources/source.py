"""What a source of images can do: four small protocols, of which each kind offers those that it can honour.

Every method raises `Unavailable` when the source does not answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.model.identity import Ihi, LocalId
from mdg.model.imaging import Patient, StoredInstance, Study, StudyKey
from mdg.model.located import Located
from mdg.model.query import Query
from mdg.sources.scan import Progress, ScanReport


@runtime_checkable
class Finds(Protocol):
    """Knows studies of local patients."""

    name: str

    async def find(self, query: Query) -> Sequence[Study]:
        """All studies of the query's patients that match it and are fit to be shown, newest first. Order and page of
        the query are for the caller, who joins the answers of several sources; a source that cannot filter by something
        may give more than matches.

        The source does the same work for a study of somebody else as for one that nobody has: how long the answer takes
        does not tell which studies are here."""

    async def patient(self, local: LocalId) -> Patient | None:
        """The demographics of a patient who has a study here."""

    async def owner(self, uid: str) -> LocalId | None:
        """The patient of the study with this StudyInstanceUID, for what the gateway does of itself; never for a
        caller's question."""

    async def instances(self, key: StudyKey) -> Sequence[StoredInstance]:
        """The objects of exactly this version, by SeriesInstanceUID and SOPInstanceUID. `NotFound`, reason `version`,
        when the study has moved on."""


@runtime_checkable
class Reads(Protocol):
    """Gives the bytes of what it found."""

    async def read(self, located: Located, start: int, end: int) -> bytes | Path:
        """The bytes [start, end) of an object; or, where objects are files of this machine, the path of the file, which
        the core reads by itself. Who uses the bytes compares their digest. `Refused` E_CHANGED when the object has
        another version now, `InputOutput` when it cannot be read."""

    async def suspect(self, located: Located) -> None:
        """An object is not what was indexed: the source names it to its operator and reads it again."""


@runtime_checkable
class Watches(Protocol):
    """Announces the studies that have settled: that are whole, as far as the source can tell."""

    name: str

    @property
    def scanning(self) -> bool:
        """Whether a scan is under way."""

    async def scan(self, progress: Progress | None = None, *, rebuild: bool = False) -> ScanReport:
        """Looks at everything once and settles what it finds; with `rebuild` every object is read again."""

    def watch(self) -> AsyncGenerator[Sequence[str], None]:
        """StudyInstanceUIDs of studies that have settled, until it is cancelled. A study that was announced and did not
        settle is announced again."""

    async def settle(self, uids: Sequence[str]) -> int:
        """Makes what was announced a version of each study, with its event, in one transaction; the number of new
        versions."""


class Arrival(Protocol):
    """One study that is being written. Nothing of it can be found before `publish`."""

    folder: Path
    """A private folder, in which files may be made that `add` takes over; they may also lie elsewhere on its file
    system."""

    @property
    def uid(self) -> str | None:
        """The StudyInstanceUID of what was added; None before that."""

    async def add(self, *files: Path) -> None:
        """Takes over DICOM files, one instance each. `Refused` names a file that is none, or of another study than the
        files before it; `InputOutput` one that cannot be moved."""

    async def attach(self, *paths: Path) -> None:
        """Takes over files and folders that came along and are no instances. They are kept and not served."""

    async def publish(
        self,
        *,
        ihis: Collection[Ihi] = (),
        also: Callable[[AsyncConnection], Awaitable[object]] | None = None,
    ) -> StudyKey:
        """Makes all that was added the present version of its study, at once; an earlier one is replaced. `ihis` are
        the persons whom the sender named, `also` writes in the same transaction.

        `Refused`: there is no instance, the study is another person's than the one of that UID which is here, or it is
        in doubt whose it is or what is in it. `InputOutput`, `Unavailable`: it cannot be kept."""


@runtime_checkable
class Writes(Protocol):
    """Takes in studies, instance by instance."""

    def write(self, sender: str) -> AbstractAsyncContextManager[Arrival]:
        """A study of `sender` (its entity id), which issues every PatientID that names no issuer. What was not
        published is removed at the end. Only where the store cannot say whether it has kept it, its files wait for the
        next `sweep`."""

    async def sweep(self) -> None:
        """Removes what a crash left; called once, before anything is written."""
