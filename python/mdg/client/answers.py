"""What another service's refusal says, cut to what may be shown: its status, its code, its own words without markup."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mdg.errors import MdgError, Upstream
from mdg.outbound import Response

WORDS = 300  # characters of a stranger's text that are passed on
CODE = re.compile(r"[a-z0-9_-]{1,64}", re.IGNORECASE)


def refusal(who: str, answer: Response) -> Upstream:
    """The error for an answer other than the one asked for: from an OperationOutcome, a problem document (RFC 9457), or
    an error of RFC 6749 5.2."""
    said = ""
    try:
        value = answer.json()
    except MdgError:
        value = None
    match value:
        case {"resourceType": "OperationOutcome", "issue": [{"code": str()} as issue, *_]}:
            said = words(issue)
        case {"status": int(), "title": str(), **rest}:
            said = words({"code": rest.get("code", ""), "diagnostics": rest.get("detail", "")})
        case {"error": str(code), **rest}:
            said = words({"code": code, "diagnostics": rest.get("error_description", "")})
    return Upstream(
        f"{who} answered {answer.status}" + (f" ({said})" if said else ""),
        answered=answer.status,
        reason=f"upstream-{answer.status}",
    )


def words(issue: Mapping[str, object]) -> str:
    """Code and diagnostics of an issue of an OperationOutcome."""
    code = str(issue.get("code", ""))
    text = "".join(c for c in str(issue.get("diagnostics", "")) if c.isprintable())[:WORDS]
    return ": ".join(part for part in (code if CODE.fullmatch(code) else "", text) if part)
