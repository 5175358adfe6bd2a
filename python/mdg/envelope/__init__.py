"""Packs, inspects, verifies and opens envelopes (spec/jmix-1.0).

Each function blocks on one call of `mdg._core`, which uses all cores; Ctrl-C stops it at the next 8 MiB and nothing of
it stays. A gateway calls it through `beside`, which is not imported here: a command needs no event loop and starts
sooner without one. What the files are, who is trusted and whether the content may leave is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mdg import _core
from mdg.envelope.report import Packed, Report

__all__ = ["Packed", "Progress", "Report", "Trust", "inspect", "open_", "pack", "remove_abandoned", "verify"]

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all), at most every 8 MiB; what it raises ends the work."""

Trust = Sequence[tuple[str | None, bytes]]
"""(sender id or None for any, raw Ed25519 public key)."""


def pack(
    instances: Sequence[tuple[str | Path, bytes | None]],
    *,
    files: Sequence[tuple[str | Path, str]] = (),
    envelope_id: str,
    timestamp: str,
    patient_id: str,
    identifiers: Sequence[tuple[str, str]],
    sender: Mapping[str, object],
    requester: Mapping[str, object] | None,
    receiver: Mapping[str, object],
    recipient: bytes,
    signer: _core.Ed25519Key,
    classification: str = "confidential",
    request_digest: bytes | None = None,
    out: Path,
    as_directory: bool = False,
    recipe: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """One study of one patient as a sealed and signed envelope at `out`; see `_core.pack` for the arguments.

    `sender`, `requester`, `receiver`: {id, name, contact}. `Refused` E_DICOM, E_DICOM_IDENTITY, E_STORE_CORRUPT with
    the file; `InputOutput`; `Misuse`. After any of them nothing is at `out`.
    """
    report, manifest, made = _core.pack(
        [(str(path), sha256) for path, sha256 in instances],
        files=[(str(path), name) for path, name in files],
        envelope_id=envelope_id,
        timestamp=timestamp,
        patient_id=patient_id,
        identifiers=identifiers,
        sender=json.dumps(sender),
        requester=None if requester is None else json.dumps(requester),
        receiver=json.dumps(receiver),
        recipient=recipient,
        signer=signer,
        classification=classification,
        request_digest=request_digest,
        out=str(out),
        as_directory=as_directory,
        recipe=recipe,
        progress=progress,
    )
    return Packed.of(report, manifest, made)


def remove_abandoned(out: Path) -> None:
    """Removes what processes that were killed have left beside `out` (`.NAME.<16 hex digits>.part`), and nothing that a
    running one is making. `pack` and `open_` do so themselves."""
    _core.remove_abandoned(str(out))


def inspect(path: Path) -> Report:
    """What the clear parts of an envelope say. Nothing of it is proven, and the report says so with `ok` false."""
    return Report.from_json(_core.inspect(str(path)))


def verify(
    path: Path,
    *,
    trust: Trust,
    key: _core.X25519Key | None = None,
    request_digest: bytes | None = None,
    receiver: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Signature and ciphertext hash of an envelope; with `key` every file hash too. Writes nothing.

    `receiver`: entity id of the owner of `key`; an envelope that names others gets a warning.
    `Refused` with the first fault in the order of seg/1 13.1."""
    report = _core.verify(
        str(path), trust=trust, key=key, request_digest=request_digest, receiver=receiver, progress=progress
    )
    return Report.from_json(report)


def open_(
    path: Path,
    *,
    trust: Trust,
    key: _core.X25519Key,
    out: Path,
    request_digest: bytes | None = None,
    receiver: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies an envelope and opens it into the new folder `out` (metadata.json, files.json, dicom/, files/).

    `out` appears whole, durable and verified, or not at all. `Refused` with the first fault, `InputOutput`."""
    report = _core.open_envelope(
        str(path),
        trust=trust,
        key=key,
        out=str(out),
        request_digest=request_digest,
        receiver=receiver,
        progress=progress,
    )
    return Report.from_json(report)
