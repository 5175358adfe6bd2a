"""`mdg pack`: one study as a sealed, signed JMIX envelope (spec/jmix-1.0 10). All or nothing: a folder with anything
but the DICOM files of one study of one patient is refused by the name of the file."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer

from mdg.cli.privacy import is_private, is_private_key
from mdg.cli.terminal import Json, advise, count, megabytes, new_place, passed_over_line, progress, room_for, say
from mdg.errors import InputOutput, MdgError, Misuse, Refused, Unsupported

if TYPE_CHECKING:
    from mdg.cli.keyfile import Party
    from mdg.model.identity import Ihi, LocalId
    from mdg.sources.headers import Header

PROFILES = ("jmix-1.0",)
SQLITE = "mdg.sqlite"
"""The database of a gateway; `mdg.config.SQLITE`, which would load all settings."""
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
    with _explained(to), progress(f"packing {out.name}") as show:
        study = _read(study_dir)
        room_for(out, sum(path.stat().st_size for path in (*study.instances, *(file or []))))
        report = envelope.pack(
            [(str(path), None) for path in study.instances],
            files=attached,
            envelope_id=str(uuid4()),
            timestamp=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            patient_id=f"urn:uuid:{uuid4()}",
            identifiers=_identifiers(study, sender),
            sender=sender.entity,
            requester=None,
            receiver=receiver.entity,
            recipient=receiver.public,
            signer=signer,
            out=out,
            as_directory=as_directory,
            progress=show,
        )
    others = f"{count(report.files, 'other file')}, " if report.files else ""
    lines = [
        f"{out}: {count(report.instances, 'instance')}, {others}{megabytes(report.length)}, "
        f"sealed for {receiver.title}, signed by {sender.title}"
    ]
    if study.passed_over:
        lines.append(passed_over_line([str(path.relative_to(study_dir)) for path in study.passed_over]))
    passed = [str(path) for path in study.passed_over]
    say({"envelope": str(out), **report.to_json(), "passed_over": passed}, lines, as_json)


@dataclass(frozen=True, slots=True)
class Study:
    """What a folder holds, all of it read: the instances of one study of one patient, sorted by path, and what lies
    beside them and is not sent."""

    instances: list[Path]
    passed_over: list[Path]
    patient_id: str
    issuer: str | None
    ihis: list[Ihi]


def _files(folder: Path) -> list[Path]:
    """Every file below the folder, sorted. What cannot be read, is a link or is no file is refused: an envelope that
    lacks it would look whole, and behind a link lies what is not in the folder."""
    if not folder.is_dir():
        raise InputOutput(str(folder), "is not a folder; name the one that holds the study")
    if all((folder / name).exists() for name in ("metadata.json", "files.json", "dicom")):
        raise Misuse(f"{folder} is what mdg open made of an envelope; name its dicom folder: {folder / 'dicom'}")
    found: list[Path] = []
    for above, folders, names in os.walk(folder, onerror=_unreadable):
        _not_a_gateway(Path(above), names, folders)
        named = [Path(above, name) for name in (*folders, *names)]
        links = [path for path in named if path.is_symlink()]
        if links:
            why = "is a link, and links are not followed; take it out, or put what it points to in its place"
            raise InputOutput(str(links[0]), why)
        odd = [path for path in (Path(above, name) for name in names) if not path.is_file()]
        if odd:
            raise InputOutput(str(odd[0]), "is no file; take it out")
        unreadable = [path for path in named if os.fsencode(path.name) != path.name.encode(errors="replace")]
        if unreadable:
            raise InputOutput(str(unreadable[0]), "its name is not UTF-8; rename it")
        found += (Path(above, name) for name in names)
    if not found:
        raise InputOutput(str(folder), "holds no file")
    return sorted(found)


def _not_a_gateway(folder: Path, names: Sequence[str], folders: Sequence[str]) -> None:
    """`Misuse` for the data folder of a gateway or of `mdg find`, which holds keys and the studies of many people."""
    if SQLITE not in names and not ("keys" in folders and (folder / "keys" / "dpop.jwk").exists()):
        return
    such_as = next(folder.glob("received/*/*/dicom"), folder / "received" / "UID" / "…" / "dicom")
    raise Misuse(f"{folder} is the data folder of a gateway; name one study in it, such as {such_as}")


def _unreadable(error: OSError) -> None:
    raise InputOutput(str(error.filename), f"{error.strerror}; its files would be missing in the envelope") from error


def _attached(files: list[Path]) -> list[tuple[str, str]]:
    names: dict[str, Path] = {}
    for path in files:
        if not path.is_file():
            raise InputOutput(str(path), "is not a file that can be sent along")
        if is_private_key(path):
            raise Misuse(f"{path} is a private key or password file, which never leaves its owner; leave it out")
        twin = names.setdefault(path.name.casefold(), path)
        if twin is not path:
            raise Misuse(f"{twin} and {path} cannot both lie under files/, where case does not count; rename one")
    return [(str(path), path.name) for path in files]


def _read(folder: Path) -> Study:
    """Reads the header of every file. `Refused` E_DICOM_IDENTITY names two files that disagree whose the study is, and
    never a number, by the rules of the gateway's index (spec/patient-identity 3);
    every other file that is neither an instance nor passed over is refused by its name."""
    from mdg.sources import facts, other_files

    instances: dict[str, Path] = {}
    passed: list[Path] = []
    studies: dict[str, Path] = {}
    patients: dict[LocalId, Path] = {}
    ihis: dict[Ihi, Path] = {}
    first: Header | None = None
    for path, read in _headers(_files(folder)):
        header = None if isinstance(read, MdgError) else read
        if other_files.passed_over(path.name, header, read.code if isinstance(read, Refused) else None):
            passed.append(path)
            continue
        if isinstance(read, MdgError):
            raise read
        other_files.check_shown(path.name, str(path))
        study, _, uid, said = facts.facts(read, str(path))
        if _is_copy(path, instances.setdefault(uid, path)):
            passed.append(path)
        whose = facts.whose([said], default_issuer="")
        studies.setdefault(study, path)
        for local in whose.patients:
            patients.setdefault(local, path)
        for ihi in sorted(whose.ihis):
            ihis.setdefault(ihi, path)
        first = first or read
    if first is None:
        raise InputOutput(str(folder), "holds no DICOM instance")
    own_folder = "one envelope holds one study of one patient: give each study a folder of its own"
    _agree(studies, "belongs to another study than", own_folder)
    _agree(patients, "names another PatientID, or another issuer of it, than", own_folder)
    _agree(ihis, "names another IHI than", "find out at the origin whose study it is, and correct the files there")
    return Study(list(instances.values()), passed, first.PatientID or "", first.IssuerOfPatientID, list(ihis))


def _is_copy(path: Path, first: Path) -> bool:
    """Whether the file is a copy of `first`, which has its SOPInstanceUID; `Refused` when only the UID is the same."""
    if path == first:
        return False
    if not filecmp.cmp(path, first, shallow=False):
        error = Refused("E_DICOM_IDENTITY", str(path), f"carries the SOPInstanceUID of {first} and another content")
        error.add_note("find out which of the two files is right, and take the other one out")
        raise error
    return True


def _identifiers(study: Study, sender: Party) -> list[tuple[str, str]]:
    """The patient's identifiers for metadata.json: the local number under a system of the sender, so that equal numbers
    of two hospitals never meet (IEF DC1), and the IHI that any of the files carries."""
    from mdg.model.identity import HPIO_SYSTEM, IHI_SYSTEM, MEDICAL_RECORD_SYSTEM

    scope, _, hpio = sender.entity["id"].rpartition("/")
    system = f"{MEDICAL_RECORD_SYSTEM}/{hpio}" if scope == HPIO_SYSTEM else f"{sender.entity['id']}/medicalrecord"
    if study.issuer:
        system += f"/{quote(study.issuer, safe='')}"
    return [(system, study.patient_id), *((IHI_SYSTEM, ihi) for ihi in study.ihis)]


def _headers(files: Sequence[Path]) -> Iterator[tuple[Path, Header | MdgError]]:
    """Each file with its header, or why it has none, in order, read by as many threads as there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    from mdg.sources.headers import read_header

    def read(path: Path) -> Header | MdgError:
        try:
            return read_header(str(path))
        except MdgError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count() or 1) as readers:
        for start in range(0, len(files), BATCH):  # so that a file that is refused ends the reading soon
            some = files[start : start + BATCH]
            yield from zip(some, readers.map(read, some), strict=True)


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
def _explained(to: Path) -> Iterator[None]:
    """A refusal of a file says what to do about that file."""
    try:
        yield
    except Refused as error:
        if error.code == "E_WRAP":
            why = "its X25519 key is useless, and nobody could open what is sealed to it; get the card again"
            raise Refused(error.code, str(to), why) from None
        if error.code in ("E_DICOM", "E_NOT_DICOM"):
            part = Path(error.part)
            along = "" if is_private(part) else f", or send it along as it is with --file {part}"
            error.add_note(f"take {part.name} out of the folder{along}")
        raise
    except Unsupported as error:
        error.add_note("convert that file to Explicit VR Little Endian, or take it out of the folder")
        raise
