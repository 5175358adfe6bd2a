"""What is packed comes out again, byte for byte."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections import defaultdict
from pathlib import Path

import anyio
import pytest
from tests.envelope.envelopes import ENVELOPE_ID, RECEIVER, REQUEST, SENDER, TIMESTAMP, Parties, schema_judges

from mdg import _core, envelope
from mdg.errors import Refused


def studies(folder: Path) -> dict[str, dict[str, _core.Indexed]]:
    """Study UID to SOP Instance UID to file, for the studies of one patient whose headers the core reads."""
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    found: dict[str, dict[str, _core.Indexed]] = defaultdict(dict)
    patients: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for one in _core.index_files(paths):
        header = one.header
        if header and header.StudyInstanceUID and header.SeriesInstanceUID and header.SOPInstanceUID:
            found[header.StudyInstanceUID].setdefault(header.SOPInstanceUID, one)
            patients[header.StudyInstanceUID].add((header.PatientID, header.IssuerOfPatientID))
    return {uid: files for uid, files in found.items() if len(patients[uid]) == 1}


def test_every_real_study_of_one_patient_comes_out_identical(
    shared_data: Path, parties: Parties, tmp_path: Path
) -> None:
    found, judges = studies(shared_data), schema_judges(shared_data)
    assert len(found) > 50
    for number, (uid, files) in enumerate(found.items()):
        sealed, out = tmp_path / f"{number}.zip", tmp_path / f"{number}"
        known = {Path(one.path): one.digest.sha256 for one in files.values() if one.digest}
        packed = parties.pack(list(known), sealed, known=known, identifiers=())
        report = parties.open(sealed, out)
        assert (report["study_uid"], report["instances"]) == (uid, len(files))
        assert (report["signature"], report["bytes"]) == ("full", packed["bytes"])
        for sop, one in files.items():
            assert (out / "dicom" / f"{sop}.dcm").read_bytes() == Path(one.path).read_bytes(), one.path
        assert len(list((out / "dicom").iterdir())) == len(files)
        judges["metadata"].validate(json.loads((out / "metadata.json").read_text()))
        judges["files"].validate(json.loads((out / "files.json").read_text()))
        with zipfile.ZipFile(sealed) as archive:
            judges["manifest"].validate(json.loads(archive.read("manifest.json")))
            judges["audit"].validate(json.loads(archive.read("audit.json")))
        sealed.unlink()


def test_the_folder_form_holds_the_same_and_opens_the_same(
    parties: Parties, study: list[Path], report_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / f"{ENVELOPE_ID}.JMIX"
    files = [(str(report_file), "report.txt")]
    parties.pack(study, folder, files=files, as_directory=True)
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "manifest.jws",
        "audit.json",
        "payload.encrypted",
    }
    report = parties.open(folder, tmp_path / "out", request_digest=REQUEST)
    assert (report["instances"], report["files"]) == (4, 1)
    assert report["unsigned"] == [{"part": "audit.json", "start": 0, "end": (folder / "audit.json").stat().st_size}]
    assert (tmp_path / "out" / "files" / "report.txt").read_bytes() == report_file.read_bytes()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(Refused) as refused:
        parties.verify(folder)
    assert refused.value.code == "E_ZIP_NAME"


def test_what_is_written_is_private_and_complete(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parties.open(envelope, out)
    assert stat.S_IMODE(envelope.stat().st_mode) == 0o600
    for path in [out, *out.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert sorted(path.name for path in out.iterdir()) == ["dicom", "files", "files.json", "metadata.json"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_lengths_and_hashes_of_the_report_are_those_of_the_file(
    parties: Parties, study: list[Path], tmp_path: Path
) -> None:
    sealed = tmp_path / "e.zip"
    packed = parties.pack(study, sealed)
    assert packed["length"] == sealed.stat().st_size
    assert packed["bytes"] == sum(path.stat().st_size for path in study)
    report = parties.verify(sealed)
    assert report["manifest_sha256"] == packed["manifest_sha256"]


def test_two_envelopes_of_one_study_share_no_key(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    reports = [parties.pack(study, tmp_path / f"{i}.zip") for i in range(2)]
    assert reports[0]["payload_hash"] != reports[1]["payload_hash"]


def test_inspecting_proves_nothing_and_says_so(envelope: Path) -> None:
    report = json.loads(_core.inspect(str(envelope)))
    assert (report["ok"], report["verified"], report["opened"]) == (False, False, False)
    assert (report["id"], report["sender"]["id"], report["signature"]) == (ENVELOPE_ID, SENDER["id"], "full")
    assert "nothing here is proven" in report["notes"][0]
    assert report["warnings"] == []


def test_without_the_key_signature_and_ciphertext_are_checked(parties: Parties, envelope: Path) -> None:
    report = parties.verify(envelope, key=None)
    assert (report["ok"], report["verified"], report["opened"], report["instances"]) == (True, True, False, None)
    assert any("content not opened" in note for note in report["notes"])


def test_the_wrapper_gives_the_same_as_values(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    packed = envelope.pack(
        [(path, hashlib.sha256(path.read_bytes()).digest()) for path in study],
        envelope_id=ENVELOPE_ID,
        timestamp=TIMESTAMP,
        patient_id="urn:x",
        identifiers=(),
        sender=SENDER,
        requester=RECEIVER,
        receiver=RECEIVER,
        recipient=parties.recipient.public,
        signer=parties.signer,
        out=tmp_path / "e.zip",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps
    assert steps[-1][0] == steps[-1][1]
    assert packed.to_json()["instances"] == 4
    sealed = tmp_path / "e.zip"
    assert not (envelope.inspect(sealed)).ok
    assert (envelope.verify(sealed, trust=parties.trust)).ok
    report = envelope.open_(sealed, trust=parties.trust, key=parties.recipient, out=tmp_path / "out")
    assert (report.ok, report.signature, report.sender.id, report.instances) == (True, "full", SENDER["id"], 4)
    assert any("no forward secrecy" in note for note in report.notes)
    assert report.warnings == ()


@pytest.mark.anyio
async def test_a_cancelled_caller_leaves_nothing(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    from mdg import envelope as room
    from mdg.envelope.beside import beside

    with anyio.CancelScope() as scope:
        scope.cancel()
        await beside(
            lambda told: room.open_(
                envelope, trust=parties.trust, key=parties.recipient, out=tmp_path / "out", progress=told
            )
        )
    assert scope.cancelled_caught
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
