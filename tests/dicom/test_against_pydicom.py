"""Every real file gives the values that pydicom gives, in every encoding and character set; the exceptions are named.

pydicom with `force=True` reads on where we refuse: five files are cut off, lack what PS3.10 7.1 requires, or hold a UID
that is none (PS3.5 9.1).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from mdg.errors import Refused
from mdg.sources.headers import read_header

SETS = (
    *("ct-philips-head-phantom", "encapsulation-and-us-multiframe", "highdicom-wsi-seg-sr", "mr-ge-epi-600"),
    *("mr-siemens-xa30-enhanced", "petct-sarcoma-sts001", "pydicom-data", "pydicom-zoo"),
)
TEXTS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "Modality"),
    *("InstitutionName", "ReferringPhysicianName", "TimezoneOffsetFromUTC", "StudyDescription", "SeriesDescription"),
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "BodyPartExamined"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Laterality", "NumberOfFrames"),
)
NUMBERS = ("Rows", "Columns", "BitsAllocated")
REFUSED = {
    "MR_truncated.dcm": "(7FE0,0010) says 8192 bytes, the file has 8130 left",
    "rtplan_truncated.dcm": "(300A,00B0) says 976 bytes, the file has 711 left",
    "meta_missing_tsyntax.dcm": "names no transfer syntax",
    "no_meta.dcm": "not a DICOM file",
    "bad_sequence.dcm": "(0008,0018) is no valid UID",
}
# Its fragments end without a delimiter, which the header cannot know; pydicom then drops the pixel data.
CUT_IN_FRAGMENTS = "emri_small_jpeg_2k_lossless_too_short.dcm"
NOT_DICOM = ("README", "LICENSE", "SHA256SUMS", "NOTES", "FileInfo")
DEFLATED = ("1.2.840.10008.1.2.1.99",)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """pydicom warns about what is wrong in these files; here it is only the oracle."""
    logging.getLogger("pydicom").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("pydicom").disabled = False


def files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if not path.name.startswith(NOT_DICOM)]


def expected(data_set: Dataset, keyword: str) -> str | None:
    """pydicom's value as the text that stands in the file, without padding."""
    value = data_set.get(keyword)
    if isinstance(value, MultiValue):
        value = "\\".join(str(one) for one in value)
    elif value is not None:
        value = value if isinstance(value, PersonName) else getattr(value, "original_string", value)
    text = "" if value is None else str(value).strip(" \0")
    return text or None


@pytest.mark.parametrize("name", SETS)
def test_values_equal_those_of_pydicom(shared_data: Path, name: str) -> None:
    checked = 0
    for path in files(shared_data / name):
        if path.name in REFUSED:
            continue
        data_set = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        header = read_header(path)
        ours = {keyword: getattr(header, keyword) for keyword in (*TEXTS, *NUMBERS)}
        if ours["PatientName"]:
            # pydicom leaves out empty component groups at the end.
            ours["PatientName"] = ours["PatientName"].rstrip("=")
        theirs = {keyword: expected(data_set, keyword) for keyword in TEXTS}
        theirs |= {keyword: data_set.get(keyword) for keyword in NUMBERS}
        assert ours == theirs, path
        assert header.TransferSyntaxUID == data_set.file_meta.get("TransferSyntaxUID", header.TransferSyntaxUID), path
        others = [
            (item.get("PatientID"), item.get("IssuerOfPatientID"), item.get("TypeOfPatientID"))
            for item in data_set.get("OtherPatientIDsSequence", [])
        ]
        assert header.other_patient_ids == others, path
        checked += 1
    assert checked >= 15


@pytest.mark.parametrize("name", SETS)
def test_pixel_data_lies_where_pydicom_finds_it(shared_data: Path, name: str) -> None:
    for path in files(shared_data / name):
        if path.name in {*REFUSED, CUT_IN_FRAGMENTS}:
            continue
        header = read_header(path)
        if header.TransferSyntaxUID in DEFLATED:
            assert (header.pixel_offset, header.pixel_length) == (None, None), path
            continue
        data_set = pydicom.dcmread(path, force=True)
        keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in data_set), None)
        if keyword is None:
            assert (header.pixel_offset, header.pixel_length) == (None, None), path
            continue
        pixels = data_set[keyword]
        assert header.pixel_offset is not None, path
        assert header.pixel_length == (None if pixels.is_undefined_length else len(pixels.value)), path
        with path.open("rb") as file:
            file.seek(header.pixel_offset)
            assert file.read(len(pixels.value)) == pixels.value, path


def test_files_that_are_broken_are_refused_with_what_is_wrong(shared_data: Path) -> None:
    seen = set()
    for path in (path for name in SETS for path in files(shared_data / name)):
        if path.name in REFUSED:
            with pytest.raises(Refused) as refusal:
                read_header(path)
            code = "E_NOT_DICOM" if REFUSED[path.name].startswith("not a DICOM file") else "E_DICOM"
            assert (refusal.value.code, refusal.value.part) == (code, str(path))
            assert REFUSED[path.name] in str(refusal.value)
            seen.add(path.name)
    assert seen == set(REFUSED)


def test_files_that_are_not_dicom_are_refused(shared_data: Path) -> None:
    for path in shared_data.rglob("*"):
        if path.is_file() and path.name.startswith(NOT_DICOM):
            with pytest.raises(Refused, match="not a DICOM file"):
                read_header(path)
