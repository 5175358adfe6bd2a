"""Reception: this gateway as an Imaging Consumer, which fetches a study from another and then holds it (IEF
R2, CAP2.9).

The client finds, requests, downloads and verifies; here stands what that means for this gateway: a record before each
question leaves, one when the study is in, and the study among the received ones only after every byte was verified.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from anyio import CancelScope, to_thread
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit import Audit
from mdg.client import Found, FoundStudy, Gateway, Opened, find_study, search_for, whole
from mdg.envelope import Report
from mdg.errors import InputOutput, NotFound, Refused, Unprocessable, reason
from mdg.keys import Card, Directory
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import IHI_SYSTEM, IHI_SYSTEM_JMIX_ALIAS, HpiO, Ihi
from mdg.model.imaging import StudyKey
from mdg.sources.source import Writes

METADATA_LARGEST = 1024 * 1024
"""Bytes of metadata.json (spec/hostile-input 1)."""


@dataclass(frozen=True, slots=True)
class Received:
    """What came in, and for the one who waits for it: how many `studies` the search gave and JMIX `endpoints` for them,
    `instances` and sealed `bytes` of this one, seconds of the search, of the request for it, and of the download."""

    study: str
    version: int
    envelope_id: str
    instances: int
    bytes: int
    seconds: float
    studies: int
    endpoints: int
    search_seconds: float
    request_seconds: float


class Reception:
    """The consuming side of one gateway. `folder` is private and on the file system of the received studies."""

    def __init__(
        self,
        gateway: Callable[[str], Gateway],
        directory: Directory,
        received: Writes,
        audit: Audit,
        folder: Path,
    ) -> None:
        self._gateway = gateway
        self._directory = directory
        self._received = received
        self._audit = audit
        self._folder = folder

    async def sweep(self) -> None:
        """Removes what a crash left: envelopes half there, and studies opened but not yet kept. Called at the start."""
        await to_thread.run_sync(lambda: shutil.rmtree(self._folder, ignore_errors=True))

    async def receive(
        self,
        gateway_url: str,
        ihi: Ihi,
        uid: str | None,
        *,
        provider: HpiO | None,
        request_id: str,
        purpose: str = "TREAT",
    ) -> Received:
        """The study `uid` of a person, or their only one, from the gateway at `gateway_url`.

        Its signature must be by `provider`, or by the organisation that its Endpoint names when none is given; the key
        is taken from the directory, never from the gateway. `NotFound` when there is no study, `Upstream` when it may
        be in what the answer lacks, `Unprocessable` when there are several and none was named; `Refused` with the first
        fault of the envelope. After an error nothing of it is kept, and the record says why: the study becomes visible
        with the record of its import, or not at all.
        """
        peer = None
        try:
            gateway = self._gateway(gateway_url)
            peer = gateway_url
            await self._record(Kind.QUERY_SENT, ihi, uid, request_id, peer, query=search_for(ihi, uid))
            found = await gateway.find(ihi, uid, request_id=request_id, purpose=purpose)
            study = _chosen(found, uid)
            card = await self._card(study, provider)
            asked = (("provider", card.id),)
            await self._record(Kind.RETRIEVAL_SENT, ihi, study.uid, request_id, peer, details=asked)
            opened = await gateway.fetch(
                study, ihi, await self._new_folder(), provider=card, request_id=request_id, purpose=purpose
            )
            return await self._keep(opened, found, study.uid, ihi, request_id=request_id, peer=peer)
        except Exception as error:
            await self._record(Kind.IMPORT, ihi, uid, request_id, peer, outcome=Outcome.FAILURE, reason=reason(error))
            raise

    async def _card(self, study: FoundStudy, provider: HpiO | None) -> Card:
        organisation = provider or study.custodian
        card = await self._directory.card_by_id(organisation.uri) if organisation else None
        if card is None:
            raise Unprocessable("the directory has no key of that provider to verify with", reason="no-key")
        return card

    async def _record(
        self,
        kind: Kind,
        ihi: Ihi,
        uid: str | None,
        request_id: str,
        peer: str | None,
        *,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str = "",
        query: bytes | None = None,
        details: tuple[tuple[str, str], ...] = (),
    ) -> None:
        await self._audit.record(
            Event(
                kind,
                outcome,
                request_id,
                patient=ihi,
                study_uid=uid,
                reason=reason,
                query=query,
                peer=peer,
                details=details,
            )
        )

    async def _new_folder(self) -> Path:
        await to_thread.run_sync(lambda: self._folder.mkdir(mode=0o700, parents=True, exist_ok=True))
        return self._folder / secrets.token_hex(16)

    async def _keep(self, opened: Opened, found: Found, uid: str, ihi: Ihi, *, request_id: str, peer: str) -> Received:
        """Takes a verified study among the received ones; it can be found from here on."""
        kept = Event(
            Kind.IMPORT,
            Outcome.SUCCESS,
            request_id,
            patient=ihi,
            study_uid=uid,
            envelope_id=opened.report.id,
            count=opened.report.instances,
            bytes=opened.length,
            peer=peer,
        )
        key = await keep(
            self._received,
            opened.folder,
            opened.report,
            uid=uid,
            ihi=ihi,
            also=lambda connection: self._audit.add(connection, kept),
        )
        return Received(
            study=key.uid,
            version=key.version,
            envelope_id=opened.report.id,
            instances=opened.report.instances or 0,
            bytes=opened.length,
            seconds=opened.seconds,
            studies=len(found.studies),
            endpoints=sum(study.address is not None for study in found.studies),
            search_seconds=found.seconds,
            request_seconds=opened.request_seconds,
        )


async def keep(
    received: Writes,
    folder: Path,
    report: Report,
    *,
    uid: str | None = None,
    ihi: Ihi | None = None,
    also: Callable[[AsyncConnection], Awaitable[object]] | None = None,
) -> StudyKey:
    """Writes the opened and verified envelope at `folder`, which lies on the disk of `received`, as one study; the key
    of the version that it makes. `uid` and `ihi` are the study and the person that were asked for: a sender who may be
    believed about one may not bring another. `also` writes in the transaction by which the study becomes visible.

    `Refused`: the files are not one whole study, are not what was asked for, or see `Arrival.publish`. `InputOutput`,
    `Unavailable`: it cannot be kept. `folder` is gone afterwards, in any case.
    """
    try:
        files = await to_thread.run_sync(lambda: sorted(path for path in (folder / "dicom").iterdir()))
        if len(files) != report.instances:
            why = f"{len(files)} instances on the disk, {report.instances} in the envelope"
            raise Refused("E_INCOMPLETE", "dicom", why)
        ihis = await to_thread.run_sync(_ihis, folder)
        if uid not in (None, report.study_uid) or (ihi is not None and ihis != {ihi}):
            raise Refused("E_DICOM_IDENTITY", "metadata.json", "it is not the study and the person asked for")
        async with received.write(report.sender.id) as study:
            await study.add(*files)
            if study.uid != report.study_uid:
                raise Refused("E_DICOM_IDENTITY", "dicom", "it is not of the study that the envelope names")
            await to_thread.run_sync((folder / "dicom").rmdir)
            await study.attach(*await to_thread.run_sync(lambda: list(folder.iterdir())))
            return await study.publish(ihis=ihis, also=also)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _ihis(folder: Path) -> frozenset[Ihi]:
    """The IHIs among the patient's identifiers of metadata.json, under either system (spec/patient-identity 1)."""
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


def _chosen(found: Found, uid: str | None) -> FoundStudy:
    if uid is not None:
        return find_study(found, uid)
    whole(found)
    if not found.studies:
        raise NotFound(reason="nothing-found")
    if len(found.studies) > 1:
        raise Unprocessable("the provider has several studies of this person; name one", reason="several-studies")
    return found.studies[0]
