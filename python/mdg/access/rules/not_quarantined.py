"""A study leaves only if it is beyond doubt whose it is (spec/hostile-input I24)."""

from __future__ import annotations

from mdg.access.rules.rule import Answer, Request, allow, refuse


class NotQuarantined:
    """A study whose files disagree about the patient waits for a person to settle it."""

    name = "not_quarantined"

    def judge(self, request: Request) -> Answer:
        if request.resource.quarantined:
            return refuse("the study is in quarantine")
        return allow("the study is not in quarantine")
