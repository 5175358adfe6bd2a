"""The token's scopes open this operation; those of discovery never open a payload (spec/access 4)."""

from __future__ import annotations

import re

from mdg.access.rules.rule import Answer, Request, allow, refuse
from mdg.model.request import Action

PAYLOAD = "payload"
RETRIEVE = "urn:ief:scope:imaging.retrieve"
DEPOSIT = "urn:ief:scope:imaging.deposit"
SYSTEM_SCOPE = re.compile(r"system/([A-Za-z]+)\.(c?r?u?d?s?)")  # SMART App Launch 2.2, "Scopes"
NEEDED = {"Subscription": "crud"}
"""What a scope grants of a type that is not only read and searched (spec/access 4)."""


class ScopeCovers:
    """A type's own `system/<Type>.rs` for discovery, `system/Subscription.crud` for one's own subscriptions,
    `imaging.retrieve` for a payload, `imaging.deposit` for a deposit."""

    name = "scope_covers"

    def judge(self, request: Request) -> Answer:
        scopes = request.subject.scopes
        match request.action:
            case Action.DISCOVER:
                kind = request.resource.scope_type
                covered = kind != PAYLOAD and any(_reads(scope, kind) for scope in scopes)
            case Action.DISCLOSE:
                covered = request.resource.scope_type == PAYLOAD and RETRIEVE in scopes
            case Action.DEPOSIT:
                covered = DEPOSIT in scopes
        return allow(f"a scope opens {request.action}") if covered else refuse(f"no scope opens {request.action}")


def _reads(scope: str, kind: str) -> bool:
    found = SYSTEM_SCOPE.fullmatch(scope)
    return found is not None and found[1] == kind and set(NEEDED.get(kind, "rs")).issubset(found[2])
