"""From header values to the facts of a study, its series and its patient (spec/fhir 3).

`facts` picks what is kept of one instance; the other functions read kept values when a study settles. A value that
cannot be understood becomes None or the stated default, never half a value: DICOM in the field has negative series
numbers, the date `00000000`, control characters in names and no modality at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mdg._core import Header
from mdg.errors import Refused
from mdg.model.identity import Ihi, LocalId

Facts = Mapping[str, object]
"""What is kept of one instance: attribute keyword to text as in the file, and `ihis` as a list of [IHI, form]."""

KEPT = (
    *("StudyDate", "StudyTime", "TimezoneOffsetFromUTC", "StudyDescription"),
    *("AccessionNumber", "IssuerOfAccessionNumber"),
    *("Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "Laterality"),
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
)
LONGEST = 1024
"""Characters of a description that are kept; PS3.5 6.2 allows 64 in LO and 10,240 in LT."""

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_DATE = re.compile(r"([0-9]{4})[.]?([0-9]{2})[.]?([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):?(?:([0-9]{2}):?(?:([0-9]{2})(?:\.[0-9]{0,6})?)?)?")
_OFFSET = re.compile(r"([+-])([0-9]{2})([0-5][0-9])")
_IN_USE = """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS
    KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE
    RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA
    XA XAPROTOCOL XC
"""
_RETIRED = "AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF"
MODALITIES = frozenset((*_IN_USE.split(), *_RETIRED.split()))
"""The defined terms of Modality."""


def facts(header: Header, part: str) -> tuple[str, str, str, Facts]:
    """(StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID, what is kept). `Refused` E_DICOM or E_DICOM_IDENTITY naming
    the file `part` when it lacks what an index needs: three valid UIDs and a PatientID."""
    uids = [
        uid(getattr(header, keyword), keyword, part)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ]
    if text(header.PatientID) is None:
        why = "it has no PatientID, so nobody can say whose it is; set PatientID at its origin and export it again"
        raise Refused("E_DICOM_IDENTITY", part, why)
    kept: dict[str, object] = {
        keyword: value for keyword in KEPT if (value := text(getattr(header, keyword))) is not None
    }
    if header.ihis:
        kept["ihis"] = [list(pair) for pair in header.ihis]
    return uids[0], uids[1], uids[2], kept


def uid(value: str | None, keyword: str, part: str) -> str:
    """A UID of PS3.5 9.1; `Refused` E_DICOM otherwise, because no resource and no envelope could name the object."""
    if value is None:
        raise Refused("E_DICOM", part, f"{keyword} is missing; export the file again from its origin")
    if len(value) > 64 or not _UID.fullmatch(value):
        raise Refused("E_DICOM", part, f"{keyword} is no valid UID (PS3.5 9.1); export the file again from its origin")
    return value


def text(value: str | None) -> str | None:
    """Text without control characters and outer blanks, at most LONGEST characters; None when nothing is left."""
    if value is None:
        return None
    clean = value[:LONGEST]
    if not clean.isprintable():  # most values are, and a scan reads a dozen of each file
        clean = "".join(" " if unicodedata.category(character) == "Cc" else character for character in clean)
    return clean.strip() or None


def first(rows: Sequence[Facts], keyword: str) -> str | None:
    """The first value that any of the instances has, in their order."""
    return next((str(row[keyword]) for row in rows if keyword in row), None)


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose a study is, as its files say it. More than one patient, or more than one IHI, is doubt that only a person
    can settle (spec/patient-identity 3)."""

    patients: frozenset[LocalId]
    """Each PatientID with its issuer."""
    claims: frozenset[tuple[Ihi, str]]
    """Each IHI with the number of the form in which a file writes it."""

    @property
    def ihis(self) -> frozenset[Ihi]:
        """Each IHI."""
        return frozenset(ihi for ihi, _ in self.claims)


def whose(rows: Iterable[Facts], default_issuer: str) -> Whose:
    """What the instances `rows` say together. A file without IssuerOfPatientID counts under `default_issuer`."""
    patients: set[LocalId] = set()
    claims: set[tuple[Ihi, str]] = set()
    for row in rows:
        patients.add(local_id(row, default_issuer))
        pairs = row.get("ihis", [])
        assert isinstance(pairs, list)  # noqa: S101 # `facts` wrote it so
        claims.update((Ihi(value), form) for value, form in pairs)  # the core checked prefix and check digit
    return Whose(frozenset(patients), frozenset(claims))


def local_id(row: Facts, default_issuer: str) -> LocalId:
    """Whose the instance is; without IssuerOfPatientID the service's own issuer counts (spec/patient-identity 3)."""
    return LocalId(str(row["PatientID"]), str(row.get("IssuerOfPatientID", default_issuer)))


def day(value: str | None) -> date | None:
    """A DA value, also in the old form with dots; None for `00000000` and anything else that is no day."""
    found = _DATE.fullmatch(value or "")
    try:
        return date(*(int(part) for part in found.groups())) if found else None
    except ValueError:
        return None


def started(rows: Sequence[Facts], zone: ZoneInfo) -> str | None:
    """ImagingStudy.started: StudyDate and StudyTime with TimezoneOffsetFromUTC, else with the offset that `zone` had on
    that day; all of the instance that is earliest by date, then by time. A partial time counts from its beginning;
    without a valid time it is the date alone."""
    said = [(on, _clock(row), row) for row in rows if (on := day(_text(row, "StudyDate"))) is not None]
    if not said:
        return None
    on, clock, row = min(said, key=lambda one: (one[0], one[1] is None, one[1] or time.min))
    if clock is None:
        return on.isoformat()
    moment = datetime.combine(on, clock, _offset(_text(row, "TimezoneOffsetFromUTC")) or zone)
    offset = moment.utcoffset()
    if offset is None or offset.seconds % 60:
        return on.isoformat()  # local mean time before standard zones: FHIR has no seconds in an offset
    return moment.isoformat()


def _text(row: Facts, keyword: str) -> str | None:
    return first([row], keyword)


def _clock(row: Facts) -> time | None:
    """The StudyTime of one instance; None if it has none that is valid."""
    found = _TIME.fullmatch(_text(row, "StudyTime") or "")
    if found is None:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return time(hour, minute, min(second, 59))  # PS3.5 allows second 60, FHIR and datetime do not
    except ValueError:
        return None


def _offset(value: str | None) -> timezone | None:
    """A TimezoneOffsetFromUTC (PS3.3 C.12.1.1.8: -1200 to +1400)."""
    found = _OFFSET.fullmatch(value or "")
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
    return timezone(offset) if timedelta(hours=-12) <= offset <= timedelta(hours=14) else None


def modality(value: str | None) -> str:
    """A defined term of Modality (PS3.3 C.7.3.1.1.1), retired ones too; `OT` (other) for anything else: DCM has no code
    for it, so a resource that held it would be invalid."""
    return value if value in MODALITIES else "OT"


def series_number(value: str | None) -> int | None:
    """An integer string that FHIR's unsignedInt can hold; None when negative or not a number."""
    found = re.fullmatch(r"\+?([0-9]{1,10})", value or "")
    number = int(found[1]) if found else None
    return number if number is not None and number < 1 << 31 else None


def laterality(value: str | None) -> str | None:
    """`R`, `L` or `B`."""
    return value if value in {"R", "L", "B"} else None


def sex(value: str | None) -> str | None:
    """`M`, `F` or `O`."""
    return value if value in {"M", "F", "O"} else None


class Name(NamedTuple):
    """The components of a PN (PS3.5 6.2.1): the middle name is the last of `given`."""

    family: str | None = None
    given: tuple[str, ...] = ()
    prefix: str | None = None
    suffix: str | None = None


def name(value: str | None) -> Name:
    """The first component group of a PN that says anything."""
    for group in (value or "").split("="):
        parts = [text(part) for part in group.split("^")]
        if any(parts):
            family, given, middle, prefix, suffix, *_ = (*parts, None, None, None, None)
            return Name(family, tuple(part for part in (given, middle) if part), prefix, suffix)
    return Name()
