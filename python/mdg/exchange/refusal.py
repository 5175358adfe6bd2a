"""The patient of the study that a refused request was about, for the audit record only.

The answer to a refused request is given without it, so a caller learns nothing by it. The same statement is run for a
study that is hidden and for one that does not exist, so the time of the answer tells them apart no more than before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdg.errors import MdgError
from mdg.identity import Identities
from mdg.model.identity import Ihi


async def whose(identities: Identities, about: Mapping[str, Any]) -> dict[str, Any]:
    """`about` (`mdg.errors.about`), completed by study and patient if these can be told from what it names. Where the
    index cannot be asked, and where two people are claimed, it stays as it was."""
    try:
        return {**await _named(identities, about), **about}
    except MdgError:
        return dict(about)


async def _named(identities: Identities, about: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, id_ = str(about.get("resource", "")).partition("/")
    uid: str | None = None
    people: frozenset[Ihi] = frozenset()
    if "study_uid" in about:
        uid, people = await identities.of_study(uid=about["study_uid"])
    elif kind in ("ImagingStudy", "Endpoint"):
        uid, people = await identities.of_study(id_=id_)
    elif kind == "Patient":
        people = await identities.of_patient(id_)
    found: dict[str, Any] = {"study_uid": uid} if uid else {}
    return found | ({"patient": next(iter(people))} if len(people) == 1 else {})
