"""Studies that arrived in envelopes: opened, verified, and kept under one folder of this gateway.

An opened envelope becomes visible by one rename into `<root>/<StudyInstanceUID>/`, then its rows are committed; what it
replaces is removed after that. A crash between leaves a whole folder without rows, which the next start removes: it
was never acknowledged (security-tests 6).
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
from anyio import CancelScope, to_thread
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.envelope import Report
from mdg.errors import InputOutput, Refused, Unavailable
from mdg.identity.enrichment import claimed, people
from mdg.model.identity import IHI_SYSTEM, IHI_SYSTEM_JMIX_ALIAS, HpiO, Ihi, LocalId
from mdg.model.imaging import StudyKey
from mdg.sources import listing, reading
from mdg.sources.indexed import IndexedSource
from mdg.sources.settle import Terms, settle
from mdg.store import Store, index

METADATA_LARGEST = 1024 * 1024
"""Bytes of metadata.json (security-tests 2, JSON bodies)."""


IN_DOUBT = {
    index.MIXED_PATIENTS: "its files name different patients, so it is in doubt whose they are; nothing of it was kept",
    index.DUPLICATE_INSTANCE: "different files of it carry the same SOPInstanceUID; nothing of it was kept",
}
"""Why an envelope is refused that could only have been put into quarantine."""


class ReceivedSource(IndexedSource):
    """What other gateways sent to this one, under `root`."""

    name = "received"

    def __init__(self, store: Store, custodian: HpiO, root: Path, *, time_zone: ZoneInfo) -> None:
        super().__init__(store, custodian)
        self._root = root.resolve()
        self._time_zone = time_zone

    async def add(
        self,
        folder: Path,
        report: Report,
        *,
        uid: str | None = None,
        ihi: Ihi | None = None,
        also: Callable[[AsyncConnection], Awaitable[object]] | None = None,
    ) -> StudyKey:
        """Takes over the opened and verified envelope at `folder`, which must lie on the same file system; the key of
        the version that it makes. An earlier arrival of the same study is replaced. `uid` and `ihi` are the study and
        the person that were asked for: a sender who may be believed about one may not bring another. `also` writes in
        the transaction by which the study becomes visible.

        `Refused`: its files are not one whole study, are not what was asked for, are another person's than the study of
        that UID which is here, or leave in doubt whose they are or what is in them: what no search could show is not
        kept. `InputOutput`, `Unavailable`: it cannot be kept. After an error nothing of it
        is left, in the index or on the disk; only where the store cannot say whether it has kept it, its files wait
        for the next `sweep`.
        """
        place: Path | None = None
        try:
            rows = await to_thread.run_sync(_read, folder, report)
            ihis = await to_thread.run_sync(_ihis, folder)
            if uid not in (None, report.study_uid) or (ihi is not None and ihis != {ihi}):
                raise Refused("E_DICOM_IDENTITY", "metadata.json", "it is not the study and the person asked for")
            uid = str(rows[0]["study"])
            place = self._root / uid / secrets.token_hex(8)
            await to_thread.run_sync(_move, folder, place)
            issuer = _issuer(rows, report.sender.id)
            for row in rows:
                moved = str(place / Path(row["key"]).relative_to(folder))
                row.update(index.object_row(moved, row["version"], row["size"]))
                row["facts"] = {**row["facts"], "IssuerOfPatientID": issuer}
            terms = Terms(report.sender.id, self._time_zone)
            work = partial(self._replace, uid=uid, rows=rows, ihis=ihis, terms=terms, also=also)
            with CancelScope(shield=True):  # a transaction that has begun ends without us, and its rows name the files
                key = await self._store.write(work)
        except BaseException as error:
            with CancelScope(shield=True):
                kept = place is not None and isinstance(error, Unavailable) and await self._may_name(place)
                await to_thread.run_sync(_remove, [folder] if place is None or kept else [folder, place])
            raise
        await to_thread.run_sync(_remove_unknown, place.parent, {place})
        return key

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
        rows: reading.Rows,
        ihis: frozenset[Ihi],
        terms: Terms,
        also: Callable[[AsyncConnection], Awaitable[object]] | None,
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


def _read(folder: Path, report: Report) -> reading.Rows:
    """The rows of `instances` for every DICOM file of an opened envelope."""
    files = listing.read(str(folder / "dicom")).files
    rows: reading.Rows = []
    for start in range(0, len(files), reading.BATCH):
        found, bad = reading.read(files[start : start + reading.BATCH])
        if bad:
            raise Refused(bad[0]["code"], f"dicom/{Path(bad[0]['key']).name}", bad[0]["message"])
        rows += found
    if not rows or len(rows) != report.instances:
        raise Refused("E_INCOMPLETE", "dicom", f"{len(rows)} instances on the disk, {report.instances} in the envelope")
    for row in rows:
        if row["study"] != report.study_uid:
            raise Refused(
                "E_DICOM_IDENTITY", f"dicom/{Path(row['key']).name}", "it is not of the study that the envelope names"
            )
    return rows


def _issuer(rows: reading.Rows, sender: str) -> str:
    """The issuer under which the PatientIDs of an envelope count: with this sender only.

    An issuer is what a file says of itself: taken as it stands, a stranger's number 0001 would be our number 0001, and
    its IHI ours too. One patient has one issuer, also when some files leave it out (the sender's default counts for
    them there): the only one that is named, or none. `Refused` when several are.
    """
    named = sorted({str(row["facts"]["IssuerOfPatientID"]) for row in rows if "IssuerOfPatientID" in row["facts"]})
    if len(named) > 1:
        raise Refused("E_DICOM_IDENTITY", "dicom", IN_DOUBT[index.MIXED_PATIENTS])
    return "#".join([sender, *named])


def _ihis(folder: Path) -> frozenset[Ihi]:
    """The IHIs among the patient's identifiers of metadata.json, in either spelling of their system (fhir-au 1.4)."""
    path = folder / "metadata.json"
    try:
        with path.open("rb") as file:
            metadata = orjson.loads(file.read(METADATA_LARGEST + 1))
        identifiers = metadata["patient"].get("identifiers", [])
        named = [one["value"] for one in identifiers if one.get("system") in {IHI_SYSTEM, IHI_SYSTEM_JMIX_ALIAS}]
        return frozenset(Ihi.parse(value) for value in named)
    except OSError as error:
        raise InputOutput(str(path), error.strerror or type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("E_SCHEMA", "metadata.json", "the patient's identifiers cannot be read") from error


def _move(folder: Path, place: Path) -> None:
    """Renames `folder` to `place`, durably."""
    try:
        for parent in (place.parent.parent, place.parent):  # `parents` would make the outer one readable
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.rename(place)
        for changed in (place.parent, place.parent.parent, folder.parent):
            _sync(changed)
    except OSError as error:
        raise InputOutput(str(place), f"{error.strerror}; received studies need a writable folder") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
