"""What lies beside the instances of a study: the DICOMDIR of a disk, lock files of viewers, notes of file managers.

One rule for the index and for `mdg pack`. The content decides, not the name: an instance that is called DICOMDIR is an
instance, and a text that is called README is a problem that somebody must look at.
"""

from __future__ import annotations

from mdg._core import Header
from mdg.errors import Refused

NOT_DICOM = "E_NOT_DICOM"
"""The code of a file that does not begin like DICOM."""
NAMES = frozenset({"LOCKFILE", "THUMBS.DB", "DESKTOP.INI"})
"""Names, in capitals, of the files that viewers and file managers make for themselves."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a half-made copy, or a note of the system, by its leading dot."""
    return name.startswith(".")


def passed_over(name: str, header: Header | None, code: str | None) -> bool:
    """Whether the file `name` says nothing about a study: a DICOMDIR by its MediaStorageSOPClassUID, or a hidden file
    or one of NAMES that is no DICOM. `header` is what was read of the file, or `code` why nothing was."""
    if header is not None:
        return header.is_directory
    return code == NOT_DICOM and (is_hidden(name) or name.upper() in NAMES)


def check_shown(name: str, part: str) -> None:
    """`Refused` E_HIDDEN for a hidden instance: tools give that name to a file which they have not copied whole."""
    if is_hidden(name):
        raise Refused("E_HIDDEN", part, "it is DICOM under a hidden name, perhaps half copied; rename it or remove it")
