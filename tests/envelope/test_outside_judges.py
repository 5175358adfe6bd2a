"""Software that is not ours reads what we write: zipfile, tarfile, unzip, a second reader, the official schemas."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from jsonschema import ValidationError
from tests.envelope import independent_reader
from tests.envelope.envelopes import ENVELOPE_ID, IDENTIFIERS, REQUEST, Parties, schema_judges

from mdg import _core
from mdg.errors import Refused


@pytest.fixture
def opened(parties: Parties, envelope: Path, tmp_path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    key = tmp_path / "key"
    parties.recipient.write(str(key))
    return independent_reader.read(envelope, key.read_bytes(), parties.signer.public)


def test_a_second_reader_opens_and_verifies_it(
    opened: tuple[dict[str, Any], dict[str, bytes]], study: list[Path], report_file: Path
) -> None:
    manifest, files = opened
    assert manifest["id"] == ENVELOPE_ID
    assert {data for name, data in files.items() if name.startswith("dicom/")} == {p.read_bytes() for p in study}
    assert files["files/report.txt"] == report_file.read_bytes()


def test_the_second_reader_sees_a_changed_byte(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    parties.recipient.write(str(key))
    with zipfile.ZipFile(envelope) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for name in ("manifest.json", "manifest.jws", "payload.encrypted"):
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
            for entry, data in entries.items():
                middle = len(data) // 2
                changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
                archive.writestr(entry, changed if entry == name else data)
        with pytest.raises((InvalidSignature, ValueError)):
            independent_reader.read(tmp_path / "changed.zip", key.read_bytes(), parties.signer.public)


def test_the_archive_is_plain_stored_zip_with_the_manifest_first(envelope: Path) -> None:
    with zipfile.ZipFile(envelope) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "manifest.jws", "audit.json", "payload.encrypted"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(2026, 11, 24, 8, 0, 0)}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_finds_no_fault(envelope: Path) -> None:
    subprocess.run(["unzip", "-t", "-q", envelope], check=True, capture_output=True)


def test_the_payload_is_sorted_ustar_without_owner_or_time(
    opened: tuple[dict[str, Any], dict[str, bytes]], envelope: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(envelope) as archive:
        sealed = archive.read("payload.encrypted")
    tar = independent_reader.decrypt(opened[0], sealed, (tmp_path / "key").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as payload:
        members = payload.getmembers()
    names = [member.name for member in members]
    assert names == [*sorted(names[:-1]), "files.json"]
    for member in members:
        assert (member.mode, member.uid, member.gid, member.mtime, member.uname) == (0o644, 0, 0, 0, "")
        assert member.isreg()
        assert tar[member.offset + 257 : member.offset + 265] == b"ustar\x0000"
    assert tar.endswith(bytes(1024))
    assert len(tar) == sum(512 + -(-member.size // 512) * 512 for member in members) + 1024


def test_all_documents_follow_the_official_schemas(
    shared_data: Path, opened: tuple[dict[str, Any], dict[str, bytes]], envelope: Path
) -> None:
    _, files = opened
    judges = schema_judges(shared_data)
    with zipfile.ZipFile(envelope) as archive:
        audit = archive.read("audit.json")
        judges["manifest"].validate(json.loads(archive.read("manifest.json")))
    judges["audit"].validate(json.loads(audit))
    judges["metadata"].validate(json.loads(files["metadata.json"]))
    judges["files"].validate(json.loads(files["files.json"]))
    assert [event["event"] for event in json.loads(audit)["audit"]] == ["created"]


def test_the_official_schemas_are_no_rubber_stamp(
    shared_data: Path, opened: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    manifest, files = opened
    judges = schema_judges(shared_data)
    metadata = json.loads(files["metadata.json"])
    for name, spoilt in (
        ("manifest", manifest | {"id": "no uuid"}),
        ("metadata", {**metadata, "patient": metadata["patient"] | {"dob": "01.02.1970"}}),
        ("files", {"files": 1}),
        ("audit", {"audit": [{"event": "created"}]}),
    ):
        with pytest.raises(ValidationError):
            judges[name].validate(spoilt)


def test_the_documents_say_what_the_headers_and_the_caller_said(
    opened: tuple[dict[str, Any], dict[str, bytes]],
) -> None:
    manifest, files = opened
    metadata = json.loads(files["metadata.json"])
    assert metadata["patient"] == {
        "id": f"urn:uuid:{ENVELOPE_ID}",
        "name": {"family": "Citizen", "given": ["Jane", "Q"], "prefix": "Dr", "text": "Dr Jane Q Citizen"},
        "dob": "1970-01-02",
        "sex": "F",
        "identifiers": [{"system": system, "value": value} for system, value in IDENTIFIERS],
    }
    assert metadata["studies"] == {
        "study_description": "Head without contrast",
        "study_uid": "1.2.3",
        "series": [
            {"series_uid": f"1.2.3.{n}", "modality": "CT", "body_part": "HEAD", "instance_count": 2} for n in (1, 2)
        ],
    }
    extension = manifest["extensions"]["ief"]
    assert (extension["dialect"], extension["kdf_info"]) == ("jmix-1.0", "JMIX-payload-encryption")
    assert extension["req"] == base64.b64encode(REQUEST).decode()
    text = json.dumps(manifest)
    assert "null" not in text
    # Spelled so that neither base64 nor hex can hold them by chance.
    for personal in ("Citizen", "P-1", "8003608833357361", "1970-", "1.2.3.", '"CT"'):
        assert personal not in text, personal


def test_an_archive_that_another_tool_compressed_or_reordered_is_not_taken_for_ours(
    parties: Parties, envelope: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(envelope) as archive, zipfile.ZipFile(other, "w") as written:
        for name in archive.namelist():
            written.writestr(name, archive.read(name))
    with pytest.raises(Refused, match="E_ZIP"):
        parties.verify(other)
    assert json.loads(_core.verify(str(envelope), trust=parties.trust))["ok"]
