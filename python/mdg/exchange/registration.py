"""Registration: the registry is told who holds something about a person, and when nobody here does any more
(IEF CAP3, RG-A1; spec/events 3).

A job is one look at the people of a study, not a message: each look compares what discovery would show now with what
the registry was last told, so a look may come twice, late, or once for several events. A change is on record before
it is sent and again when the registry has acknowledged it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit import Audit
from mdg.errors import Conflict, Problem, Unavailable, Upstream
from mdg.exchange.catalogue import Catalogue
from mdg.identity import Identities
from mdg.jobs import Done, Job, table
from mdg.jobs.events import look
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO, Ihi
from mdg.registry import Record, Registration, Registrations, Registry, Status
from mdg.store import Store
from mdg.store.index import studies


class Registrar:
    """Keeps a registry up to date for the service `service_id`, by jobs of the kind `TELL_REGISTRY`."""

    def __init__(
        self,
        store: Store,
        *,
        registrations: Registrations,
        registry: Registry,
        catalogue: Catalogue,
        identities: Identities,
        audit: Audit,
        custodian: HpiO,
        service_id: str,
    ) -> None:
        self._store = store
        self._registrations = registrations
        self._registry = registry
        self._catalogue = catalogue
        self._identities = identities
        self._audit = audit
        self._custodian = custodian
        self._service_id = service_id

    async def begin_anew(self) -> None:
        """For a registry that has forgotten everything: it is told of everybody again."""

        async def anew(connection: AsyncConnection) -> None:
            await self._registrations.forget(connection)
            known = select(studies.c.uid).distinct().where(studies.c.custodian == self._custodian)
            uids = (await connection.execute(known.order_by(studies.c.uid))).scalars()
            await table.add(connection, self._custodian, [look(uid) for uid in uids], datetime.now(UTC))

        await self._store.write(anew)

    async def look(self, job: Job) -> Done:
        """Brings everybody up to date whom the study of the job is or was about. `Unavailable` when registry, sources
        or store cannot be asked now, `Upstream` when the registry refuses."""
        study = job.key
        people = await self._identities.people(study)
        for ihi in sorted(people | await self._registrations.about(study)):
            await self._update(ihi)
        return Done(partial(self._registrations.keep_about, study=study, people=people))

    async def _update(self, ihi: Ihi) -> None:
        wanted = await self._discoverable(ihi)
        told = await self._registrations.of(ihi)
        if told is not None and not told.acknowledged:
            told = await self._tell(told)
        if wanted and (told is None or told.status is Status.REMOVED):
            await self._tell(await self._begin(told, Registration(ihi, self._service_id, Status.ACTIVE, _key())))
        elif not wanted and told is not None and told.status is Status.ACTIVE:
            removal = replace(told, status=Status.REMOVED, key=_key(), acknowledged=False)
            await self._tell(await self._begin(told, removal))

    async def _discoverable(self, ihi: Ihi) -> bool:
        """Whether somebody who may treat the person finds anything here. A study in quarantine or of a disputed person
        is not found, and one labelled more sensitive than normal must not be pointed to either."""
        held, unanswered = await self._catalogue.of(ihi)
        if any(one.normal for one in held):
            return True
        if unanswered:  # what it holds is not known, so nobody is taken back
            raise Unavailable(reason="source-" + unanswered[0][1])
        return False

    async def _tell(self, change: Registration) -> Registration:
        """Sends a change that was begun; what is registered after it."""
        try:
            answer = await self._send(change)
        except Unavailable:
            raise
        except Problem as error:
            if isinstance(error, Upstream) and error.answered == 409 and change.status is Status.ACTIVE:
                # The registry removed this record by itself: the person comes back under a new key, at the next try.
                await self._begin(change, replace(change, key=_key(), record_id=""))
            await self._audit.record(self._event(change, Outcome.REFUSED, reason=error.reason))
            raise
        await self._store.write(partial(self._acknowledge, change=change, answer=answer))
        return replace(change, acknowledged=True, record_id=answer.record_id if answer else change.record_id)

    async def _send(self, change: Registration) -> Record | None:
        if change.status is Status.ACTIVE:
            return await self._registry.put(change.ihi, change.service_id, change.key)
        return await self._registry.remove(change.record_id, change.key)

    async def _begin(self, before: Registration | None, change: Registration) -> Registration:
        """Keeps a change of what was registered `before` together with the record that it is about to leave.
        `Conflict` if another process has begun a change of this person since: the next try sees it."""

        async def keep(connection: AsyncConnection) -> None:
            if not await self._registrations.begin(connection, before, change):
                raise Conflict("another process registers this person now", reason="registered-elsewhere")
            await self._audit.add(connection, self._event(change, Outcome.SUCCESS, step="sent"))

        await self._store.write(keep)
        return change

    async def _acknowledge(self, connection: AsyncConnection, change: Registration, answer: Record | None) -> None:
        await self._registrations.acknowledge(connection, change, answer)
        await self._audit.add(connection, self._event(change, Outcome.SUCCESS, step="acknowledged"))

    def _event(self, change: Registration, outcome: Outcome, *, step: str = "refused", reason: str = "") -> Event:
        """The record of one step of a change; the key of the change joins them."""
        return Event(
            Kind.REGISTER,
            outcome,
            change.key,
            patient=change.ihi,
            resource=f"urn:uuid:{change.key}",
            reason=reason,
            peer=self._registry.url,
            details=(("status", str(change.status)), ("step", step)),
        )


def _key() -> str:
    return str(uuid4())
