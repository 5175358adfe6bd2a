"""Notification: an event finds its subscribers, and each is told in order (spec/events 5).

`match` gives an event its number in every subscription, in the transaction that ends its job, so nothing is lost or
counted twice. `send` sends what is due: decided again for each sending, recorded before it leaves, one at a
time to each subscriber and in the order of the numbers, so that a slow one slows only itself. A receiver may get an
event twice, always under the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit import Audit
from mdg.errors import Forbidden, reason, where
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.decision import Decisions, Standing
from mdg.exchange.subscription import SCOPE_TYPE
from mdg.jobs import Again, Done, Failed, Job, Keep, Result
from mdg.jobs.events import event
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO
from mdg.model.request import Action, Verdict
from mdg.model.subscription import Message, Numbered, Status, Subscription
from mdg.outbound import Outbound, Response
from mdg.outbound.address import Origin
from mdg.store import Store
from mdg.subscriptions import retry, table

FORGET = timedelta(hours=1)
"""Between two looks for events that are old enough to be forgotten."""

log = structlog.get_logger("mdg.notification")


class Notifications:
    """Tells the subscribers of one custodian. `ways` as in `Subscriptions`; `message` renders an event, or
    without an event a handshake; its last argument is the logical id of the study that it may name, "" without one."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        decisions: Decisions,
        audit: Audit,
        *,
        standing: Standing,
        ways: Mapping[HpiO, Outbound],
        custodian: HpiO,
        message: Callable[[Subscription, Numbered | None, str], Message],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._decisions = decisions
        self._audit = audit
        self._standing = standing
        self._ways = ways
        self._custodian = custodian
        self._message = message

    async def match(self, job: Job) -> Done:
        """Gives the event of the job, of kind `MATCH_SUBSCRIBERS`, its number in each subscription that it concerns.
        `Unavailable` when nobody can say whose the study is."""
        async with self._store.read() as connection:
            happened = await event(connection, self._custodian, int(job.key))
        if happened is None:
            return Done()
        held = await self._catalogue.whose(happened.study.uid)
        patient = held.ihi if held is not None and held.normal else None
        now = self._decisions.clock()

        async def keep(connection: AsyncConnection) -> None:
            await table.number(connection, happened, patient, now)

        return Done(keep)

    async def send(self, job: Job) -> Result:
        """Sends the handshake of a subscription, or its next event: the job, of kind `table.NOTIFY`, has its id."""
        async with self._store.read() as connection:
            before = await table.find(connection, self._custodian, job.key)
            if before is None or before.status not in table.WAITING:
                return Done()
            event = None
            if before.status is Status.ACTIVE:
                if before.delivered == before.events:
                    return Done()
                event = await table.event(connection, self._custodian, before.id, before.delivered + 1)
        request_id = str(uuid4())
        try:
            answer = await self._send(before, event, request_id)
        except Exception as error:  # each fault at an endpoint fails this try, and no other subscriber's
            log.warning("not-sent", request_id=request_id, reason=reason(error), where=where(error))
            return await self._failed(before, event, request_id, job.tries, failure=reason(error))
        if not 200 <= answer.status < 300:
            return await self._failed(
                before, event, request_id, job.tries, failure=f"status-{answer.status}", answer=answer
            )
        after = retry.arrived(before)
        keep = self._keeping(before, after)
        return Again(keep=keep) if after.delivered < after.events else Done(keep)

    async def end(self, job: Job) -> Result:
        """Switches a subscription off whose end has come: the job, of kind `table.END`, has its id."""
        now = self._decisions.clock()
        return Done(partial(table.switch_off, of=self._custodian, id_=job.key, now=now))

    async def forget(self, _: Job) -> Result:
        """Removes the events and subscriptions that are old enough to be forgotten."""
        before = self._decisions.clock() - retry.KEPT
        return Again(FORGET, partial(table.forget, of=self._custodian, before=before))

    async def _failed(
        self,
        before: Subscription,
        event: Numbered | None,
        request_id: str,
        tries: int,
        *,
        failure: str,
        answer: Response | None = None,
    ) -> Failed:
        """The end of a try that failed, and what becomes of the subscription by it."""
        await self._record(before, event, request_id, failure=failure)
        after = retry.failed(before, tries, gone=answer is not None and answer.status == retry.GONE)
        return Failed(
            failure,
            f"the receiver answered {answer.status}" if answer else "the receiver could not be told",
            asked=_asked(answer) if answer else None,
            final=after.status not in table.WAITING,
            keep=self._keeping(before, after),
        )

    def _keeping(self, before: Subscription, after: Subscription) -> Keep:
        return partial(table.keep, of=self._custodian, before=before, after=after, now=self._decisions.clock())

    async def _send(self, one: Subscription, event: Numbered | None, request_id: str) -> Response:
        """Decides, records, sends. Any `error: it has not arrived, or nobody knows whether it has."""
        way = self._ways.get(one.owner.organisation)
        if way is None:
            raise Forbidden(reason="origin-not-allowed")
        focus, verdict = await self._told(one, event) if event else ("", None)
        message = self._message(one, event, focus)
        way.check(one.wanted.endpoint)
        await self._record(one, event, request_id, verdict=verdict, focus=focus)
        headers = {"Content-Type": message.media_type, "X-Request-ID": request_id}
        if one.wanted.authorization is not None:
            headers["Authorization"] = one.wanted.authorization
        return await way.post(one.wanted.endpoint, message.body, headers)

    async def _told(self, one: Subscription, event: Numbered) -> tuple[str, Verdict | None]:
        """The logical id of the study when this subscriber may be told of it now, else nothing, and the decision."""
        held = await self._catalogue.study(event.study, one.patient)
        if held is None or not await self._standing.still_stands(one.owner):
            return "", None
        verdict = self._decisions.of_study(one.owner, Action.DISCOVER, SCOPE_TYPE, held)
        return (held.study.id if verdict.allowed else ""), verdict

    async def _record(
        self,
        one: Subscription,
        event: Numbered | None,
        request_id: str,
        *,
        verdict: Verdict | None = None,
        failure: str = "",
        focus: str = "",
    ) -> None:
        """One record before each sending, and another when it has failed, with its cause."""
        said = (("number", str(event.number)), ("focus", focus or "none")) if event and not failure else ()
        await self._audit.record(
            Event(
                Kind.NOTIFICATION,
                Outcome.FAILURE if failure else Outcome.SUCCESS,
                request_id,
                requester=one.owner,
                patient=one.patient,
                study_uid=event.study if event else None,
                resource=f"Subscription/{one.id}",
                reason=failure,
                verdict=verdict,
                peer=str(Origin.of(one.wanted.endpoint, sandbox=True)),  # its path may hold a secret
                details=said,
            )
        )


def _asked(answer: Response) -> timedelta | None:
    """`Retry-After` in seconds; a date is as good as none."""
    value = answer.headers.get("retry-after", "")
    return timedelta(seconds=int(value)) if value.isdecimal() and len(value) < 9 else None
