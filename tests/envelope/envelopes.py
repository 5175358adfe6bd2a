"""Keys, small studies and envelopes for the tests of this room."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from mdg import _core

ENVELOPE_ID = "6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec"
TIMESTAMP = "2026-11-24T08:00:00Z"
IDENTIFIERS = (
    ("http://example.invalid/mrn", "P-1"),
    ("http://ns.electronichealth.net.au/id/hi/ihi/1.0", "8003608833357361"),
)
SENDER = {"id": "urn:example:sender", "name": "Clinic A", "contact": "imaging@a.example.invalid"}
RECEIVER = {
    "id": "urn:example:receiver",
    "name": "Clinic B",
    "contact": {"system": "phone", "value": "+61 2 5550 0000"},
}
REQUEST = bytes(range(32))


def write_instance(path: Path, number: int, *, study: str = "1.2.3", patient: str = "P-1", pixels: int = 512) -> bytes:
    """A CT instance with `pixels` bytes of PixelData."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{study}.{number // 2 + 1}.{number}"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.{number // 2 + 1}"
    ds.Modality = "CT"
    ds.BodyPartExamined = "HEAD"
    ds.StudyDescription = "Head without contrast"
    ds.PatientName = "Citizen^Jane^Q^Dr"
    ds.PatientID = patient
    ds.PatientBirthDate = "19700102"
    ds.PatientSex = "F"
    ds.Rows, ds.Columns = 16, pixels // 32
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = bytes((number + i) % 251 for i in range(pixels))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path.read_bytes()


@dataclass
class Parties:
    """Both sides of an exchange."""

    signer: _core.Ed25519Key
    recipient: _core.X25519Key

    @classmethod
    def generate(cls) -> Parties:
        return cls(_core.Ed25519Key.generate(), _core.X25519Key.generate())

    @property
    def trust(self) -> list[tuple[str | None, bytes]]:
        return [(SENDER["id"], self.signer.public)]

    def pack(self, instances: list[Path], out: Path, **other: Any) -> dict[str, Any]:
        """An envelope of these files at `out`; the report."""
        text, manifest, recipe = self._pack(instances, out, **other)
        report: dict[str, Any] = json.loads(text)
        assert hashlib.sha256(manifest).hexdigest() == report["manifest_sha256"]
        assert recipe is None
        return report

    def spool(self, instances: list[Path], out: Path) -> _core.Recipe:
        """An envelope of these files at `out`; how to serve it."""
        _, manifest, recipe = self._pack(instances, out, recipe=True)
        with zipfile.ZipFile(out) as archive:
            assert archive.read("manifest.json") == manifest
        assert recipe is not None
        return recipe

    def _pack(self, instances: list[Path], out: Path, **other: Any) -> tuple[str, bytes, _core.Recipe | None]:
        known = other.pop("known", {})
        arguments: dict[str, Any] = {
            "envelope_id": ENVELOPE_ID,
            "timestamp": TIMESTAMP,
            "patient_id": f"urn:uuid:{ENVELOPE_ID}",
            "identifiers": IDENTIFIERS,
            "sender": json.dumps(SENDER),
            "requester": None,
            "receiver": json.dumps(RECEIVER),
            "recipient": self.recipient.public,
            "signer": self.signer,
            "request_digest": REQUEST,
            "out": str(out),
        }
        return _core.pack([(str(path), known.get(path)) for path in instances], **(arguments | other))

    def verify(self, path: Path, **other: Any) -> dict[str, Any]:
        """The report of verifying with the key."""
        arguments: dict[str, Any] = {"trust": self.trust, "key": self.recipient}
        report: dict[str, Any] = json.loads(_core.verify(str(path), **(arguments | other)))
        return report

    def open(self, path: Path, out: Path, **other: Any) -> dict[str, Any]:
        """The report of opening into `out`."""
        arguments: dict[str, Any] = {"trust": self.trust, "key": self.recipient, "out": str(out)}
        report: dict[str, Any] = json.loads(_core.open_envelope(str(path), **(arguments | other)))
        return report


def schema_judges(shared_data: Path) -> dict[str, Draft202012Validator]:
    """The official JMIX schemas, formats included, by the name of the document."""
    checker = FormatChecker(formats=["uuid", "date-time", "date"])
    schemas = shared_data / "jmix-spec" / "schemas"
    return {
        name: Draft202012Validator(json.loads((schemas / f"{name}.schema.json").read_text()), format_checker=checker)
        for name in ("manifest", "audit", "metadata", "files")
    }
