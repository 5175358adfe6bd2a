"""The requester is verified: an organisation, a key it proved to hold, a token that is still good (Appendix 4)."""

from __future__ import annotations

from datetime import timedelta

from mdg.access.rules.rule import Answer, Request, allow, refuse

SKEW = timedelta(seconds=30)
CLINICAL = frozenset({"TREAT", "ETREAT"})


class RequesterVerified:
    """A human who treats is named by an HPI-I; software that acts for its organisation has `sub` equal to
    `client_id`."""

    name = "requester_verified"

    def judge(self, request: Request) -> Answer:
        subject = request.subject
        if not subject.jkt:
            return refuse("no key stands behind the token")
        if request.now >= subject.expires + SKEW:
            return refuse("the token has expired since it was checked")
        human = subject.subject != subject.client_id
        if human and request.purpose in CLINICAL and subject.practitioner is None:
            return refuse("a person who treats is named by an HPI-I")
        return allow("organisation and key are verified")
