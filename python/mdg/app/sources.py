"""Where the images of a gateway are, from its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdg.config import RECEIVED, Settings
from mdg.sources.kinds import KINDS, Shared, SourceKind, build
from mdg.sources.source import Finds
from mdg.sources.study_version import Terms
from mdg.sources.watcher import forget_others
from mdg.store import Store


async def open_sources(settings: Settings, store: Store, kinds: Mapping[str, SourceKind] = KINDS) -> Sequence[Finds]:
    """The sources that the settings name, then what others sent to this gateway. What was indexed of any other source
    is forgotten. `Unavailable` when the store does not keep that."""
    shared = Shared(store, settings.custodian, settings.default_issuer, settings.time_zone, settings.data)
    entries: list[dict[str, Any]] = [source.model_dump() for source in settings.sources]
    entries.append({"kind": RECEIVED, "name": RECEIVED})
    sources = build(shared, entries, kinds)
    terms = Terms(settings.default_issuer, settings.time_zone)
    await forget_others(store, settings.custodian, [source.name for source in sources], terms)
    return sources
