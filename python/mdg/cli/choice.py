"""Which study the demo shows: the phantom, or the largest study of one patient in a folder of the user's, as a copy.

The folder that was named is read and never written; the copy is the provider's, and goes with it.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from mdg.cli.terminal import count
from mdg.errors import InputOutput, MdgError
from mdg.model.identity import LocalId
from mdg.sandbox.phantom import ISSUER, write_phantom


@dataclass(frozen=True, slots=True)
class Choice:
    """The study that was put into the provider's folder. `said` is for the person who named the folder."""

    uid: str
    patient: LocalId
    instances: int
    bytes: int
    said: str | None


def put_phantom(images: Path) -> Choice:
    """The phantom CT of the sandbox. Blocks for about a second."""
    write_phantom(images)
    return put(images, None)


def put(images: Path, source: Path | None) -> Choice:
    """Copies the largest study of `source` into the new folder `images`; without `source` looks at what is there.

    `InputOutput` when there is no study that belongs to exactly one patient with a PatientID.
    """
    from mdg.sources.headers import read_header

    folder = source or images
    if not folder.is_dir():
        raise InputOutput(str(folder), "it is not a folder; name a folder of DICOM files")
    studies: dict[str, dict[str, Path]] = defaultdict(dict)
    patients: dict[str, set[LocalId]] = defaultdict(set)
    others = 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = read_header(path)
        except MdgError:
            others += 1
            continue
        uid, instance = header.StudyInstanceUID, header.SOPInstanceUID
        if uid and instance and header.PatientID and instance not in studies[uid]:
            studies[uid][instance] = path
            patients[uid].add(LocalId(header.PatientID, header.IssuerOfPatientID or ISSUER))
        else:
            others += 1
    whole = [uid for uid, found in studies.items() if found and len(patients[uid]) == 1]
    if not whole:
        raise InputOutput(str(folder), "it has no DICOM study of one patient; give --data another folder")
    uid = max(whole, key=lambda uid: len(studies[uid]))
    paths = list(studies[uid].values())
    size = sum(path.stat().st_size for path in paths)
    said = None
    if source is not None:
        images.mkdir(parents=True)
        for number, path in enumerate(paths, start=1):
            shutil.copyfile(path, images / f"{number:06d}.dcm")
        people = {patient for found in patients.values() for patient in found}
        said = (
            f"data: {count(len(patients), 'study')} of {count(len(people), 'patient')}, {count(others, 'other file')}; "
            f"this shows the largest, {count(len(paths), 'instance')}"
        )
    return Choice(uid, next(iter(patients[uid])), len(paths), size, said)
