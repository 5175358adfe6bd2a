"""Retrieval: one request moves a whole study, sealed to the one who asked (IEF CAP2.1).

`request` answers a signed request (seg/1 8.4) with the address of an envelope made for it; `fetch` gives the envelope
of a study sealed to the client's key in the directory; `download` and `stored` give the bytes of either. Every call is
decided anew, the grant and each release are in the audit before a byte leaves, and a running stream is decided again
as it goes. Making takes as long as it takes: a caller who would wait longer than 30 s is told to come back, and the
work goes on.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import anyio

from mdg.access import Replay, Tickets, VerifiedRequest, verify_request
from mdg.audit import Audit
from mdg.errors import Forbidden, MdgError, NotFound, Unauthenticated, Unavailable, Unprocessable, about
from mdg.exchange.catalogue import Catalogue, CatalogueEntry
from mdg.exchange.decision import PAYLOAD, Decisions, Standing
from mdg.exchange.envelopes import Envelope, Envelopes, Identifiers, identifiers_of
from mdg.exchange.making import Making, Order, failed, late, owner
from mdg.exchange.preconditions import not_modified
from mdg.exchange.ranges import Span, select
from mdg.exchange.release import Release, Wanted
from mdg.jobs import Done, Failed, Job
from mdg.keys import Card, Directory
from mdg.model.event import Event, Kind, Outcome
from mdg.model.identity import HpiO, Ihi
from mdg.model.local_numbers import LocalNumbers
from mdg.model.request import Action, Requester, Verdict
from mdg.sources.source import Reads

LEVEL_STATIC, LEVEL_REQUEST = 0, 2
"""Forward-secrecy levels (seg/1 16): sealed to the directory's key, sealed to a key made for this request."""

DAMAGED = frozenset({"E_STORE_CORRUPT", "spool", "InputOutput"})
"""Ends of a release that lie in the file of the envelope: it is not what was written, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to a request: where the envelope is, how long it is, until when it is kept. `fs`: seg/1 16."""

    path: str
    length: int
    etag: str
    not_after: str
    fs: int


class Retrieval:
    """The retrieval side of one gateway."""

    def __init__(
        self,
        catalogue: Catalogue,
        decisions: Decisions,
        audit: Audit,
        envelopes: Envelopes,
        *,
        making: Making,
        tickets: Tickets,
        replay: Replay,
        directory: Directory,
        standing: Standing,
        custodian: HpiO,
        numbers: LocalNumbers,
        minimum_level: int,
    ) -> None:
        self._catalogue = catalogue
        self._decisions = decisions
        self._audit = audit
        self._envelopes = envelopes
        self._tickets = tickets
        self._replay = replay
        self._directory = directory
        self._standing = standing
        self._custodian = custodian
        self._numbers = numbers
        self._minimum_level = minimum_level
        self._making = making

    # --- asking ---

    async def request(self, requester: Requester, jws: bytes, request_id: str) -> Granted:
        """Answers a signed retrieval request. Its nonce is used up by the grant only, so a 503 may simply be repeated.

        `Unauthenticated`, `Conflict`, `Unprocessable`, `NotFound`, `Unavailable` as spec/fhir 5 says.
        """
        self._decisions.admit(requester, Action.DISCLOSE, PAYLOAD)
        now = self._decisions.clock()
        verified = await verify_request(
            jws, audience=self._custodian.uri, requester=requester, directory=self._directory, now=now
        )
        with about(resource=f"ImagingStudy/{verified.request.study}"):
            return await self._answered(requester, verified, request_id)

    async def _answered(self, requester: Requester, verified: VerifiedRequest, request_id: str) -> Granted:
        made: Envelope | None = None
        try:
            async with self._replay.once("nonce", verified.nonce_key, verified.nonce_until):
                held = await self._catalogue.study_by_id(verified.request.study, _person(requester))
                held, verdict = self._disclosable(requester, held)
                made = await self._envelopes.take(requester, verified.digest, self._decisions.clock())
                if made is None:
                    recipient, digest = verified.request.public_key, verified.digest
                    order = Order(held.study.key.uid, requester, verified.card, recipient, digest)
                    now = self._decisions.clock()
                    there = partial(self._envelopes.answers, requester=requester, digest=digest, now=now)
                    await self._making.made(order.job(_key(owner(requester), digest)), there)
                    made = await self._envelopes.take(requester, digest, self._decisions.clock())
                if made is None:
                    raise Unavailable("the envelope is being made; repeat the request", reason="not-ready")
                await self._decided_again(requester, made)  # it may have taken a while
                await self._record(Kind.GRANT, requester, made, request_id, verdict=verdict, count=1)
        except BaseException:  # no grant, so nobody may ever fetch it: another process may have answered the request
            if made is not None:
                with anyio.CancelScope(shield=True), suppress(MdgError):  # at the latest it ends with its time
                    await self._envelopes.end(made)
            raise
        return self._granted(requester, made)

    async def renew(self, requester: Requester, id_: str, request_id: str) -> Granted:
        """A new ticket under a fresh token, for the same envelope (seg/1 10.1)."""
        self._decisions.admit(requester, Action.DISCLOSE, PAYLOAD)
        made = await self._envelopes.by_id(id_, requester, self._decisions.clock())
        if made is None or made.jkt != requester.jkt:
            raise NotFound
        verdict = await self._decided_again(requester, made)
        await self._record(Kind.GRANT, requester, made, request_id, verdict=verdict, count=1)
        return self._granted(requester, made)

    async def fetch(self, requester: Requester, uid: str, wanted: Wanted, request_id: str) -> Release:
        """The envelope of study `uid`, sealed to the client's key in the directory; made when there is none that
        lives."""
        self._decisions.admit(requester, Action.DISCLOSE, PAYLOAD)
        held, verdict = self._disclosable(requester, await self._catalogue.study(uid, _person(requester)))
        if self._minimum_level > LEVEL_STATIC:
            raise Unprocessable(
                "an envelope sealed to a long-lived key is not given here; POST a signed request to /api/jmix/requests",
                reason="fs-unavailable",
            )
        card = await self._directory.card_by_id(requester.organisation.uri)
        if card is None:
            raise Unprocessable("the directory has no key of this organisation to seal to", reason="no-key")
        identifiers = self._identifiers(held)
        made = await self._envelopes.current(requester, held, identifiers, card.x25519, self._decisions.clock())
        if made is None:
            order = Order(held.study.key.uid, requester, card, card.x25519)
            key = _key(owner(requester), held.study.key, identifiers, card.x25519)
            there = partial(
                self._envelopes.holds,
                requester=requester,
                held=held,
                identifiers=identifiers,
                recipient=card.x25519,
                now=self._decisions.clock(),
            )
            await self._making.made(order.job(key), there)
            made = await self._envelopes.current(requester, held, identifiers, card.x25519, self._decisions.clock())
            if made is None:
                raise Unavailable("the envelope is being made; repeat the request", reason="not-ready")
            await self._decided_again(requester, made)
            await self._record(Kind.GRANT, requester, made, request_id, verdict=verdict, count=1)
        return await self._release(requester, made, verdict, wanted, request_id)

    async def make(self, job: Job) -> Done | Failed:
        """Makes the envelope of a job of kind `MAKE_ENVELOPE`."""
        if late(job):
            return Failed("late", "nobody waits for this envelope any more", final=True)
        order = Order.of(job)
        try:
            held = await self._catalogue.study(order.study, _person(order.requester))
            if held is None:
                raise NotFound(reason="study-gone")
            made = await self._make(
                order.requester, order.receiver, held, recipient=order.recipient, digest=order.digest
            )
        except Exception as error:  # it belongs to those who wait for this envelope, not to the other jobs
            return failed(error)
        return Done(partial(self._envelopes.keep, made=made))

    # --- giving ---

    async def download(self, requester: Requester, id_: str, ticket: str, wanted: Wanted, request_id: str) -> Release:
        """The bytes of an envelope that a request was granted. `Forbidden` for a ticket that is not good."""
        self._decisions.admit(requester, Action.DISCLOSE, PAYLOAD)
        self._tickets.check(ticket, id_, requester, wanted.method, self._decisions.clock())
        made = await self._envelopes.by_id(id_, requester, self._decisions.clock())
        if made is None:
            raise NotFound(reason="no-such-recipe")
        verdict = await self._decided_again(requester, made)
        return await self._release(requester, made, verdict, wanted, request_id)

    async def stored(self, requester: Requester, envelope_id: str, wanted: Wanted, request_id: str) -> Release:
        """A finished envelope by its JMIX id: the client's own, sealed to its directory key."""
        made, verdict = await self._own(requester, envelope_id)
        return await self._release(requester, made, verdict, wanted, request_id)

    async def manifest(self, requester: Requester, envelope_id: str, request_id: str) -> bytes:
        """The exact bytes of manifest.json of such an envelope."""
        made, verdict = await self._own(requester, envelope_id)
        await self._record(Kind.READ, requester, made, request_id, verdict=verdict, count=1)
        return made.manifest

    # --- how ---

    def _disclosable(self, requester: Requester, held: CatalogueEntry | None) -> tuple[CatalogueEntry, Verdict]:
        """The study when it may be disclosed; absent, hidden and somebody else's are all alike."""
        if held is None:
            raise NotFound
        verdict = self._verdict(requester, held)
        if not verdict.allowed:
            raise NotFound(reason="hidden")
        return held, verdict

    def _verdict(self, requester: Requester, held: CatalogueEntry) -> Verdict:
        return self._decisions.of_study(requester, Action.DISCLOSE, PAYLOAD, held)

    async def _own(self, requester: Requester, envelope_id: str) -> tuple[Envelope, Verdict]:
        self._decisions.admit(requester, Action.DISCLOSE, PAYLOAD)
        made = await self._envelopes.by_envelope_id(envelope_id, requester, self._decisions.clock())
        if made is None:
            raise NotFound
        return made, await self._decided_again(requester, made)

    async def _decided_again(self, requester: Requester, made: Envelope) -> Verdict:
        """The decision on an envelope, by the study's present state.

        `NotFound`: the study is gone, or no longer about the person whose identifiers are sealed into the envelope.
        `Forbidden` from the moment the decision turns (spec/access 6.4).
        """
        held = await self._catalogue.study(made.study_uid, _person(requester))
        if held is None:
            raise NotFound(reason="study-gone")
        if self._identifiers(held) != made.identifiers:
            raise NotFound(reason="identity-changed")
        verdict = self._verdict(requester, held)
        if not verdict.allowed:
            raise Forbidden(reason="decision-changed")
        return verdict

    def _identifiers(self, held: CatalogueEntry) -> Identifiers:
        return identifiers_of(held, self._numbers.record_system(held.study.patient))

    async def _make(
        self, requester: Requester, card: Card, held: CatalogueEntry, *, recipient: bytes, digest: bytes | None
    ) -> Envelope:
        if not isinstance(held.source, Reads):
            raise Unprocessable("the study is known here, and its images are not", reason="not-readable")
        instances = await self._catalogue.instances(held)
        return await self._envelopes.make(
            held,
            held.source,
            [one.located for one in instances],
            requester=requester,
            receiver=card,
            recipient=recipient,
            identifiers=self._identifiers(held),
            request_digest=digest,
            now=self._decisions.clock(),
        )

    def _granted(self, requester: Requester, made: Envelope) -> Granted:
        recipe = made.recipe
        return Granted(
            path=f"/api/jmix/r/{made.id}?t={self._tickets.issue(made.id, requester, self._decisions.clock())}",
            length=recipe.length,
            etag=_etag(recipe.digest),
            not_after=made.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
            fs=LEVEL_REQUEST,
        )

    async def _release(
        self, requester: Requester, made: Envelope, verdict: Verdict, wanted: Wanted, request_id: str
    ) -> Release:
        recipe = made.recipe
        etag = _etag(recipe.digest)
        had = not_modified(wanted.if_match, wanted.if_none_match, etag)
        range_ = wanted.range if wanted.method == "GET" else None
        span = Span(0, 0, partial=False) if had else select(range_, wanted.if_range, etag, recipe.length)
        headers = {"ETag": etag}
        if not had:
            headers["Content-Type"] = "application/zip"
            headers["Content-Disposition"] = f'attachment; filename="{made.envelope_id}.zip"'
        if made.request_digest is None:
            headers["Content-Location"] = f"/api/jmix/{made.envelope_id}"
        if span.partial:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{recipe.length}"
        size = span.end - span.start if wanted.method == "GET" else 0
        await self._record(Kind.RELEASE, requester, made, request_id, verdict=verdict, size=size)

        async def again() -> None:
            if not await self._standing.still_stands(requester):
                raise Unauthenticated(reason="aborted-requester")
            await self._decided_again(requester, made)

        async def ended(sent: int, why: str) -> None:
            outcome = Outcome.SUCCESS if why == "complete" else Outcome.FAILURE
            await self._record(Kind.RELEASE_END, requester, made, request_id, outcome=outcome, reason=why, size=sent)
            if why in DAMAGED:
                await self._envelopes.damaged(made, why)

        return Release(
            status=304 if had else 206 if span.partial else 200,
            headers=headers,
            start=span.start,
            end=span.end,
            open=lambda start, end: recipe.stream([str(self._envelopes.path(made.id))], start, end),
            again=again,
            ended=ended,
        )

    async def _record(
        self,
        kind: Kind,
        requester: Requester,
        made: Envelope,
        request_id: str,
        *,
        verdict: Verdict | None = None,
        outcome: Outcome = Outcome.SUCCESS,
        reason: str = "",
        count: int | None = None,
        size: int | None = None,
    ) -> None:
        await self._audit.record(
            Event(
                kind,
                outcome,
                request_id,
                requester=requester,
                patient=requester.patient,
                study_uid=made.study_uid,
                envelope_id=made.envelope_id,
                reason=reason,
                verdict=verdict,
                count=count,
                bytes=size,
                details=(("recipe", made.id), ("study-version", str(made.study_version))),
            )
        )


def _person(requester: Requester) -> Ihi:
    """The person of the token: nobody else's study is even looked up."""
    if requester.patient is None:
        raise NotFound(reason="no-patient-in-token")
    return requester.patient


def _key(*parts: object) -> str:
    """The key of the job that makes an envelope: it says nothing of whose the envelope is."""
    return sha256(repr(parts).encode()).hexdigest()


def _etag(sha256: bytes) -> str:
    """A finished file is named by its own digest."""
    return f'"{sha256.hex()}"'
