"""Envelopes are made by jobs: a few at a time, for callers who wait a while and may come back.

A caller who has waited PATIENCE is told to come back (503), and the work goes on, also over a restart and in another
process of the gateway; a caller who asks for the same thing gets the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mdg.errors import Conflict, NotFound, Problem, Refused, Throttled, Unavailable, Unprocessable, Unsupported
from mdg.jobs import Failed, Job, Jobs, New, State
from mdg.jobs.loop import Full, Made
from mdg.keys import Card
from mdg.model.identity import HpiI, HpiO, Ihi
from mdg.model.request import Requester
from mdg.store.schema import microseconds, moment

MAKE_ENVELOPE = "make-envelope"
"""The kind of job that makes an envelope. Its lane is the owner of the envelope."""
PATIENCE = 30.0
"""Seconds that a caller waits for an envelope before it is told to come back (spec/fhir 5)."""
AT_ONCE = 2
"""Envelopes that one process makes at the same time: each keeps a core and a disk busy."""
WAITING = 32
"""Envelopes that may wait to be made; more are refused with 429 (spec/hostile-input D14)."""
WAITING_EACH = 8
"""Those of one owner: nobody shuts the others out."""
KEPT = timedelta(minutes=5)
"""How long a request lives: an envelope that nobody can wait for any more is not made."""
CHANGED = frozenset({"E_STORE_CORRUPT", "E_CHANGED"})
"""Codes of a file that is not what was indexed."""


@dataclass(frozen=True, slots=True)
class Order:
    """An envelope to be made: of which study (StudyInstanceUID), for whom, sealed to which raw X25519 key. `digest` is
    that of the signed request that it answers, if it answers one."""

    study: str
    requester: Requester
    receiver: Card
    recipient: bytes
    digest: bytes | None = None

    def job(self, key: str) -> New:
        """The job that makes it; `key` says when two callers want the same envelope."""
        asks, card = self.requester, self.receiver.to_json()
        payload: Mapping[str, Any] = {
            "study": self.study,
            "recipient": self.recipient.hex(),
            "digest": self.digest.hex() if self.digest else None,
            "receiver": card,
            "issuer": asks.issuer,
            "subject": asks.subject,
            "client_id": asks.client_id,
            "organisation": asks.organisation,
            "practitioner": asks.practitioner,
            "purposes": list(asks.purposes),
            "patient": asks.patient,
            "scopes": sorted(asks.scopes),
            "jkt": asks.jkt,
            "token_id": asks.token_id,
            "expires": microseconds(asks.expires),
        }
        return New(MAKE_ENVELOPE, key, f"study {self.study}", "|".join(owner(asks)), payload)

    @classmethod
    def of(cls, job: Job) -> Order:
        """The order that a job was written for."""
        said = job.payload
        requester = Requester(
            issuer=said["issuer"],
            subject=said["subject"],
            client_id=said["client_id"],
            organisation=HpiO(said["organisation"]),
            practitioner=HpiI(said["practitioner"]) if said["practitioner"] else None,
            purposes=tuple(said["purposes"]),
            patient=Ihi(said["patient"]),
            scopes=frozenset(said["scopes"]),
            jkt=said["jkt"],
            token_id=said["token_id"],
            expires=moment(said["expires"]),
        )
        digest = bytes.fromhex(said["digest"]) if said["digest"] else None
        card = Card.from_json(said["receiver"])
        return cls(said["study"], requester, card, bytes.fromhex(said["recipient"]), digest)


def owner(requester: Requester) -> tuple[str, str, str]:
    """The owner of an envelope: one client, acting for one organisation."""
    return requester.issuer, requester.client_id, requester.organisation


class Making:
    """Waits for the jobs that make envelopes, for the callers of one gateway."""

    def __init__(self, jobs: Jobs, patience: float = PATIENCE) -> None:
        self._jobs = jobs
        self.patience = patience

    async def made(self, new: New, unless: Made | None = None) -> None:
        """Returns when the job has made its envelope; it is written unless one of its key is open, or the envelope is
        there by now.

        `Unavailable` when it is not ready in time, `Throttled` when too many are waited for, `Conflict` when a file is
        no longer what was indexed, `Unprocessable` when the study cannot be packed.
        """
        try:
            job = await self._jobs.once(new, most=AT_ONCE + WAITING, each=WAITING_EACH, unless=unless)
        except Full:
            raise Throttled("many envelopes are being made; try again later", headers={"Retry-After": "30"}) from None
        if job is None:
            return
        ended = await self._jobs.ended(job.id, self.patience)
        if ended is None:
            raise Unavailable("the envelope is being made; repeat the request", reason="not-ready", retry_after=10)
        if ended.state is not State.DONE:
            raise _problem(ended)


def late(job: Job) -> bool:
    """Whether nobody can wait for the envelope any more."""
    return datetime.now(UTC) - job.created > KEPT


def failed(error: Exception) -> Failed:
    """How the job ends whose envelope cannot be made. It is not tried again: who wants it asks again."""
    match error:
        case Problem():
            return Failed(error.reason, error.diagnostics, final=True)
        case Refused(code=code) if code in CHANGED:
            return Failed(code, "a file of the study has changed since it was indexed", final=True)
        case Refused(code=code):
            return Failed(code, f"the study cannot be put into an envelope: {code}", final=True)
        case Unsupported():
            why = "a file of the study has an encoding that no envelope carries"
            return Failed("unsupported", why, final=True)
        case _:
            return Failed(f"pack-{type(error).__name__}", "the envelope could not be made", final=True)


def _problem(job: Job) -> Problem:
    """What the caller is told whose job has made no envelope."""
    code, why = job.error or str(job.state), job.why or "the envelope could not be made"
    if code in CHANGED:
        return Conflict(why, reason=code)
    if code.startswith("E_") or code in ("unsupported", "too-large", "not-readable"):
        return Unprocessable(why, reason=code)
    if code in ("study-gone", "not-found", "version"):
        return NotFound(reason=code)
    return Unavailable(why, reason=code, retry_after=60 if code == "disk-full" else 5)
