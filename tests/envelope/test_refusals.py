"""What does not belong into an envelope, and whom it does not open for. Nothing is left behind."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.envelope import forger
from tests.envelope.envelopes import SENDER, Parties, write_instance

from mdg import _core
from mdg.errors import InputOutput, Misuse, Refused


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Any:
    yield
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name.startswith("out")]


def code_of(parties: Parties, envelope: Path, **other: Any) -> str:
    with pytest.raises(Refused) as refused:
        parties.open(envelope, envelope.parent / "out", **other)
    return refused.value.code


def test_only_trusted_keys_open_and_only_for_their_sender(parties: Parties, envelope: Path) -> None:
    stranger = _core.Ed25519Key.generate().public
    assert code_of(parties, envelope, trust=[]) == "E_SIG_KEY"
    assert code_of(parties, envelope, trust=[(None, stranger)]) == "E_SIG_KEY"
    assert code_of(parties, envelope, trust=[(SENDER["id"], stranger)]) == "E_SIG_KEY"
    assert code_of(parties, envelope, trust=[("urn:example:other", parties.signer.public)]) == "E_SIG_KEY"
    assert parties.verify(envelope, trust=[(None, parties.signer.public)])["ok"]


def test_another_key_does_not_open_it(parties: Parties, envelope: Path) -> None:
    assert code_of(parties, envelope, key=_core.X25519Key.generate()) == "E_NO_RECIPIENT"


def test_the_answer_to_another_request_is_refused(parties: Parties, envelope: Path) -> None:
    assert code_of(parties, envelope, request_digest=bytes(32)) == "E_REQ"


def test_a_byte_changed_in_transit_is_told_by_the_signed_hash(parties: Parties, envelope: Path) -> None:
    with zipfile.ZipFile(envelope) as archive:
        info = archive.getinfo("payload.encrypted")
    content = info.header_offset + 30 + len(info.filename)
    whole = bytearray(envelope.read_bytes())
    for at in (0, info.file_size // 2, info.file_size - 1):
        whole[content + at] ^= 1
        envelope.write_bytes(whole)
        whole[content + at] ^= 1
        assert code_of(parties, envelope) == "E_PAYLOAD_HASH"
        for key in (None, _core.X25519Key.generate()):
            with pytest.raises(Refused, match="E_PAYLOAD_HASH"):
                parties.verify(envelope, key=key)


def test_an_unsigned_envelope_is_a_downgrade(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    parties.pack(study, folder, as_directory=True)
    (folder / "manifest.jws").unlink()
    assert code_of(parties, folder) == "E_DOWNGRADE"


def test_a_signature_over_another_manifest_is_a_mismatch(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    parties.pack(study, folder, as_directory=True)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for part in ("payload_hash", "encryption", "jws"):
        del manifest["security"][part]
    partial = parties.signer.sign_jws(json.dumps(manifest).encode(), "jmix-manifest+jws")
    (folder / "manifest.jws").write_bytes(partial)
    assert json.loads(_core.inspect(str(folder)))["signature"] == "partial"
    with pytest.raises(Refused, match="verdict partial"):
        parties.verify(folder)
    assert code_of(parties, folder) == "E_MANIFEST_MISMATCH"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": "1.1"}, "E_PROFILE_VERSION"),
        ({"id": "not-a-uuid"}, "E_SCHEMA"),
        ({"timestamp": "yesterday"}, "E_SCHEMA"),
        ({"receiver": []}, "E_SCHEMA"),
        ({"note": "an unknown member"}, "E_SCHEMA"),
        ({"sender": [SENDER["id"], SENDER["name"], SENDER["contact"]]}, "E_SCHEMA"),
        ({"security": {}}, "E_SCHEMA"),
        ({"extensions": {"ief_seg": {"v": 1}}}, "E_PROFILE_VERSION"),
    ],
)
def test_a_signed_manifest_still_has_to_be_right(
    parties: Parties, study: list[Path], tmp_path: Path, *, change: dict[str, object], code: str
) -> None:
    folder = tmp_path / "folder"
    parties.pack(study, folder, as_directory=True)
    forger.sign(parties, folder, json.loads((folder / "manifest.json").read_bytes()) | change)
    assert code_of(parties, folder) == code


def test_a_bad_audit_is_a_warning(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    parties.pack(study, folder, as_directory=True)
    for content in (b"", b"[]", b'{"audit":[{"event":"sent"}]}', b"\xff" * 100, b" " * 2_000_000):
        (folder / "audit.json").write_bytes(content)
        assert any("audit.json" in warning for warning in parties.verify(folder)["warnings"])
    (folder / "audit.json").unlink()
    assert any("audit.json: missing" in warning for warning in parties.verify(folder)["warnings"])


def test_two_studies_or_patients_do_not_go_into_one_envelope(
    parties: Parties, study: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "study" / "other"
    for study_uid, patient in (("1.2.4", "P-1"), ("1.2.3", "P-2")):
        write_instance(other, 9, study=study_uid, patient=patient)
        with pytest.raises(Refused, match=str(other)) as refused:
            parties.pack([*study, other], tmp_path / "out.zip")
        assert refused.value.code == "E_DICOM_IDENTITY"
    write_instance(other, 0)
    with pytest.raises(Refused, match="E_DICOM_IDENTITY"):
        parties.pack([*study, other], tmp_path / "out.zip")


def test_a_broken_missing_or_changed_file_is_named(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    study[2].write_bytes(study[2].read_bytes()[:300])
    with pytest.raises(Refused, match=f"E_DICOM: {study[2]}"):
        parties.pack(study, tmp_path / "out.zip")
    write_instance(study[2], 2)
    with pytest.raises(Refused, match=f"E_STORE_CORRUPT: {study[1]}"):
        parties.pack(study, tmp_path / "out.zip", known={study[1]: bytes(32)})
    with pytest.raises(InputOutput, match="absent"):
        parties.pack([*study, tmp_path / "absent"], tmp_path / "out.zip")


def test_an_existing_target_is_never_written_over(parties: Parties, study: list[Path], envelope: Path) -> None:
    before = envelope.read_bytes()
    with pytest.raises(InputOutput, match="exists already"):
        parties.pack(study, envelope)
    assert envelope.read_bytes() == before
    target = envelope.parent / "target"
    target.mkdir()
    with pytest.raises(InputOutput, match="exists already"):
        parties.open(envelope, target)
    assert not list(target.iterdir())


def test_an_order_that_makes_no_envelope_is_the_callers_mistake(
    parties: Parties, study: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.zip"
    for wrong in (
        {"recipient": bytes(31)},
        {"envelope_id": "x"},
        {"timestamp": "2026-11-24T08:00:00+00:00"},
        {"classification": "secret"},
        {"sender": "{}"},
        {"receiver": "[]"},
        {"request_digest": b"x"},
        {"identifiers": [("http://example.invalid/mrn", "P-2")]},
        {"files": [(str(study[0]), "../x")]},
    ):
        with pytest.raises(Misuse):
            parties.pack(study, out, **wrong)
    with pytest.raises(Misuse):
        parties.pack([], out)
    with pytest.raises(Refused, match="E_WRAP"):
        parties.pack(study, out, recipient=bytes(32))


def test_what_progress_raises_stops_the_work(parties: Parties, study: list[Path], envelope: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parties.pack(study, envelope.parent / "out.zip", progress=stop)
    with pytest.raises(KeyboardInterrupt):
        parties.open(envelope, envelope.parent / "out", progress=stop)
