"""`mdg pack`: one study as a sealed, signed JMIX envelope (jmix-interop 2.10). All or nothing: a folder with anything
but the DICOM files of one study of one patient is refused by the name of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer

from mdg.cli.terminal import Json, advise, count, megabytes, new_place, progress, say
from mdg.errors import InputOutput, Misuse, Refused, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mdg.cli.keyfile import Party
    from mdg.sources.headers import Header

PROFILES = ("jmix-1.0",)
BATCH = 512
"""Headers that are read at once."""


def pack(
    study_dir: Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="Folder with the DICOM files of one study.")],
    *,
    to: Annotated[Path, typer.Option(metavar="CARD|PUB", help="Card or raw X25519 public key of the receiver.")],
    sign: Annotated[
        Path, typer.Option(metavar="KEY", help="Your NAME.ed25519.key; NAME.card.json beside it says who you are.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The envelope; it must not be there yet.")],
    as_directory: Annotated[
        bool, typer.Option("--as-directory", help="Write a folder in place of a ZIP file.")
    ] = False,
    file: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A report or other file to send along; repeat for more.")
    ] = None,
    profile: Annotated[str, typer.Option(metavar="NAME", help="Format of the envelope.")] = PROFILES[0],
    as_json: Json = False,
) -> None:
    """Seal one study for one receiver and sign it."""
    from mdg import envelope
    from mdg.cli.keyfile import read_receiver, read_signer

    if profile not in PROFILES:
        raise Misuse(f"--profile {profile} is not written here; known are {', '.join(PROFILES)}")
    with advise("mdg keygen --out DIR --name NAME --id URI"):
        sender, signer = read_signer(sign)
        receiver = read_receiver(to)
    new_place(out)
    attached = _attached(file or [])
    instances = _instances(study_dir)
    with _explained(), progress(f"packing {out.name}") as show:
        identifiers = _identifiers(instances, sender)
        report = envelope.pack(
            [(str(path), None) for path in instances],
            files=attached,
            envelope_id=str(uuid4()),
            timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            patient_id=f"urn:uuid:{uuid4()}",
            identifiers=identifiers,
            sender=sender.entity,
            requester=None,
            receiver=receiver.entity,
            recipient=receiver.public,
            signer=signer,
            out=out,
            as_directory=as_directory,
            progress=show,
        )
    say(
        {"envelope": str(out), **report.to_json()},
        (
            f"packed {count(report.instances, 'instance')}, {megabytes(report.bytes)}",
            f"for {receiver.title}, signed by {sender.title}",
            f"in {out} ({megabytes(report.length)})",
        ),
        as_json,
    )


def _instances(folder: Path) -> list[Path]:
    """Every file below the folder but a DICOMDIR, which only lists the others. What cannot be read or is no file is
    refused: an envelope that lacks it would look whole."""
    if not folder.is_dir():
        raise InputOutput(str(folder), "is not a folder; name the one that holds the study")
    found: list[Path] = []
    for above, folders, names in os.walk(folder, onerror=_unreadable):
        links = [name for name in folders if Path(above, name).is_symlink()]
        odd = [path for path in (Path(above, name) for name in (*links, *names)) if not path.is_file()]
        if odd:
            raise InputOutput(str(odd[0]), "is no file; take it out, or put what it points to in its place")
        found += (Path(above, name) for name in names if name != "DICOMDIR")
    if not found:
        raise InputOutput(str(folder), "holds no file")
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise InputOutput(str(error.filename), f"{error.strerror}; its files would be missing in the envelope") from error


def _attached(files: list[Path]) -> list[tuple[str, str]]:
    names = [path.name for path in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Misuse(f"two files named {twice} cannot both lie under files/; rename one")
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise InputOutput(str(missing), "is not a file that can be sent along")
    return [(str(path), path.name) for path in files]


def _identifiers(instances: Sequence[Path], sender: Party) -> list[tuple[str, str]]:
    """The patient's identifiers for metadata.json: the local number under a system of the sender, so that equal numbers
    of two hospitals never meet (fhir-au 1.4), and the IHI, whichever of the files carry it.

    `Refused` E_DICOM_IDENTITY names two files that disagree, and never a number, by the rules of the gateway's index
    (docs/spec/patient-identity.md, "From a local id to an IHI")."""
    from mdg.model.identity import HPIO_SYSTEM, IHI_SYSTEM, MEDICAL_RECORD_SYSTEM, Ihi, LocalId
    from mdg.sources import facts

    studies: dict[str, Path] = {}
    patients: dict[LocalId, Path] = {}
    ihis: dict[Ihi, Path] = {}
    first: Header | None = None
    for path, header in _headers(instances):
        study, _, _, said = facts.facts(header, str(path))
        whose = facts.whose([said], default_issuer="")
        studies.setdefault(study, path)
        for local in whose.patients:
            patients.setdefault(local, path)
        for ihi in sorted(whose.ihis):
            ihis.setdefault(ihi, path)
        first = first or header
    assert first is not None  # noqa: S101 # `_instances` gives at least one
    own_folder = "one envelope holds one study of one patient: give each study a folder of its own"
    _agree(studies, "belongs to another study than", own_folder)
    _agree(patients, "names another PatientID, or another issuer of it, than", own_folder)
    _agree(ihis, "names another IHI than", "find out at the origin whose study it is, and correct the files there")

    scope, _, hpio = sender.entity["id"].rpartition("/")
    system = f"{MEDICAL_RECORD_SYSTEM}/{hpio}" if scope == HPIO_SYSTEM else f"{sender.entity['id']}/medicalrecord"
    if first.IssuerOfPatientID:
        system += f"/{quote(first.IssuerOfPatientID, safe='')}"
    return [(system, first.PatientID or ""), *((IHI_SYSTEM, ihi) for ihi in ihis)]


def _headers(instances: Sequence[Path]) -> Iterator[tuple[Path, Header]]:
    """Each file with its header, in order, read by as many threads as there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    from mdg.sources.headers import read_header

    with ThreadPoolExecutor(os.cpu_count() or 1) as readers:
        for start in range(0, len(instances), BATCH):  # so that a file that is refused ends the reading soon
            some = instances[start : start + BATCH]
            yield from zip(some, readers.map(read_header, map(str, some)), strict=True)


def _agree(found: Mapping[Any, Path], differs: str, advice: str) -> None:
    """`Refused` unless all files say the same; `found` has the first file that says each thing."""
    if len(found) < 2:
        return
    one, other, *_ = found.values()
    why = f"{differs} {one}" if one != other else f"{differs.removesuffix(' than')} beside its first one"
    error = Refused("E_DICOM_IDENTITY", str(other), why)
    error.add_note(advice)
    raise error


@contextmanager
def _explained() -> Iterator[None]:
    """A refusal of a file says what to do about that file."""
    try:
        yield
    except Refused as error:
        if error.code == "E_DICOM":
            error.add_note(f"take {Path(error.part).name} out of the folder, or send it along as it is with --file")
        raise
    except Unsupported as error:
        error.add_note("convert that file to Explicit VR Little Endian, or take it out of the folder")
        raise
