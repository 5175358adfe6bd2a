"""`mdg index`: folders in, counts and complaints out, with the exit codes of every command."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Mdg

from mdg.cli import run


@pytest.fixture
def images(tmp_path: Path, shared_data: Path) -> Path:
    folder = tmp_path / "images"
    shutil.copytree(shared_data / "petct-sarcoma-sts001" / "PET_whole_body", folder)
    (folder / "notes.txt").write_text("not DICOM")
    return folder


def test_a_folder_is_indexed_and_its_problems_are_listed(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tmp_path / "data"), "--json"]
    count = len(list(images.iterdir())) - 1
    assert run(["index", str(images), *data]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert (said["index"]["instances"], said["index"]["studies"], said["problem_count"]) == (count, 1, 2)
    assert run(["index", "--problems", *data]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["index"] is None
    assert Path(said["problems"][0]["where"]).name == "notes.txt"
    assert [one["code"] for one in said["problems"]] == ["E_NOT_DICOM", "no-ihi"]
    assert run(["index", str(images), "--rebuild", *data]) == 0
    assert json.loads(capsys.readouterr().out)["index"]["read"] == count + 1


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 2), (["/nowhere"], 4), (["--problems"], 4), (["--config", "/nowhere.toml"], 4)]
)
def test_what_cannot_be_indexed_has_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["index", *arguments, "--data", str(tmp_path / "data")]) == code
    assert capsys.readouterr().err.startswith("mdg: ")


def test_lines_of_identity_csv_that_match_no_file_are_said(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "identity.csv"
    table.write_text("PatientID,issuer,IHI,source,date\nWRONG,DEMO,8003608833357361,test,2026-01-01\n")
    assert run(["index", str(images), "--identity", str(table), "--data", str(tmp_path / "data")]) == 0
    assert "1 line of identity.csv matches no file: compare PatientID and issuer" in capsys.readouterr().out


def test_the_command_that_lists_the_problems_is_one_that_can_be_typed(mdg: Mdg, tmp_path: Path) -> None:
    """With the data folder that was named, and with quotes where a shell needs them."""
    folder, data = tmp_path / "my images", tmp_path / "my data"
    folder.mkdir()
    for name in ("notes.txt", "more.txt"):
        (folder / name).write_text("x")
    told = mdg("index", folder, "--data", data).out.splitlines()[-1]
    number, _, typed = told.partition(" problems; what to do: ")
    program, *arguments = shlex.split(typed)
    assert (number, Path(program).name) == ("2", "mdg")
    assert "E_NOT_DICOM 2 files are not DICOM" in mdg(*arguments).out
