"""Makes the seeds of the fuzz targets: an envelope of one instance and its parts, each in the folder of its parser.

Run it from the root of the repository when a format changes: `.venv/bin/python tests/vectors/make.py`. Keys and IV are
random, so the bytes differ each time; what they say does not.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mdg import _core

HERE = Path(__file__).resolve().parent


def instance(syntax: UID) -> bytes:
    """A CT slice of 4 x 4 pixels with every kind of identifier that the header reader knows."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4.1")
    slice_ = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    slice_.SpecificCharacterSet = ["ISO 2022 IR 6", "ISO 2022 IR 87"]
    slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, "1.2.3.4.1"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.0"
    slice_.StudyDate, slice_.StudyTime, slice_.TimezoneOffsetFromUTC = "20260102", "030405", "+1000"
    slice_.Modality, slice_.StudyDescription = "CT", "Head"
    slice_.PatientName, slice_.PatientID, slice_.IssuerOfPatientID = "Demo^One", "DEMO-0001", "DEMO"
    qualifier = Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.36.1.2001.1003.0", "ISO"
    other = Dataset()
    other.PatientID, other.TypeOfPatientID = "8003608833357361", "TEXT"
    other.IssuerOfPatientIDQualifiersSequence = [qualifier]
    slice_.OtherPatientIDsSequence = [other]
    slice_.Rows = slice_.Columns = 4
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.PixelData = bytes(range(32))
    out = io.BytesIO()
    slice_.save_as(out, enforce_file_format=True)
    return out.getvalue()


def envelope(folder: Path, dicom: bytes, key: X25519PrivateKey) -> bytes:
    (folder / "1.dcm").write_bytes(dicom)
    entity = {"id": "urn:example:a", "name": "A", "contact": "a@example.org"}
    _core.pack(
        [(str(folder / "1.dcm"), None)],
        envelope_id="6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec",
        timestamp="2026-11-24T08:00:00Z",
        patient_id="urn:uuid:6f57f5fa-1cd1-45be-a5c3-fb209be1e0ed",
        identifiers=[
            ("urn:example:mrn", "DEMO-0001"),
            ("http://ns.electronichealth.net.au/id/hi/ihi/1.0", "8003608833357361"),
        ],
        sender=json.dumps(entity),
        requester=None,
        receiver=json.dumps(entity),
        recipient=key.public_key().public_bytes_raw(),
        signer=_core.Ed25519Key.generate(),
        out=str(folder / "out.zip"),
    )
    return (folder / "out.zip").read_bytes()


def opened(zip_bytes: bytes, key: X25519PrivateKey) -> tuple[bytes, bytes]:
    """(manifest.json, the tar) by the second implementation, `cryptography`."""
    with zipfile.ZipFile(io.BytesIO(zip_bytes)) as archive:
        manifest, sealed = archive.read("manifest.json"), archive.read("payload.encrypted")
    encryption = {
        name: value for name, value in json.loads(manifest)["security"]["encryption"].items() if name != "algorithm"
    }
    peer, iv, tag = (base64.b64decode(encryption[name]) for name in ("ephemeral_public_key", "iv", "auth_tag"))
    secret = key.exchange(X25519PublicKey.from_public_bytes(peer))
    aes = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"JMIX-payload-encryption").derive(secret))
    return manifest, aes.decrypt(iv, sealed + tag, None)


def keep(parser: str, name: str, content: bytes) -> None:
    (HERE / parser).mkdir(exist_ok=True)
    (HERE / parser / name).write_bytes(content)


def main() -> None:
    key = X25519PrivateKey.generate()
    explicit = instance(ExplicitVRLittleEndian)
    with tempfile.TemporaryDirectory() as folder:
        zip_bytes = envelope(Path(folder), explicit, key)
    manifest, tar = opened(zip_bytes, key)
    keep("dicom", "explicit", explicit)
    keep("dicom", "implicit", instance(ImplicitVRLittleEndian))
    keep("zip", "one_instance", zip_bytes)
    keep("manifest", "one_instance", manifest)
    keep("json", "manifest", manifest)
    keep("tar", "one_instance", tar)
    with tarfile.open(fileobj=io.BytesIO(tar)) as payload:
        for name in ("metadata.json", "files.json"):
            member = payload.extractfile(name)
            assert member is not None
            keep("metadata", name.removesuffix(".json"), member.read())


main()
