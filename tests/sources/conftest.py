"""Small made-up DICOM studies on disk, and an index over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from mdg import envelope
from mdg._core import Ed25519Key, X25519Key
from mdg.identity import Identities
from mdg.model.identity import IHI_SYSTEM, MEDICAL_RECORD_SYSTEM, HpiO, Ihi
from mdg.sources.folder import FolderSource
from mdg.sources.received import ReceivedSource
from mdg.store import Store

CUSTODIAN = HpiO("8003621566684455")
ZONE = ZoneInfo("Australia/Melbourne")
MR = UID("1.2.840.10008.5.1.4.1.1.4")

IHI = Ihi("8003608833357361")

Write = Callable[..., Path]
Arrive = Callable[..., Awaitable[tuple[Path, envelope.Report]]]


def instance(path: Path, *, study: str = "1.2.3", series: str = "1.2.3.1", number: int = 1, **values: object) -> Path:
    """Writes one small MR instance; `ihi` is written in form 3
    (spec/patient-identity 2); `values` are attributes by keyword, None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MR
    uid = str(values.pop("SOPInstanceUID", f"{series}.{number}"))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID(uid)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientID, dataset.IssuerOfPatientID, dataset.PatientName = "P1", "RMH", "Test^Ann^B"
    dataset.PatientBirthDate, dataset.PatientSex = "19700131", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20240115", "093000", "MR"
    dataset.AccessionNumber, dataset.StudyDescription = "A1", "Head"
    dataset.SeriesNumber, dataset.InstanceNumber = "1", str(number)
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 15, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = number.to_bytes(32, "little")
    if (ihi := values.pop("ihi", None)) is not None:
        item = Dataset()
        item.PatientID, item.IssuerOfPatientID, item.TypeOfPatientID = ihi, "AUSHIC", "TEXT"
        dataset.OtherPatientIDsSequence = [item]
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


@pytest.fixture
def write() -> Write:
    return instance


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    async with Store.open(database) as opened:
        yield opened


@pytest.fixture
def source(store: Store, images: Path) -> FolderSource:
    return FolderSource(store, CUSTODIAN, [images], default_issuer="RMH", time_zone=ZONE)


@pytest.fixture
def received(store: Store, tmp_path: Path) -> ReceivedSource:
    return ReceivedSource(store, CUSTODIAN, tmp_path / "data" / "received", time_zone=ZONE)


@pytest.fixture
def identities(store: Store) -> Identities:
    return Identities(store, CUSTODIAN)


@pytest.fixture
def arrive(tmp_path: Path, write: Write) -> Arrive:
    """Packs a small study and opens the envelope, as a consumer does: the opened folder and its report."""
    signer, receiver = Ed25519Key.generate(), X25519Key.generate()
    party = {"id": CUSTODIAN.uri, "name": "A", "contact": "a@example.org"}

    async def arrive(instances: int = 2, said: str = IHI, **values: object) -> tuple[Path, envelope.Report]:
        work = tmp_path / uuid4().hex
        paths = [write(work / "in" / f"{n}.dcm", number=n, **values) for n in range(1, instances + 1)]
        envelope.pack(
            [(path, None) for path in paths],
            envelope_id=str(uuid4()),
            timestamp="2026-05-02T01:12:09Z",
            patient_id=f"urn:uuid:{uuid4()}",
            identifiers=[(IHI_SYSTEM, said), (MEDICAL_RECORD_SYSTEM, str(values.get("PatientID", "P1")))],
            sender=party,
            requester=None,
            receiver=party,
            recipient=receiver.public,
            signer=signer,
            out=work / "study.zip",
        )
        report = envelope.open_(work / "study.zip", trust=[(None, signer.public)], key=receiver, out=work / "opened")
        return work / "opened", report

    return arrive
