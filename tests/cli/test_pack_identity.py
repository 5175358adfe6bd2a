"""`mdg pack` judges every file by the rules of the gateway's index (docs/spec/patient-identity.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from tests.cli.conftest import Mdg, Said
from tests.dicom.made import IHI, data_set, write

OTHER = "8003608166690503"


def ihi(*values: str) -> list[object]:
    """OtherPatientIDsSequence with each value as an IHI (form 3)."""
    return [data_set(PatientID=value, IssuerOfPatientID="AUSHIC") for value in values]


def instance(folder: Path, number: int, **attributes: object) -> Path:
    folder.mkdir(exist_ok=True)
    return write(folder / f"{number}.dcm", ExplicitVRLittleEndian, SOPInstanceUID=f"1.2.3.1.{number}", **attributes)


def pack(mdg: Mdg, keys: Path, folder: Path) -> Said:
    parties = ("--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key")
    return mdg("pack", folder, *parties, "-o", folder.parent / "out.zip", "--json")


def identifiers(mdg: Mdg, keys: Path, sealed: Path) -> list[tuple[str, str]]:
    out = sealed.parent / "opened"
    key, trust = keys / "consumer.x25519.key", keys / "provider.card.json"
    assert mdg("open", sealed, "--key", key, "--trust", trust, "-o", out).code == 0
    patient = json.loads((out / "metadata.json").read_text())["patient"]
    return [(one["system"].rpartition("/id/")[2], one["value"]) for one in patient["identifiers"]]


def refused(said: Said, *named: str) -> None:
    assert said.code == 3, said
    assert said.json()["code"] == "E_DICOM_IDENTITY"
    for name in named:
        assert name in said.err
    for secret in (IHI, OTHER, "MRN"):
        assert secret not in said.out + said.err
    assert "try: " in said.err


def test_two_files_with_two_ihis_are_refused_by_their_names(mdg: Mdg, keys: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    instance(study, 0, OtherPatientIDsSequence=ihi(IHI))
    instance(study, 1)
    instance(study, 2, OtherPatientIDsSequence=ihi(OTHER))
    refused(pack(mdg, keys, study), "0.dcm", "2.dcm", "names another IHI than")
    assert not (tmp_path / "out.zip").exists()


def test_one_file_with_two_ihis_is_refused_by_its_name(mdg: Mdg, keys: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    instance(study, 0)
    instance(study, 1, OtherPatientIDsSequence=ihi(IHI, OTHER))
    refused(pack(mdg, keys, study), "1.dcm: names another IHI beside its first one")


def test_an_ihi_that_only_later_files_carry_is_in_the_metadata(mdg: Mdg, keys: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    instance(study, 0)
    instance(study, 1, OtherPatientIDsSequence=ihi(IHI))
    instance(study, 2, OtherPatientIDsSequence=ihi(IHI))
    assert pack(mdg, keys, study).code == 0
    told = identifiers(mdg, keys, tmp_path / "out.zip")
    assert [value for system, value in told if system == "hi/ihi/1.0"] == [IHI]
    assert [value for system, value in told if system.startswith("hpio-scoped/medicalrecord")] == ["17"]


@pytest.mark.parametrize(
    "other", [{"IssuerOfPatientID": "A"}, {"PatientID": "MRN-2"}], ids=lambda other: next(iter(other))
)
def test_files_of_two_local_patients_are_refused(
    mdg: Mdg, keys: Path, tmp_path: Path, other: dict[str, object]
) -> None:
    study = tmp_path / "study"
    instance(study, 0, PatientID="MRN-1")
    instance(study, 1, **{"PatientID": "MRN-1"} | other)
    refused(pack(mdg, keys, study), "0.dcm", "1.dcm")


@pytest.mark.parametrize("without", [{0}, {1}, {0, 1}], ids=str)
def test_a_file_without_patientid_is_refused(mdg: Mdg, keys: Path, tmp_path: Path, without: set[int]) -> None:
    study = tmp_path / "study"
    for number in range(2):
        instance(study, number, PatientID="" if number in without else "MRN-1")
    said = pack(mdg, keys, study)
    assert (said.code, said.json()["code"]) == (3, "E_DICOM_IDENTITY")
    assert f"{min(without)}.dcm: it has no PatientID" in said.err
