"""Subscription: making, reading and ending one (IEF CAP4).

Order of a creation: may the caller subscribe at all and for this person; is the endpoint one that its organisation may
be told at; the row and its audit record, in one transaction. Another's subscription and one that is not there are the
same. Events are matched and sent by `exchange.notification`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.access import Consents
from mdg.audit import Audit
from mdg.errors import Forbidden, NotFound, Throttled, Unprocessable, about
from mdg.exchange.decision import Decisions
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO
from mdg.model.request import Action, Requester, Verdict
from mdg.model.subscription import Status, Subscription, Wanted
from mdg.outbound import Outbound
from mdg.store import Store
from mdg.subscriptions import table

SCOPE_TYPE = "Subscription"
MOST = 1000
"""Subscriptions of one client: one for each patient of a large clinic's boards (spec/hostile-input L10)."""


class Subscriptions:
    """Subscriptions of one gateway. `ways` are the clients by which each organisation may be told, each with the
    origins that were agreed with it: nobody else's endpoint can be named."""

    def __init__(
        self,
        store: Store,
        decisions: Decisions,
        audit: Audit,
        *,
        consents: Consents,
        ways: Mapping[HpiO, Outbound],
        custodian: HpiO,
    ) -> None:
        self._store = store
        self._decisions = decisions
        self._audit = audit
        self._consents = consents
        self._ways = ways
        self._custodian = custodian

    async def create(self, requester: Requester, wanted: Wanted, request_id: str) -> Subscription:
        """Makes the subscription that is asked for; its handshake follows.

        `Forbidden` for another person than the token's or an endpoint that was not agreed, `Unprocessable` for an end
        in the past, `Throttled` when the client has too many.
        """
        self._decisions.admit(requester, Action.DISCOVER, SCOPE_TYPE)
        with about(patient=wanted.patient or requester.patient, study_uid=wanted.study):
            if requester.patient is None or wanted.patient not in (None, requester.patient):
                raise Forbidden(reason="another-patient")
            if requester.organisation not in self._ways:
                raise Forbidden(reason="origin-not-allowed")
            consents = await self._consents.of(requester.patient)
            verdict = self._decisions.of_person(requester, Action.DISCOVER, SCOPE_TYPE, consents)
            self._ways[requester.organisation].check(wanted.endpoint)
        now = self._decisions.clock()
        if wanted.end is not None and wanted.end <= now:
            raise Unprocessable("end lies in the past", reason="subscription-end")
        new = Subscription(secrets.token_hex(16), requester, requester.patient, wanted, Status.REQUESTED, now)
        made = _event(Kind.SUBSCRIPTION_CREATED, requester, new, verdict, request_id)

        async def keep(connection: AsyncConnection) -> None:
            if await table.count(connection, self._custodian, requester) >= MOST:
                raise Throttled(f"a client has at most {MOST} subscriptions; delete some", reason="subscriptions")
            await table.add(connection, self._custodian, new)
            await self._audit.add(connection, made)

        await self._store.write(keep)
        return new

    async def read(self, requester: Requester, id_: str, request_id: str) -> Subscription:
        """The subscription. `NotFound` if no subscription has this id, or if it is another organisation's."""
        found, verdict = await self._own(requester, id_)
        await self._audit.record(_event(Kind.READ, requester, found, verdict, request_id))
        return found

    async def delete(self, requester: Requester, id_: str, request_id: str) -> None:
        """Ends it and forgets its events, those not sent yet included."""
        found, verdict = await self._own(requester, id_)
        gone = _event(Kind.SUBSCRIPTION_DELETED, requester, found, verdict, request_id)

        async def remove(connection: AsyncConnection) -> None:
            await table.remove(connection, self._custodian, found.id)
            await self._audit.add(connection, gone)

        await self._store.write(remove)

    async def _own(self, requester: Requester, id_: str) -> tuple[Subscription, Verdict]:
        """The caller's own subscription, and why it may be used."""
        verdict = self._decisions.admit(requester, Action.DISCOVER, SCOPE_TYPE)
        async with self._store.read() as connection:
            found = await table.find(connection, self._custodian, id_, requester)
        if found is None:
            raise NotFound
        return found, verdict


def _event(kind: Kind, requester: Requester, one: Subscription, verdict: Verdict, request_id: str) -> Event:
    return Event(
        kind,
        Outcome.SUCCESS,
        request_id,
        requester=requester,
        patient=one.patient,
        study_uid=one.wanted.study,
        resource=f"Subscription/{one.id}",
        verdict=verdict,
        details=(("topic", one.wanted.topic),),
    )
