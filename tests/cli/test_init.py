"""`mdg init` writes a file that is true of the program and lacks only what an operator alone knows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Mdg

from mdg.config import Settings

ANSWERS = {
    "custodian": '"8003621566684455"',
    "public_url": '"https://mdg.example.org"',
    "default_issuer": '"EXAMPLE"',
    "time_zone": '"Australia/Brisbane"',
    "directory_url": '"https://directory.example.invalid"',
}


SOURCES = '[{{ kind = "folder", name = "dicom", path = "{}" }}]'


def filled(file: Path, folder: Path) -> str:
    """The file as an operator leaves it."""
    text = file.read_text()
    for name, value in {**ANSWERS, "data": f'"{folder / "data"}"', "sources": SOURCES.format(folder)}.items():
        text, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1, name
    return text


def test_what_it_wrote_passes_the_check_when_it_is_filled_in(mdg: Mdg, tmp_path: Path) -> None:
    file = tmp_path / "mdg.toml"
    assert mdg("init", file).code == 0
    empty = mdg("config", "check", "--config", file)
    assert empty.code == 2
    for name in ("custodian", "public_url", "default_issuer", "time_zone", "directory_url"):
        assert f"{name}: " in empty.err, name
    file.write_text(filled(file, tmp_path))
    checked = mdg("config", "check", "--config", file, "--json")
    assert checked.code == 0, checked
    assert any(warning.startswith("issuers: there are none") for warning in checked.json()["warnings"])
    assert not (tmp_path / "data").exists(), "a check makes nothing"


def test_it_names_every_setting_with_its_true_default(mdg: Mdg, tmp_path: Path) -> None:
    file = tmp_path / "mdg.toml"
    mdg("init", file)
    text = filled(file, tmp_path)
    assert [name for name in Settings.model_fields if not re.search(rf"^(# )?\[*{name}\b", text, re.MULTILINE)] == [
        "sandbox"
    ]
    file.write_text(text)
    before = Settings.load(file)
    said = r'^# (\w+ = (?!"(?:https://)?"$).+|\[(?:capabilities|roadmap)\])$'
    spoken = re.sub(said, r"\1", text, flags=re.MULTILINE)
    assert spoken.count("\n#") < text.count("\n#") - 10
    file.write_text(spoken.replace('"8003626566707032" =', '# "8003626566707032" ='))
    assert Settings.load(file).model_dump() == before.model_dump()


def test_a_file_that_is_there_is_kept(mdg: Mdg, tmp_path: Path) -> None:
    file = tmp_path / "mdg.toml"
    file.write_text("mine")
    assert mdg("init", file).code == 4
    assert file.read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(mdg: Mdg, tmp_path: Path) -> None:
    said = mdg("init", tmp_path / "etc" / "mdg.toml")
    assert (said.code, said.err) == (4, f"mdg: {tmp_path / 'etc'}: is not a folder; make it, or name another file\n")
