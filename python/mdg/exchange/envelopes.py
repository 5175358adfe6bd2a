"""Finished envelopes: made once into a private spool, then served like any file until they lapse.

JMIX 1.0 has its tag, hash and signature at the end, so a response cannot start before the whole envelope exists
(spec/storage 5). A spool is sealed to one recipient; it is named by a random id, mode 0600, and erased with its
row.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import anyio
import structlog
from anyio import to_thread
from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    Select,
    Table,
    Text,
    and_,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg import envelope
from mdg.envelope.beside import beside
from mdg.envelope.recipe import Recipe
from mdg.errors import InputOutput, MdgError, Unavailable, Unprocessable
from mdg.exchange.catalogue import CatalogueEntry
from mdg.identity.enrichment import whose
from mdg.jobs import Again, Job
from mdg.keys import Card, Keyring
from mdg.model.identity import HpiO, Ihi
from mdg.model.located import Located
from mdg.model.request import Requester
from mdg.sources.local_files import local_files
from mdg.sources.source import Reads
from mdg.store import Store, has_room
from mdg.store.schema import Document, Number, custodian, metadata, microseconds, moment

MOST = 60 << 30
"""Bytes of a study that JMIX 1.0 may carry (seg/1 13.4)."""

MAKING = timedelta(hours=1)
"""No envelope takes longer to make: a file without a row that is older was left by a crash or has lapsed."""

SWEEP_SPOOL, SWEEP = "sweep-spool", timedelta(minutes=1)
"""The kind of job that erases envelopes that have lapsed, and the time between two."""

log = structlog.get_logger("mdg.envelopes")

ENVELOPES = Table(
    "envelopes",
    metadata,
    custodian(),
    Column("id", Text, primary_key=True),
    Column("envelope_id", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("study_version", Number, nullable=False),
    Column("ihi", Text, nullable=False),
    Column("identifiers", Document, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("jkt", Text, nullable=False),
    Column("recipient", LargeBinary, nullable=False),
    Column("request_digest", LargeBinary),
    Column("state", LargeBinary, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("not_after", Number, nullable=False),
    Column("granted", Number),
    Index(None, "custodian", "request_digest"),
    Index(None, "custodian", "study_uid", "study_version", "client_id"),
    Index(None, "custodian", "envelope_id"),
)
"""`ihi` is the person that the envelope is about; `identifiers` are the (system, value) pairs of the patient in its
sealed metadata.json. An envelope is served only while both are those of its study. `request_digest`: SHA-256 of the
signed request that it answers, NULL for one sealed to a key of the directory; `granted` when that answer was begun."""

Identifiers: TypeAlias = tuple[tuple[str, str], ...]
"""(system, value) of each identifier of a patient."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One finished envelope. `id` names the recipe, `envelope_id` the JMIX envelope; `not_after` is UTC."""

    id: str
    envelope_id: str
    study_uid: str
    study_version: int
    ihi: Ihi = field(repr=False)
    identifiers: Identifiers = field(repr=False)
    issuer: str
    client_id: str
    organisation: str
    jkt: str
    recipient: bytes
    request_digest: bytes | None
    state: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    not_after: datetime

    @property
    def recipe(self) -> Recipe:
        """How its bytes are made and checked."""
        return Recipe.load(self.state)


class Envelopes:
    """The spool of one gateway and the table that says what is in it."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        custodian: HpiO,
        keyring: Keyring,
        lifetime: timedelta,
    ) -> None:
        self._store = store
        self._folder = folder
        self._custodian = custodian
        self._keyring = keyring
        self._lifetime = lifetime

    def path(self, id_: str) -> Path:
        """Where the spool of an envelope is."""
        return self._folder / f"{id_}.zip"

    async def make(
        self,
        held: CatalogueEntry,
        source: Reads,
        objects: Sequence[Located],
        *,
        requester: Requester,
        receiver: Card,
        recipient: bytes,
        identifiers: Identifiers,
        request_digest: bytes | None,
        now: datetime,
    ) -> Envelope:
        """Packs, signs and seals the `objects` of the study to `recipient` (raw X25519 key). It can be had once it is
        kept.

        `Refused` E_STORE_CORRUPT or E_CHANGED when an object is not what was indexed; `Unprocessable` for a study too
        large; `Unavailable` while the disk has no room for it; `InputOutput` when the spool cannot be written. Nothing
        is left behind after an error.
        """
        if held.study.bytes > MOST:
            raise Unprocessable("the study is larger than a JMIX 1.0 envelope may be (60 GiB)", reason="too-large")
        id_, envelope_id = secrets.token_urlsafe(24), str(uuid4())
        path = self.path(id_)
        await to_thread.run_sync(_private_folder, self._folder)
        if not await to_thread.run_sync(has_room, self._folder, held.study.bytes):
            raise Unavailable("there is no room to make it now; try again later", reason="disk-full", retry_after=60)
        try:
            async with local_files(source, objects, self._folder / f"{id_}.copy") as files:
                packed = await beside(
                    lambda told: envelope.pack(
                        [(file, one.sha256) for file, one in zip(files, objects, strict=True)],
                        envelope_id=envelope_id,
                        timestamp=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        patient_id=f"urn:uuid:{uuid4()}",
                        identifiers=identifiers,
                        sender=self._keyring.card.entity,
                        requester=receiver.entity,
                        receiver=receiver.entity,
                        recipient=recipient,
                        signer=self._keyring.ed25519,
                        request_digest=request_digest,
                        out=path,
                        recipe=True,
                        progress=told,
                    )
                )
            made = Envelope(
                id=id_,
                envelope_id=envelope_id,
                study_uid=held.study.key.uid,
                study_version=held.study.key.version,
                ihi=held.ihi,
                identifiers=identifiers,
                issuer=requester.issuer,
                client_id=requester.client_id,
                organisation=str(requester.organisation),
                jkt=requester.jkt,
                recipient=recipient,
                request_digest=request_digest,
                state=packed.state,
                manifest=packed.manifest,
                not_after=now + self._lifetime,
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_remove, [path])
            raise
        return made

    async def by_id(self, id_: str, requester: Requester, now: datetime) -> Envelope | None:
        """The live envelope of a recipe id, if it was made for this client, acting for this organisation, and is about
        the person of the token."""
        return await self._one({"id": id_}, requester, now)

    async def by_envelope_id(self, envelope_id: str, requester: Requester, now: datetime) -> Envelope | None:
        """The same by its JMIX envelope id, if it is sealed to a key of the directory."""
        return await self._one({"envelope_id": envelope_id, "request_digest": None}, requester, now)

    async def current(
        self, requester: Requester, held: CatalogueEntry, identifiers: Identifiers, recipient: bytes, now: datetime
    ) -> Envelope | None:
        """The live envelope that this client already has of this version, with these identifiers of the patient in it,
        sealed to this key of the directory."""
        found = await self._one(_sealed_to(held, recipient), requester, now)
        return found if found is not None and found.identifiers == identifiers else None

    async def holds(
        self,
        connection: AsyncConnection,
        *,
        requester: Requester,
        held: CatalogueEntry,
        identifiers: Identifiers,
        recipient: bytes,
        now: datetime,
    ) -> bool:
        """Whether there is an envelope for `current`, as the caller's transaction sees it."""
        wanted = self._query(_sealed_to(held, recipient), requester, now)
        row = (await connection.execute(wanted)).mappings().first()
        return row is not None and tuple((system, value) for system, value in row["identifiers"]) == identifiers

    async def take(self, requester: Requester, digest: bytes, now: datetime) -> Envelope | None:
        """The envelope that answers the request of this digest, for the one caller who grants it: a process that asks
        later finds none."""
        found = await self._one({"request_digest": digest, "granted": None}, requester, now)
        if found is None:
            return None
        free = and_(self._row(found.id), ENVELOPES.c.granted.is_(None))
        taken = update(ENVELOPES).where(free).values(granted=microseconds(now))
        rows = await self._store.write(lambda connection: connection.execute(taken))
        return found if rows.rowcount else None

    async def answers(self, connection: AsyncConnection, requester: Requester, digest: bytes, now: datetime) -> bool:
        """Whether there is an envelope for `take`, as the caller's transaction sees it."""
        wanted = self._query({"request_digest": digest, "granted": None}, requester, now)
        return (await connection.execute(wanted)).first() is not None

    async def end(self, made: Envelope) -> None:
        """Erases an envelope: nobody gets it any more, and who may have it is made a new one."""
        gone = delete(ENVELOPES).where(self._row(made.id))
        await self._store.write(lambda connection: connection.execute(gone))
        await to_thread.run_sync(_remove, [self.path(made.id)])

    async def damaged(self, made: Envelope, reason: str) -> None:
        """Erases an envelope whose file is not what was written, and tells the operator."""
        log.error("envelope damaged", envelope=made.envelope_id, folder=str(self._folder), reason=reason)
        await self.end(made)

    async def sweep(self, now: datetime, *, starting: bool = False) -> int:
        """Erases what has lapsed, what is about another person than its study is now, and what a crash left in the
        spool: at the start every file without a row, later only those that no job can be making any more. The number of
        files erased. `InputOutput` for one that cannot be."""
        lapsed = ENVELOPES.c.not_after < microseconds(now)
        stale = ~whose(ENVELOPES.c.custodian, ENVELOPES.c.study_uid, ENVELOPES.c.ihi)

        async def lapse(connection: AsyncConnection) -> list[str]:
            over = delete(ENVELOPES).where(ENVELOPES.c.custodian == self._custodian, or_(lapsed, stale))
            return list((await connection.execute(over.returning(ENVELOPES.c.id))).scalars())

        ended = [self.path(id_) for id_ in await self._store.write(lapse)]
        await to_thread.run_sync(_remove, ended)
        async with self._store.read() as connection:
            rows = await connection.execute(select(ENVELOPES.c.id).where(ENVELOPES.c.custodian == self._custodian))
            live = {f"{id_}.zip" for id_ in rows.scalars()}
        older = float("inf") if starting else (now - MAKING).timestamp()
        return len(ended) + await to_thread.run_sync(_erase_others, self._folder, live, older)

    async def swept(self, _: Job) -> Again:
        """The job of kind `SWEEP_SPOOL`: a sweep, and another one later."""
        try:
            await self.sweep(datetime.now(UTC))
        except MdgError as error:  # tried again at the next look; a spool that only grows needs an operator
            log.error("spool not swept", why=str(error))
        return Again(SWEEP)

    async def keep(self, connection: AsyncConnection, made: Envelope) -> None:
        """Writes the row of an envelope that was made: it can be had from the end of that transaction on."""
        row: dict[str, Any] = {name: getattr(made, name) for name in Envelope.__slots__}
        row |= {"custodian": self._custodian, "not_after": microseconds(made.not_after)}
        await connection.execute(insert(ENVELOPES).values(row))

    def _row(self, id_: str) -> ColumnElement[bool]:
        return and_(ENVELOPES.c.custodian == self._custodian, ENVELOPES.c.id == id_)

    def _query(self, wanted: Mapping[str, object], requester: Requester, now: datetime) -> Select[tuple[Any, ...]]:
        """The newest live envelope of this owner and this person. Both stand in the condition, so that an envelope of
        somebody else costs what an unknown one costs."""
        names = Envelope.__slots__
        wanted = {
            **wanted,
            "ihi": requester.patient,
            "issuer": requester.issuer,
            "client_id": requester.client_id,
            "organisation": requester.organisation,
        }
        query = select(*(ENVELOPES.c[name] for name in names)).where(
            ENVELOPES.c.custodian == self._custodian,
            ENVELOPES.c.not_after >= microseconds(now),
            *(
                ENVELOPES.c[name].is_(None) if value is None else ENVELOPES.c[name] == value
                for name, value in wanted.items()
            ),
        )
        return query.order_by(ENVELOPES.c.not_after.desc()).limit(1)

    async def _one(self, wanted: Mapping[str, object], requester: Requester, now: datetime) -> Envelope | None:
        async with self._store.read() as connection:
            row = (await connection.execute(self._query(wanted, requester, now))).mappings().first()
        if row is None:
            return None
        identifiers = tuple((system, value) for system, value in row["identifiers"])
        found = Envelope(**{**row, "identifiers": identifiers, "not_after": moment(row["not_after"])})
        if not await anyio.Path(self.path(found.id)).is_file():
            await self.damaged(found, "missing")
            return None
        return found


def _sealed_to(held: CatalogueEntry, recipient: bytes) -> dict[str, object]:
    """What an envelope of this version has that is sealed to a key of the directory."""
    key = held.study.key
    return {
        "study_uid": key.uid,
        "study_version": key.version,
        "recipient": recipient,
        "request_digest": None,
    }


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputOutput(str(folder), error.strerror or "the spool cannot be made") from error


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _erase_others(folder: Path, live: set[str], older: float) -> int:
    erased = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if path.name not in live and path.lstat().st_mtime < older:
                path.unlink()
                erased += 1
        except FileNotFoundError:
            continue  # it was finished, and so renamed, or given up since the folder was read
        except OSError as error:
            raise InputOutput(str(path), f"{error.strerror}; the spool holds only files of the gateway") from error
    return erased


def identifiers_of(held: CatalogueEntry, record_system: str | None) -> Identifiers:
    """(system, value) of the patient for metadata.json: the IHI, then the local number in its namespace, if it has
    one."""
    ihi = (Ihi.system, str(held.ihi))
    return (ihi, (record_system, held.study.patient.value)) if record_system else (ihi,)
