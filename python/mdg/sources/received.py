"""Studies that other gateways and systems sent, kept under one folder of this gateway.

A study is written instance by instance into a private folder, becomes visible by one rename into
`<root>/<StudyInstanceUID>/`, then its rows are committed; what it replaces is removed after that. A crash between
leaves a whole folder without rows, which the next start removes: it was never acknowledged.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from anyio import CancelScope, to_thread
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import InputOutput, Refused, Unavailable
from mdg.identity.enrichment import claimed, people
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.model.located import Located
from mdg.sources import instance_rows, listing
from mdg.sources.indexed import IndexedSource
from mdg.sources.study_version import Terms, settle
from mdg.store import Store, index

IN_DOUBT = {
    index.MIXED_PATIENTS: "its files name different patients, so it is in doubt whose they are; nothing of it was kept",
    index.DUPLICATE_INSTANCE: "different files of it carry the same SOPInstanceUID; nothing of it was kept",
}
"""Why a study is refused that could only have been put into quarantine."""
ARRIVING = "arriving"
"""The folder under `root` in which studies are written."""

Also = Callable[[AsyncConnection], Awaitable[object]]


class ReceivedSource(IndexedSource):
    """What others sent to this gateway, under `root`."""

    def __init__(
        self, store: Store, custodian: HpiO, root: Path, *, time_zone: ZoneInfo, name: str = "received"
    ) -> None:
        super().__init__(store, custodian, name, Terms("", time_zone))  # each study has the issuer of its sender
        self._root = root.resolve()

    @asynccontextmanager
    async def write(self, sender: str) -> AsyncIterator[ReceivedStudy]:
        """See `Writes.write`."""
        study = ReceivedStudy(self, sender, self._root / ARRIVING / secrets.token_hex(8))
        try:
            await to_thread.run_sync(_make_private, study.folder / "dicom", self._root)
            yield study
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(_remove, [study.folder])

    async def publish(
        self, folder: Path, rows: instance_rows.Rows, sender: str, ihis: Collection[Ihi], also: Also | None
    ) -> StudyKey:
        """Makes the files of `rows`, which lie in `folder`, the present version of their study."""
        issuer = _issuer(rows, sender)
        uid = str(rows[0]["study"])
        place = self._root / uid / secrets.token_hex(8)
        try:
            await to_thread.run_sync(_move, folder, place)
            for row in rows:
                moved = str(place / Path(row["key"]).relative_to(folder))
                row.update(index.object_row(moved, row["version"], row["size"]))
                row["facts"] = {**row["facts"], "IssuerOfPatientID": issuer}
            terms = replace(self._terms, default_issuer=sender)
            work = partial(self._replace, uid=uid, rows=rows, ihis=ihis, terms=terms, also=also)
            with CancelScope(shield=True):  # a transaction that has begun ends without us, and its rows name the files
                key = await self._store.write(work)
        except BaseException as error:
            with CancelScope(shield=True):
                if not (isinstance(error, Unavailable) and await self._may_name(place)):
                    await to_thread.run_sync(_remove, [place])
            raise
        await to_thread.run_sync(_remove_unknown, place.parent, {place})
        return key

    async def read(self, located: Located, _start: int, _end: int) -> Path:
        """The file, whose path is the key."""
        return Path(located.key)

    async def sweep(self) -> None:
        """Removes what a crash left under `root` without rows; called once, before anything is added."""
        async with self._store.read() as connection:
            kept = {Path(folder).parent for folder in await index.folders(connection, self._part)}
        for study in await to_thread.run_sync(_inside, self._root):
            await to_thread.run_sync(_remove_unknown, study, kept)

    async def _may_name(self, place: Path) -> bool:
        """Whether rows name files in `place`, or nobody can tell now: a COMMIT may be done though its answer was lost.
        One that a server is still at while we ask (it waits for a standby, say) is not seen."""
        try:
            async with self._store.read() as connection:
                named = await index.folders(connection, self._part)
        except Unavailable:
            return True
        return any(Path(folder).is_relative_to(place) for folder in named)

    async def _replace(
        self,
        connection: AsyncConnection,
        *,
        uid: str,
        rows: instance_rows.Rows,
        ihis: Collection[Ihi],
        terms: Terms,
        also: Also | None,
    ) -> StudyKey:
        before = await claimed(connection, self._part.custodian, self.name, uid)
        await index.replace_study(connection, self._part, uid, rows)
        changed = await settle(connection, self._part, uid, terms, ihis)
        await self._refuse_doubt(connection, uid)
        if before and before != await claimed(connection, self._part.custodian, self.name, uid):
            raise Refused("E_DICOM_IDENTITY", "metadata.json", "a study of this UID is here, of another person")
        if also is not None:
            await also(connection)
        return changed or await index.current(connection, self._part, uid)

    async def _refuse_doubt(self, connection: AsyncConnection, uid: str) -> None:
        """`Refused` when the study, as it has just settled, would be in quarantine."""
        row = (
            await connection.execute(
                select(index.studies.c.issuer, index.studies.c.patient, index.studies.c.quarantine).where(
                    self._part.of(index.studies), index.studies.c.uid == uid
                )
            )
        ).one()
        if row.quarantine is not None:
            raise Refused("E_DICOM_IDENTITY", "dicom", IN_DOUBT[row.quarantine])
        if len(await people(connection, self._part.custodian, LocalId(row.patient, row.issuer))) > 1:
            why = "two different IHIs are named for its patient, by its files, its metadata or an earlier study"
            raise Refused("E_DICOM_IDENTITY", "metadata.json", f"{why} of this sender; nothing of it was kept")


class ReceivedStudy:
    """One study that is being written; see `Arrival`."""

    def __init__(self, source: ReceivedSource, sender: str, folder: Path) -> None:
        self.folder = folder
        self._source = source
        self._sender = sender
        self._rows: instance_rows.Rows = []

    @property
    def uid(self) -> str | None:
        """The StudyInstanceUID of what was added."""
        return str(self._rows[0]["study"]) if self._rows else None

    async def add(self, *files: Path) -> None:
        """See `Arrival.add`."""
        for start in range(0, len(files), instance_rows.BATCH):
            some = files[start : start + instance_rows.BATCH]
            self._rows += await to_thread.run_sync(_take, some, self.folder / "dicom")
        for row in self._rows:
            if row["study"] != self._rows[0]["study"]:
                part = f"dicom/{Path(row['key']).name}"
                raise Refused("E_DICOM_IDENTITY", part, "it is not of the same study as the files before it")

    async def attach(self, *paths: Path) -> None:
        """See `Arrival.attach`."""
        for path in paths:
            await to_thread.run_sync(_rename, path, self.folder / path.name)

    async def publish(self, *, ihis: Collection[Ihi] = (), also: Also | None = None) -> StudyKey:
        """See `Arrival.publish`."""
        if not self._rows:
            raise Refused("E_INCOMPLETE", "dicom", "there is no instance in it")
        return await self._source.publish(self.folder, self._rows, self._sender, ihis, also)


def _take(files: Iterable[Path], folder: Path) -> instance_rows.Rows:
    """Moves DICOM files into `folder`; their rows of `instances`."""
    listed = []
    for file in files:
        _rename(file, folder / file.name)
        listed.append(listing.look_at(folder / file.name))
    rows, bad = instance_rows.read(listed)
    if bad:
        raise Refused(bad[0]["code"], f"dicom/{Path(bad[0]['key']).name}", bad[0]["message"])
    return rows


def _issuer(rows: instance_rows.Rows, sender: str) -> str:
    """The issuer under which the PatientIDs of a received study count: with this sender only.

    An issuer is what a file says of itself: taken as it stands, a stranger's number 0001 would be our number 0001, and
    its IHI ours too. One patient has one issuer, also when some files leave it out (the sender's default counts for
    them there): the only one that is named, or none. `Refused` when several are.
    """
    named = sorted({str(row["facts"]["IssuerOfPatientID"]) for row in rows if "IssuerOfPatientID" in row["facts"]})
    if len(named) > 1:
        raise Refused("E_DICOM_IDENTITY", "dicom", IN_DOUBT[index.MIXED_PATIENTS])
    return "#".join([sender, *named])


def _make_private(folder: Path, root: Path) -> None:
    """Makes `folder` and every folder between it and `root`, itself included, for this user alone."""
    try:
        for one in reversed([folder, *folder.parents]):
            if one.is_relative_to(root):  # `parents` of mkdir would make the outer ones readable
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputOutput(str(folder), f"{error.strerror}; received studies need a writable folder") from error


def _rename(path: Path, target: Path) -> None:
    try:
        if target.exists():
            raise Refused("E_INCOMPLETE", f"dicom/{target.name}", "two of its files have the same name")
        path.rename(target)
    except OSError as error:
        raise InputOutput(str(path), f"{error.strerror}; it must lie on the disk of {target.parent}") from error


def _move(folder: Path, place: Path) -> None:
    """Renames `folder` to `place`, durably with all that is in it."""
    try:
        for path in (folder, *folder.rglob("*")):
            _sync(path)
        _make_private(place.parent, place.parent.parent)
        folder.rename(place)
        for changed in (place.parent, place.parent.parent):
            _sync(changed)
    except OSError as error:
        raise InputOutput(str(place), f"{error.strerror}; received studies need a writable folder") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_unknown(study: Path, kept: Collection[Path]) -> None:
    """Removes every arrival of one study but those `kept`, and the study's folder when none is left."""
    _remove(place for place in _inside(study) if place not in kept)
    if not _inside(study):
        study.rmdir()
