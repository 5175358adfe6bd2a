"""Who asks, and may they: the token, the proof of possession, the decision, the ticket.

One function decides (`decide`); nothing behind `Gate` sees a token.
"""

from mdg.access.clock import Clock, SteadyClock, utc_now
from mdg.access.consents import Consents, Recorded, RecordedConsents
from mdg.access.decide import decide, require
from mdg.access.issuer import Issuer, Jwks
from mdg.access.replay import Replay
from mdg.access.request import VerifiedRequest, verify_request
from mdg.access.requester import Gate
from mdg.access.revocations import Of, Revocation, Revocations
from mdg.access.ticket import Tickets

__all__ = [
    "Clock",
    "Consents",
    "Gate",
    "Issuer",
    "Jwks",
    "Of",
    "Recorded",
    "RecordedConsents",
    "Replay",
    "Revocation",
    "Revocations",
    "SteadyClock",
    "Tickets",
    "VerifiedRequest",
    "decide",
    "require",
    "utc_now",
    "verify_request",
]
