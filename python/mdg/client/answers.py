"""What another service's refusal says, cut to what may be shown: its status, its code, its own words without markup."""

from __future__ import annotations

import re

from mdg.errors import MdgError, Upstream
from mdg.outbound import Response

WORDS = 300  # characters of a stranger's text that are passed on
CODE = re.compile(r"[a-z0-9_-]{1,64}", re.IGNORECASE)


def refusal(who: str, answer: Response) -> Upstream:
    """The error for an answer other than the one asked for: from an OperationOutcome, or from an error of RFC 6749
    5.2."""
    code, words = "", ""
    try:
        value = answer.json()
    except MdgError:
        value = None
    match value:
        case {"resourceType": "OperationOutcome", "issue": [{"code": str(code), **issue}, *_]}:
            words = str(issue.get("diagnostics", ""))
        case {"error": str(code), **rest}:
            words = str(rest.get("error_description", ""))
    code = code if CODE.fullmatch(code) else ""
    words = "".join(c for c in words if c.isprintable())[:WORDS]
    said = ": ".join(part for part in (code, words) if part)
    return Upstream(
        f"{who} answered {answer.status}" + (f" ({said})" if said else ""),
        answered=answer.status,
        reason=f"upstream-{answer.status}",
    )
