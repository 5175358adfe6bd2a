"""Every kind of source, by the name that the settings use for it. A new kind is one file beside this one, and a line in
`KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from mdg.model.identity import HpiO
from mdg.sources.folder import FolderSource
from mdg.sources.received import ReceivedSource
from mdg.sources.source import Finds
from mdg.store import Store


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sources of one gateway have in common. `data` is its data folder."""

    store: Store
    custodian: HpiO
    default_issuer: str
    time_zone: ZoneInfo
    data: Path


SourceKind: TypeAlias = Callable[[Shared, str, Mapping[str, Any]], Finds]
"""Builds a source from what all share, its name, and its entry in the settings."""


def _folder(shared: Shared, name: str, entry: Mapping[str, Any]) -> FolderSource:
    return FolderSource(
        shared.store,
        shared.custodian,
        entry["path"],
        name=name,
        default_issuer=shared.default_issuer,
        time_zone=shared.time_zone,
    )


def _received(shared: Shared, name: str, _entry: Mapping[str, Any]) -> ReceivedSource:
    return ReceivedSource(
        shared.store, shared.custodian, shared.data / "received", name=name, time_zone=shared.time_zone
    )


KINDS: Mapping[str, SourceKind] = {"folder": _folder, "received": _received}


def build(
    shared: Shared, entries: Iterable[Mapping[str, Any]], kinds: Mapping[str, SourceKind] = KINDS
) -> tuple[Finds, ...]:
    """The sources of a gateway, in the order of `entries`, each of which has a `kind` and a `name`."""
    return tuple(kinds[entry["kind"]](shared, entry["name"], entry) for entry in entries)
