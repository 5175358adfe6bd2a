"""What lies beside a study: what `mdg pack` and `mdg index` pass over, refuse and never propose to send."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Mdg, Said
from tests.dicom.made import disk_directory, write


@pytest.fixture
def folder(study: Path, tmp_path: Path) -> Path:
    """A copy of a study of four instances, to be spoilt."""
    return Path(shutil.copytree(study, tmp_path / "study"))


def pack(mdg: Mdg, keys: Path, folder: Path, *more: object) -> Said:
    parties = ("--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key")
    return mdg("pack", folder, *parties, "-o", folder.parent / "out.zip", *more)


def test_what_is_no_part_of_a_study_is_passed_over_by_content_and_named(mdg: Mdg, keys: Path, folder: Path) -> None:
    (folder / "0001.dcm").rename(folder / "DICOMDIR")
    disk_directory(folder / "INDEX")
    (folder / ".DS_Store").write_bytes(b"Bud1")
    said = pack(mdg, keys, folder)
    assert said.code == 0, said
    assert ": 4 instances, " in said.out
    assert "2 files passed over: .DS_Store, INDEX" in said.out


def test_a_copy_of_an_instance_is_sent_once_and_another_content_under_its_uid_is_refused(
    mdg: Mdg, keys: Path, folder: Path
) -> None:
    shutil.copy(folder / "0001.dcm", folder / "copy.dcm")
    said = pack(mdg, keys, folder, "--json")
    assert (said.json()["instances"], said.json()["passed_over"]) == (4, [str(folder / "copy.dcm")])
    (folder.parent / "out.zip").unlink()
    data = bytearray((folder / "copy.dcm").read_bytes())
    data[-1] ^= 1
    (folder / "copy.dcm").write_bytes(data)
    said = pack(mdg, keys, folder, "--json")
    assert (said.code, said.json()["code"]) == (3, "E_DICOM_IDENTITY")
    assert f"copy.dcm: carries the SOPInstanceUID of {folder / '0001.dcm'}" in said.err
    assert "try: find out which of the two files is right" in said.err


def test_a_hidden_instance_is_not_left_out_silently(mdg: Mdg, keys: Path, folder: Path) -> None:
    (folder / "0001.dcm").rename(folder / ".0001.dcm.k3Jd")
    said = pack(mdg, keys, folder, "--json")
    assert (said.code, said.json()["code"]) == (3, "E_HIDDEN")
    assert ".0001.dcm.k3Jd" in said.err


PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"
JWK = json.dumps({"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "d": "d"})


@pytest.mark.parametrize(
    ("name", "content"), [("tls.pem", PEM), ("notes.txt", PEM), ("dpop.jwk", JWK), ("notes.json", JWK), ("me.key", "x")]
)
def test_a_private_key_is_never_proposed_for_sending_and_never_sent(
    mdg: Mdg, keys: Path, folder: Path, name: str, content: str
) -> None:
    (folder / name).write_text(content)
    beside = pack(mdg, keys, folder)
    assert beside.code == 3
    assert name in beside.err
    assert "--file" not in beside.err
    (folder / name).rename(folder.parent / name)
    sent = pack(mdg, keys, folder, "--file", folder.parent / name)
    assert sent.code == 2
    assert "is a private key" in sent.err
    assert not (folder.parent / "out.zip").exists()


def test_a_raw_key_is_not_sent_under_another_name(mdg: Mdg, keys: Path, folder: Path) -> None:
    (keys / "provider.x25519.key").rename(keys / "report")
    assert pack(mdg, keys, folder, "--file", keys / "report").code == 2


def test_a_text_beside_a_study_may_be_sent_along_unless_only_its_owner_may_read_it(
    mdg: Mdg, keys: Path, folder: Path
) -> None:
    notes = folder / "notes.txt"
    notes.write_text("call the ward")
    assert f"or send it along as it is with --file {notes}" in pack(mdg, keys, folder).err
    notes.chmod(0o600)
    assert "--file" not in pack(mdg, keys, folder).err


@pytest.mark.parametrize("below", [".", "data"])
def test_the_data_folder_of_a_gateway_is_recognised(mdg: Mdg, keys: Path, tmp_path: Path, below: str) -> None:
    data = tmp_path / "gateway" / below
    (data / "keys").mkdir(parents=True)
    (data / "keys" / "dpop.jwk").write_text(JWK)
    (data / "mdg.sqlite").write_bytes(b"SQLite format 3\0")
    inside = data / "received" / "1.2.3" / "abc" / "dicom"
    inside.mkdir(parents=True)
    write(inside / "1.dcm")
    said = pack(mdg, keys, tmp_path / "gateway")
    assert said.code == 2
    assert f"{data} is the data folder of a gateway; name one study in it, such as {inside}" in said.err
    assert "--file" not in said.err
    assert pack(mdg, keys, inside).code == 0


def test_what_open_made_is_recognised(mdg: Mdg, keys: Path, sealed: Path, tmp_path: Path) -> None:
    out = tmp_path / "arrived"
    key, trust = keys / "consumer.x25519.key", keys / "provider.card.json"
    assert mdg("open", sealed, "--key", key, "--trust", trust, "-o", out).code == 0
    said = pack(mdg, keys, out)
    assert said.code == 2
    assert f"name its dicom folder: {out / 'dicom'}" in said.err
    assert pack(mdg, keys, out / "dicom").code == 0


EVIL = "a\x1b]0;owned\x07\x1b[31m\nfake: ok"


def test_a_file_name_cannot_drive_the_terminal_or_fake_a_line(mdg: Mdg, keys: Path, folder: Path) -> None:
    (folder / EVIL).write_text("no DICOM")
    written = EVIL.replace("\x1b", "\\u001b").replace("\x07", "\\u0007").replace("\n", "\\u000a")
    said = pack(mdg, keys, folder, "--json")
    assert said.code == 3
    assert written in said.err
    assert EVIL in said.json()["message"]
    assert "\nfake" not in said.out + said.err
    data = ("--data", folder.parent / "data")
    assert mdg("index", folder, *data).code == 0
    said = mdg("index", "--problems", *data)
    assert written in said.out
    assert "\x1b" not in said.out
    (folder / EVIL).rename(folder / ("." + EVIL))
    assert f"1 file passed over: {folder}/.{written}" in mdg("index", folder, *data).out


def test_a_name_that_is_no_text_is_shown(mdg: Mdg, keys: Path, folder: Path) -> None:
    (folder / "a\udcff.txt").write_text("no DICOM")
    said = pack(mdg, keys, folder, "--json")
    assert said.code == 4
    assert "a\\udcff.txt: its name is not UTF-8; rename it" in said.err
    assert "a\udcff.txt" in said.json()["message"]


def test_documents_beside_dicom_share_one_line(mdg: Mdg, folder: Path) -> None:
    for number in range(3):
        (folder / f"README{number}").write_text("text")
    (folder / "papers").mkdir()
    (folder / "papers" / "LICENSE").write_text("text")
    data = ("--data", folder.parent / "data")
    assert mdg("index", folder, *data).code == 0
    said = mdg("index", "--problems", *data)
    assert f"E_NOT_DICOM 4 files are not DICOM, in {folder} (3), {folder / 'papers'} (1); --all lists them" in said.out
    assert "README0" not in said.out
    assert "README0" in mdg("index", "--problems", "--all", *data).out
    assert len(mdg("index", "--problems", "--json", *data).json()["problems"]) == 5
