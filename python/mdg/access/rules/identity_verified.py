"""The identity is verified: what would be shown belongs to that very person, by an IHI (IEF A4.1). That the person was
identified well is the requester's to know (IEF A4.2)."""

from __future__ import annotations

from mdg.access.rules.rule import Answer, Request, allow, refuse


class IdentityVerified:
    """A record is shown only to a requester whose token names the IHI of its patient."""

    name = "identity_verified"

    def judge(self, request: Request) -> Answer:
        if request.resource.patient is None:
            return refuse("the record has no verified IHI")
        if request.resource.patient != request.subject.patient:
            return refuse("the record is another patient's")
        return allow("the record is that patient's")
