"""DICOM files made with pydicom, and bytes of them made by hand."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

IHI = "8003608833357361"
OTHER_IHI = "8003608000000018"


def data_set(**attributes: object) -> Dataset:
    """Attributes by keyword; a list of data sets is a sequence."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def write(path: Path, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> Path:
    """Writes one instance with the given attributes in the given transfer syntax."""
    common: dict[str, object] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "CT",
        "PatientID": "17",
    }
    instance = data_set(**common | attributes)
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = UID(syntax)
    instance.save_as(path, enforce_file_format=True)
    return path


def disk_directory(path: Path) -> Path:
    """A DICOMDIR, by its class and under any name (PS3.10 8.6)."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.1.3.10")
    directory.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.9")
    directory.FileSetID = "DISK"
    directory.save_as(path, enforce_file_format=True)
    return path
