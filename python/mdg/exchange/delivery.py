"""Notification, the gateway's side of it: an event finds its subscribers, and each is told in order (architecture
"Notification"; fhir-au 6.3).

`match` gives an event its number in every subscription, in the transaction that ends its job, so nothing is lost or
counted twice. `run` sends what is due: decided again for each sending, recorded before it leaves, one at a
time to each subscriber and in the order of the numbers, so that a slow one slows only itself. A receiver may get an
event twice, always under the same number.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import uuid4

import anyio
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.audit import Audit
from mdg.errors import Forbidden, reason, where
from mdg.exchange.holdings import Holdings
from mdg.exchange.judge import Judge, Standing
from mdg.exchange.subscription import SCOPE_TYPE
from mdg.jobs import Done, Job
from mdg.jobs.events import event
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO
from mdg.model.request import Action, Verdict
from mdg.model.subscription import Message, Numbered, Status, Subscription
from mdg.outbound import Outbound, Response
from mdg.outbound.address import Origin
from mdg.store import Store
from mdg.subscriptions import retry, table

AT_ONCE = 32
"""Subscriptions of one organisation that are told at the same time, as many as its client has connections. A silent one
holds its place for ten seconds a try; those of another organisation do not wait for it."""
LOOK = 1.0
"""Seconds between two looks for what is due."""
TIDY = 3600.0
"""Seconds between two looks for events that are old enough to be forgotten."""

log = structlog.get_logger("mdg.delivery")


class Delivery:
    """Tells the subscribers of one custodian. `ways` as in `Subscriptions`; `message` renders an event, or a handshake
    if there is none, with the logical id of the study that it may name ("" for none)."""

    def __init__(
        self,
        store: Store,
        holdings: Holdings,
        judge: Judge,
        audit: Audit,
        *,
        standing: Standing,
        ways: Mapping[HpiO, Outbound],
        custodian: HpiO,
        message: Callable[[Subscription, Numbered | None, str], Message],
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._judge = judge
        self._audit = audit
        self._standing = standing
        self._ways = ways
        self._custodian = custodian
        self._message = message
        self._chance = secrets.SystemRandom().random
        self._tidied = float("-inf")

    async def match(self, job: Job) -> Done:
        """Gives the event of the job, of kind `MATCH_SUBSCRIBERS`, its number in each subscription that it concerns.
        `Unavailable` when nobody can say whose the study is."""
        async with self._store.read() as connection:
            happened = await event(connection, self._custodian, int(job.key))
        if happened is None:
            return Done()
        held = await self._holdings.whose(happened.study.uid)
        patient = held.ihi if held is not None and held.normal else None

        async def keep(connection: AsyncConnection) -> None:
            await table.number(connection, happened, patient)

        return Done(keep)

    async def run(self) -> None:
        """Sends what is due until it is cancelled."""
        busy: defaultdict[HpiO, set[str]] = defaultdict(set)

        async def one(id_: str, ours: set[str]) -> None:
            try:
                await self._serve(id_)
            finally:
                ours.discard(id_)

        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    for id_, organisation in await self._due():
                        ours = busy[organisation]
                        if id_ not in ours and len(ours) < AT_ONCE:
                            ours.add(id_)
                            tasks.start_soon(one, id_, ours)
                except Exception as error:  # a fault of ours must not end the gateway
                    log.warning("not-looked", reason=reason(error), where=where(error))
                await anyio.sleep(LOOK)  # what is due may have come from another process, or by the clock alone

    async def round(self) -> None:
        """Sends once what is due now."""
        for id_, _ in await self._due():
            await self._serve(id_)

    async def _due(self) -> list[tuple[str, HpiO]]:
        now = self._judge.clock()
        async with self._store.read() as connection:
            lapsed = await table.lapsed(connection, self._custodian, now)
        if lapsed:
            await self._store.write(lambda connection: table.switch_off(connection, self._custodian, lapsed))
        if anyio.current_time() >= self._tidied + TIDY:
            self._tidied = anyio.current_time()
            await self._store.write(lambda connection: table.forget(connection, self._custodian, now - retry.KEPT))
        async with self._store.read() as connection:
            return await table.due(connection, self._custodian, now, AT_ONCE)

    async def _serve(self, id_: str) -> None:
        """Sends to one subscriber until nothing is left or something failed."""
        try:
            while await self._next(id_):
                pass
        except Exception as error:  # mostly the store: what was sent may be sent again, under its number
            log.warning("not-kept", subscription=id_, reason=reason(error), where=where(error))

    async def _next(self, id_: str) -> bool:
        """One try; whether another may follow at once."""
        async with self._store.read() as connection:
            before = await table.find(connection, self._custodian, id_)
            if before is None or before.status not in table.WAITING:
                return False
            event = None
            if before.status is Status.ACTIVE:
                if before.delivered == before.events:
                    return False
                event = await table.event(connection, self._custodian, id_, before.delivered + 1)
        now = self._judge.clock()
        if not await self._store.write(lambda connection: table.claim(connection, self._custodian, before, now)):
            return False
        after, asked = await self._try(before, event)
        due = retry.next_try(after, self._judge.clock(), self._chance(), asked)
        await self._store.write(lambda connection: table.keep(connection, self._custodian, before, after, due))
        return not after.tries

    async def _try(self, before: Subscription, event: Numbered | None) -> tuple[Subscription, timedelta | None]:
        """What becomes of the subscription by one try, and how long its receiver asked to be left alone."""
        request_id = str(uuid4())
        try:
            answer = await self._send(before, event, request_id)
        except Exception as error:  # whatever an endpoint provokes is a failure of this try and of nobody else's
            log.warning("not-sent", request_id=request_id, reason=reason(error), where=where(error))
            await self._record(before, event, request_id, failure=reason(error))
            return retry.failed(before), None
        if 200 <= answer.status < 300:
            return retry.arrived(before), None
        await self._record(before, event, request_id, failure=f"status-{answer.status}")
        return retry.failed(before, gone=answer.status == retry.GONE), _asked(answer)

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
        held = await self._holdings.study(event.study, one.patient)
        if held is None or not await self._standing.still_stands(one.owner):
            return "", None
        verdict = self._judge.of_study(one.owner, Action.DISCOVER, SCOPE_TYPE, held)
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
