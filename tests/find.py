"""Questions to one source, as the gateway asks them."""

from __future__ import annotations

from collections.abc import Sequence

from mdg.model.identity import LocalId
from mdg.model.imaging import Study
from mdg.model.query import Field, OneOf, Query
from mdg.sources.source import Finds


async def find(source: Finds, patients: Sequence[LocalId]) -> Sequence[Study]:
    """All studies of these patients."""
    return await source.find(Query(patients=tuple(patients)))


async def find_study(
    source: Finds, value: str, patients: Sequence[LocalId], field: Field = Field.STUDY_UID
) -> Study | None:
    """The study of these patients with this StudyInstanceUID, or with another value in `field`."""
    query = Query(patients=tuple(patients), filters=(OneOf(field, frozenset({value})),))
    return next(iter(await source.find(query)), None)
