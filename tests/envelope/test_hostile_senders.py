"""A sender whom we trust and who seals something wrong: each fault has its code, and nothing is left."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from tests.envelope import forger
from tests.envelope.envelopes import Parties, write_instance

from mdg.errors import Refused

Files = dict[str, bytes]


@pytest.fixture
def folder(parties: Parties, study: list[Path], tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    parties.pack(study, path, as_directory=True)
    return path


def refusal(parties: Parties, folder: Path) -> str:
    out = folder.parent / "out"
    with pytest.raises(Refused) as refused:
        parties.open(folder, out)
    with pytest.raises(Refused) as verified:
        parties.verify(folder)
    assert verified.value.code == refused.value.code
    assert not [path for path in folder.parent.iterdir() if "out" in path.name]
    return refused.value.code


def test_an_honest_envelope_of_other_software_opens(parties: Parties, folder: Path) -> None:
    files = forger.members(parties, folder)
    prefixed = {f"payload/{name}": data for name, data in files.items()}
    for tar in (forger.tar_of(files), forger.tar_of(prefixed), forger.tar_of(dict(reversed(files.items())))):
        forger.seal(parties, folder, tar)
        assert parties.verify(folder)["instances"] == 4
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["extensions"]["ief"]["payload_list_hash"] = "sha256:" + "0" * 64
        forger.sign(parties, folder, manifest)
        assert refusal(parties, folder) == "E_FILE_DIGEST"


def with_metadata(**change: object) -> Callable[[Files], Files]:
    def edit(files: Files) -> Files:
        metadata = json.loads(files["metadata.json"])
        for path, value in change.items():
            target = metadata
            *above, last = path.split("__")
            for step in above:
                target = target[step]
            target[last] = value
        return forger.listed(files | {"metadata.json": json.dumps(metadata).encode()})

    return edit


def without(name: str) -> Callable[[Files], Files]:
    return lambda files: {known: data for known, data in files.items() if known != name}


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (without("metadata.json"), "E_INDEX_FILES"),
        (without("files.json"), "E_INDEX_FILES"),
        (lambda files: forger.listed(without("metadata.json")(files)), "E_INDEX_FILES"),
        (without("dicom/1.2.3.1.0.dcm"), "E_INDEX_FILES"),
        (lambda files: files | {"files/extra": b"x"}, "E_INDEX_FILES"),
        (lambda files: files | {"dicom/1.2.3.1.0.dcm": files["dicom/1.2.3.1.1.dcm"]}, "E_FILE_DIGEST"),
        (lambda files: files | {"files.json": b"[}"}, "E_INDEX_JSON"),
        (lambda files: files | {"files.json": b'{"files":[]}'}, "E_INDEX_SCHEMA"),
        (lambda files: files | {"metadata.json": b"\xff"}, "E_INDEX_JSON"),
        (with_metadata(id="6f57f5fa-1cd1-45be-a5c3-fb209be1e0ed"), "E_INDEX_ID"),
        (with_metadata(note="unknown member"), "E_INDEX_SCHEMA"),
        (with_metadata(patient__sex="X"), "E_INDEX_SCHEMA"),
        (with_metadata(patient__dob="1970-02-30"), "E_INDEX_SCHEMA"),
        (with_metadata(extensions={"ief_seg": {"v": 1}}), "E_DOWNGRADE"),
        (lambda files: files | {"segments.json": b"{}"}, "E_DOWNGRADE"),
        (with_metadata(studies__study_uid="1.2.4"), "E_DICOM_IDENTITY"),
        (with_metadata(patient__identifiers=[{"system": "urn:x", "value": "P-2"}]), "E_DICOM_IDENTITY"),
        (lambda files: forger.listed(files | {"dicom/x.dcm": b"no DICOM"}), "E_DICOM_IDENTITY"),
        (lambda files: files | {"readme.md": b"x"}, "E_TAR_NAME"),
        (lambda files: files | {"dicom/../../x": b"x"}, "E_TAR_NAME"),
        (lambda files: files | {"DICOM/1.2.3.1.0.DCM": b"x"}, "E_TAR_NAME"),
        (lambda files: files | {"dicom/1.2.3.1.0.dcm/x": b"x"}, "E_TAR_NAME"),
    ],
)
def test_each_wrong_content_has_its_code(
    parties: Parties, folder: Path, edit: Callable[[Files], Files], code: str
) -> None:
    forger.seal(parties, folder, forger.tar_of(edit(forger.members(parties, folder))))
    assert refusal(parties, folder) == code


@pytest.mark.parametrize(("uid", "patient"), [("1.2.9", "P-1"), ("1.2.3", "P-9")])
def test_an_instance_of_another_study_or_patient_is_found(
    parties: Parties, folder: Path, tmp_path: Path, *, uid: str, patient: str
) -> None:
    stranger = write_instance(tmp_path / "stranger", 7, study=uid, patient=patient)
    files = forger.listed(forger.members(parties, folder) | {"dicom/stranger.dcm": stranger})
    forger.seal(parties, folder, forger.tar_of(files))
    assert refusal(parties, folder) == "E_DICOM_IDENTITY"


@pytest.mark.parametrize(
    ("attribute", "value", "code"),
    [
        ("type", tarfile.SYMTYPE, "E_TAR_TYPE"),
        ("type", tarfile.LNKTYPE, "E_TAR_TYPE"),
        ("type", tarfile.CHRTYPE, "E_TAR_TYPE"),
        ("type", tarfile.GNUTYPE_SPARSE, "E_TAR_TYPE"),
        ("linkname", "/etc/passwd", "E_TAR_TYPE"),
        ("mode", 0o4755, "E_TAR_HEADER"),
    ],
)
def test_only_plain_files_are_members(
    parties: Parties, folder: Path, *, attribute: str, value: object, code: str
) -> None:
    def edit(info: tarfile.TarInfo) -> None:
        if info.name == "metadata.json":
            setattr(info, attribute, value)

    forger.seal(parties, folder, forger.tar_of(forger.members(parties, folder), edit))
    assert refusal(parties, folder) == code


def test_a_wrong_tag_under_a_right_hash_is_a_wrong_tag(parties: Parties, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["security"]["encryption"]["auth_tag"] = "A" * 22 + "=="
    forger.sign(parties, folder, manifest)
    assert refusal(parties, folder) == "E_PAYLOAD_TAG"


def test_a_useless_ephemeral_key_is_refused_before_anything_is_decrypted(parties: Parties, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["security"]["encryption"]["ephemeral_public_key"] = "A" * 43 + "="
    forger.sign(parties, folder, manifest)
    assert refusal(parties, folder) == "E_WRAP"


@pytest.mark.parametrize(
    ("member", "value"), [("dialect", "jmix-evil"), ("kdf_info", "JMIX-AES256-GCM"), ("dialect", 1)]
)
def test_another_dialect_than_the_one_that_is_read_is_refused(
    parties: Parties, folder: Path, member: str, value: object
) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["extensions"]["ief"][member] = value
    forger.sign(parties, folder, manifest)
    assert refusal(parties, folder) == "E_PROFILE_VERSION"


def test_an_envelope_that_names_no_dialect_is_read_by_the_text_of_the_format(parties: Parties, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["extensions"]
    forger.sign(parties, folder, manifest)
    assert parties.verify(folder)["dialect"] == "jmix-1.0"
    assert parties.verify(folder, key=None)["dialect"] is None, "nothing was opened, so nothing shows it"


def test_receivers_that_the_seal_does_not_know_are_reported(parties: Parties, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["receiver"].append({"id": "urn:example:third", "name": "Clinic C", "contact": "c@example.invalid"})
    forger.sign(parties, folder, manifest)
    several = "the manifest names 2 receivers, and the payload is sealed to one key"
    another = "the manifest names another receiver than the owner of your key"
    assert several in parties.verify(folder)["warnings"]
    assert another not in parties.verify(folder, receiver="urn:example:third")["warnings"]
    assert another in parties.verify(folder, receiver="urn:example:me")["warnings"]


def test_two_files_of_one_instance_are_refused_unless_they_are_copies(parties: Parties, folder: Path) -> None:
    files = forger.members(parties, folder)
    one = files["dicom/1.2.3.1.0.dcm"]
    forger.seal(parties, folder, forger.tar_of(forger.listed(files | {"dicom/copy.dcm": one})))
    warnings = parties.verify(folder)["warnings"]
    assert "copies of an instance that is there already: 1" in warnings
    assert "instances that are not named by their SOPInstanceUID: 1" in warnings
    other = one[:-1] + bytes([one[-1] ^ 1])
    forger.seal(parties, folder, forger.tar_of(forger.listed(files | {"dicom/copy.dcm": other})))
    assert refusal(parties, folder) == "E_DICOM_IDENTITY"


def test_an_instance_without_a_name_of_its_own_is_refused(parties: Parties, folder: Path, tmp_path: Path) -> None:
    files = forger.members(parties, folder)
    nameless = dcmread(BytesIO(files["dicom/1.2.3.1.0.dcm"]))
    del nameless.SOPInstanceUID
    nameless.save_as(tmp_path / "nameless")
    edited = files | {"dicom/1.2.3.1.0.dcm": (tmp_path / "nameless").read_bytes()}
    forger.seal(parties, folder, forger.tar_of(forger.listed(edited)))
    assert refusal(parties, folder) == "E_DICOM_IDENTITY"
