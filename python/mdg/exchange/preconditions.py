"""`If-Match` and `If-None-Match` of a release (RFC 9110 13.1.1, 13.1.2), in the order of RFC 9110 13.2.2.

`If-Modified-Since` and `If-Unmodified-Since` are ignored, as RFC 9110 13.1.3 and 13.1.4 ask where no modification date
is known: an envelope is named by its digest only.
"""

from __future__ import annotations

import re

from mdg.errors import PreconditionFailed

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


def not_modified(if_match: str | None, if_none_match: str | None, etag: str) -> bool:
    """Whether the answer is 304, because the caller has the representation with the strong tag `etag`.

    Raises: PreconditionFailed: `If-Match` names other representations, or is malformed: then it must not hold.
    """
    if if_match is not None and if_match.strip() != "*" and etag not in _tags(if_match):
        raise PreconditionFailed("the envelope is not the one that If-Match names", headers={"ETag": etag})
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in {tag.removeprefix("W/") for tag in _tags(if_none_match)}


def _tags(field: str) -> list[str]:
    """The entity tags of a list; none of a malformed one."""
    return re.findall(_TAG, field) if _TAGS.fullmatch(field) else []
