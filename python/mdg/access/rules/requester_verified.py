"""The requester is verified: an organisation, a key that it proved to hold, and a person where a person acts (IEF
A4.3).

That the token has not expired is the gate's to check, at each call. It is not asked again here: a transfer that began
in time may end, however slow the link; what does end it are consent, quarantine and a changed patient.
"""

from __future__ import annotations

from mdg.access.rules.rule import Answer, Request, allow, refuse

CLINICAL = frozenset({"TREAT", "ETREAT"})


class RequesterVerified:
    """A human who treats is named by an HPI-I; software that acts for its organisation has `sub` equal to
    `client_id`."""

    name = "requester_verified"

    def judge(self, request: Request) -> Answer:
        subject = request.subject
        if not subject.jkt:
            return refuse("no key stands behind the token")
        human = subject.subject != subject.client_id
        if human and request.purpose in CLINICAL and subject.practitioner is None:
            return refuse("a person who treats is named by an HPI-I")
        return allow("organisation and key are verified")
