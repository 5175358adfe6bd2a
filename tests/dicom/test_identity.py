"""The patient's identifiers in a file: each spelling of the IHI, in each encoding (spec/patient-identity 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from tests.dicom.made import IHI, OTHER_IHI, data_set, write

from mdg.sources.headers import read_header

OID = "1.2.36.1.2001.1003.0"
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
GROUPED = "8003 6088 3335 7361"


def universal(value: str, kind: str) -> Dataset:
    return data_set(UniversalEntityID=value, UniversalEntityIDType=kind)


SPELLINGS: dict[str, dict[str, Any]] = {
    "1": {"PatientID": IHI, "IssuerOfPatientIDQualifiersSequence": [universal(OID, "ISO")]},
    "2": {
        "PatientID": GROUPED,
        "IssuerOfPatientIDQualifiersSequence": [universal("http://ns.electronichealth.net.au/id/hi/ihi/1.0", "URI")],
    },
    "3": {"PatientID": GROUPED, "IssuerOfPatientID": "AUSHIC"},
    "4": {"PatientID": "ANY", "IssuerOfPatientIDQualifiersSequence": [universal(f"{OID}.{IHI}", "ISO")]},
    "5": {"PatientID": IHI, "IssuerOfPatientID": "ihi"},
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("form", SPELLINGS)
def test_an_ihi_among_other_ids_is_found_in_each_spelling(tmp_path: Path, form: str, syntax: str) -> None:
    item = data_set(**SPELLINGS[form], TypeOfPatientID="TEXT")
    header = read_header(write(tmp_path / "a.dcm", syntax, OtherPatientIDsSequence=[item]))
    assert header.ihis == [(IHI, form)]
    qualifier = item.get("IssuerOfPatientIDQualifiersSequence")
    issuer = item.get("IssuerOfPatientID") or (qualifier and qualifier[0].UniversalEntityID)
    assert header.other_patient_ids == [(SPELLINGS[form]["PatientID"], issuer, "TEXT")]
    assert (header.PatientID, header.TransferSyntaxUID) == ("17", syntax)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("form", SPELLINGS)
def test_an_ihi_as_patient_id_is_found_in_each_spelling(tmp_path: Path, form: str, syntax: str) -> None:
    header = read_header(write(tmp_path / "a.dcm", syntax, **SPELLINGS[form]))
    assert header.ihis == [(IHI, form)]
    assert header.ihi_candidates == 0


def test_two_different_ihis_are_both_reported(tmp_path: Path) -> None:
    items = [data_set(PatientID=ihi, IssuerOfPatientID="AUSHIC") for ihi in (IHI, OTHER_IHI)]
    header = read_header(write(tmp_path / "a.dcm", OtherPatientIDsSequence=items))
    assert header.ihis == [(IHI, "3"), (OTHER_IHI, "3")]


def test_an_oid_and_an_identifier_that_disagree_are_both_reported(tmp_path: Path) -> None:
    item = data_set(PatientID=IHI, IssuerOfPatientIDQualifiersSequence=[universal(f"{OID}.{OTHER_IHI}", "ISO")])
    header = read_header(write(tmp_path / "a.dcm", OtherPatientIDsSequence=[item]))
    assert {ihi for ihi, _ in header.ihis} == {IHI, OTHER_IHI}


def test_bare_numbers_are_candidates_only(tmp_path: Path) -> None:
    made = write(tmp_path / "a.dcm", PatientID=IHI, OtherPatientIDs=[OTHER_IHI, "17"])
    header = read_header(made)
    assert (header.ihis, header.ihi_candidates) == ([], 2)


def test_a_wrong_check_digit_or_prefix_is_no_ihi(tmp_path: Path) -> None:
    wrong = ("8003608833357362", "8003618833357361", "800360883335736")
    items = [data_set(PatientID=value, IssuerOfPatientID="AUSHIC") for value in wrong]
    header = read_header(write(tmp_path / "a.dcm", OtherPatientIDsSequence=items))
    assert (header.ihis, header.ihi_candidates) == ([], 0)
    assert [value for value, _, _ in header.other_patient_ids] == list(wrong)


def test_names_are_decoded_by_the_character_set_of_their_item(tmp_path: Path) -> None:
    items = [data_set(SpecificCharacterSet="ISO_IR 192", PatientID="Ä1", IssuerOfPatientID="Überall")]
    made = write(
        tmp_path / "a.dcm", SpecificCharacterSet="ISO_IR 144", PatientName="Ћирило", OtherPatientIDsSequence=items
    )
    header = read_header(made)
    assert header.PatientName == "Ћирило"
    assert header.other_patient_ids == [("Ä1", "Überall", None)]
