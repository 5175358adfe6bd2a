"""`keygen`, `pack`, `inspect`, `verify`, `open`: three commands and no server; what they refuse, they refuse whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import CONSUMER, PROVIDER, Mdg, Said

from mdg.keys import Card
from mdg.sandbox.phantom import write_phantom


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*.dcm")}


def test_keygen_writes_raw_private_keys_and_a_card_that_holds(keys: Path) -> None:
    for name in ("provider.x25519.key", "provider.ed25519.key"):
        assert (keys / name).stat().st_size == 32
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
    card = Card.parse((keys / "provider.card.json").read_bytes())
    assert (card.id, card.name) == (PROVIDER, "provider")
    assert (keys / "provider.x25519.pub").read_bytes() == card.x25519
    assert (keys / "provider.ed25519.pub").read_bytes() == card.ed25519


def test_keygen_never_overwrites(mdg: Mdg, keys: Path) -> None:
    before = {path: path.read_bytes() for path in keys.iterdir()}
    said = mdg("keygen", "--out", keys, "--name", "provider", "--id", PROVIDER)
    assert said.code == 4
    assert "never overwritten" in said.err
    assert {path: path.read_bytes() for path in keys.iterdir()} == before


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up"])
def test_keygen_takes_only_a_name_that_can_name_files(mdg: Mdg, tmp_path: Path, name: str) -> None:
    said = mdg("keygen", "--out", tmp_path / "new", "--name", name, "--id", PROVIDER)
    assert said.code == 2
    assert not (tmp_path / "new").exists()


def test_what_was_packed_opens_to_the_same_files(
    mdg: Mdg, keys: Path, study: Path, sealed: Path, tmp_path: Path
) -> None:
    said = mdg(
        "open",
        sealed,
        "--key",
        keys / "consumer.x25519.key",
        "--trust",
        keys / "provider.card.json",
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert said.code == 0, said
    report = said.json()
    assert report["ok"] is True
    assert report["code"] is None
    assert (report["instances"], report["signature"], report["profile"]) == (4, "full", "jmix-1.0")
    assert contents(tmp_path / "out" / "dicom") == contents(study)
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    scoped = [(one["system"], one["value"]) for one in metadata["patient"]["identifiers"]]
    assert scoped == [
        ("http://ns.electronichealth.net.au/id/hpio-scoped/medicalrecord/1.0/8003621566684455/DEMO", "DEMO-0001")
    ]


def test_an_attached_file_and_the_folder_form_travel_too(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("no finding")
    box = tmp_path / "box"
    said = mdg(
        *("pack", study, "--to", keys / "consumer.x25519.pub", "--sign", keys / "provider.ed25519.key"),
        *("-o", box, "--as-directory", "--file", report),
    )
    assert said.code == 0, said
    assert (box / "manifest.json").is_file()
    opened = mdg(
        *("open", box, "--key", keys / "consumer.x25519.key", "--trust", keys / "provider.ed25519.pub"),
        *("-o", tmp_path / "out"),
    )
    assert opened.code == 0, opened
    assert (tmp_path / "out" / "files" / "report.txt").read_text() == "no finding"


def test_verify_without_a_key_says_what_it_did_not_look_at(mdg: Mdg, keys: Path, sealed: Path) -> None:
    said = mdg("verify", sealed, "--trust", keys / "provider.card.json")
    assert said.code == 0, said
    assert "content: not opened" in said.out
    with_key = mdg(
        "verify", sealed, "--trust", keys / "provider.card.json", "--key", keys / "consumer.x25519.key", "--json"
    )
    assert with_key.json()["instances"] == 4


def test_inspect_names_the_parties_and_claims_nothing(mdg: Mdg, sealed: Path) -> None:
    said = mdg("inspect", sealed)
    assert said.code == 0, said
    assert PROVIDER in said.out
    assert CONSUMER in said.out
    assert "not proved" in said.out
    assert "DEMO-0001" not in said.out
    told = mdg("inspect", sealed, "--json").json()
    assert (told["ok"], told["verified"], told["opened"]) == (True, False, False)


def test_a_signature_by_a_stranger_is_refused_with_3(mdg: Mdg, keys: Path, sealed: Path) -> None:
    said = mdg("verify", sealed, "--trust", keys / "consumer.card.json", "--json")
    assert said.code == 3
    assert said.json()["ok"] is False
    assert said.json()["code"] == "E_SIG_KEY"
    assert "try: mdg inspect" in said.err


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_changed_byte_is_refused_and_nothing_is_left(
    mdg: Mdg, keys: Path, sealed: Path, tmp_path: Path, part: float
) -> None:
    data = bytearray(sealed.read_bytes())
    data[int(len(data) * part)] ^= 1
    sealed.write_bytes(data)
    before = set(tmp_path.iterdir())
    said = mdg(
        *("open", sealed, "--key", keys / "consumer.x25519.key", "--trust", keys / "provider.card.json"),
        *("-o", tmp_path / "out", "--json"),
    )
    assert said.code == 3
    assert said.json()["code"].startswith("E_")
    assert set(tmp_path.iterdir()) == before


def _two_studies(folder: Path) -> str:
    write_phantom(folder / "b", seed=2, slices=1)
    return "E_DICOM_IDENTITY"


def _two_patients(folder: Path) -> str:
    from pydicom import dcmread
    from pydicom.uid import UID

    image = dcmread(folder / "0001.dcm")
    image.PatientID = "SOMEBODY-ELSE"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    image.save_as(folder / "zz-other.dcm")
    return "E_DICOM_IDENTITY"


def _no_image(folder: Path) -> str:
    (folder / "zz-notes.txt").write_text("call the ward")
    return "E_NOT_DICOM"


def _broken(folder: Path) -> str:
    whole = (folder / "0001.dcm").read_bytes()
    (folder / "zz-broken.dcm").write_bytes(whole[:400])
    return "E_DICOM"


@pytest.mark.parametrize("spoil", [_two_studies, _two_patients, _no_image, _broken], ids=lambda spoil: spoil.__name__)
def test_pack_refuses_a_folder_that_is_not_one_study_and_names_the_file(
    mdg: Mdg, keys: Path, study: Path, tmp_path: Path, spoil: object
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(study, folder)
    code = spoil(folder)  # type: ignore[operator]
    before = set(tmp_path.rglob("*"))
    said = mdg(
        *("pack", folder, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key"),
        *("-o", tmp_path / "out.zip", "--json"),
    )
    assert said.code == 3, said
    assert said.json()["code"] == code
    assert str(folder) in said.err
    assert "try: " in said.err
    assert "SOMEBODY" not in said.err
    assert set(tmp_path.rglob("*")) == before


def test_pack_does_not_replace_what_is_there(mdg: Mdg, keys: Path, study: Path, sealed: Path) -> None:
    before = sealed.read_bytes()
    said = mdg(
        "pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key", "-o", sealed
    )
    assert said.code == 4
    assert sealed.read_bytes() == before


def test_a_card_of_another_key_beside_the_signing_key_is_a_mistake(mdg: Mdg, keys: Path, study: Path) -> None:
    shutil.copy(keys / "consumer.card.json", keys / "provider.card.json")
    said = mdg(
        "pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key", "-o", keys / "x"
    )
    assert said.code == 2
    assert "another key" in said.err


@pytest.mark.parametrize("kind", ["dangling link", "link to a folder", "link to a file of the study", "pipe"])
def test_pack_leaves_nothing_out_silently_and_follows_no_link(
    mdg: Mdg, keys: Path, study: Path, tmp_path: Path, kind: str
) -> None:
    study = shutil.copytree(study, tmp_path / "study")
    odd = study / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        (tmp_path / "elsewhere").mkdir()
        image = min(study.rglob("*.dcm"))
        image.rename(tmp_path / "image")
        odd.symlink_to(tmp_path / {"link to a folder": "elsewhere", "dangling link": "nowhere"}.get(kind, "image"))
    said = mdg(
        *("pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key"),
        *("-o", tmp_path / "out.zip"),
    )
    assert said.code == 4
    assert str(odd) in said.err
    assert ("is a link" in said.err) == ("link" in kind)
    assert not (tmp_path / "out.zip").exists()


def test_a_folder_that_cannot_be_listed_is_named(
    mdg: Mdg, keys: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `root`, who runs these tests in a container, may list everything, the system's answer is played."""
    study = shutil.copytree(study, tmp_path / "study")
    (study / "closed").mkdir()
    listing = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = mdg(
        *("pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key"),
        *("-o", tmp_path / "out.zip"),
    )
    assert said.code == 4
    assert "closed" in said.err


Good = dict[str, tuple[Path, dict[str, Path]]]


@pytest.fixture
def good(keys: Path, study: Path, sealed: Path, tmp_path: Path) -> Good:
    """A command line of each verb that works: what it is about, and its options."""
    trust, out = {"--trust": keys / "provider.card.json"}, {"-o": tmp_path / "new"}
    parties = {"--to": keys / "consumer.card.json", "--sign": keys / "provider.ed25519.key"}
    return {
        "pack": (study, parties | out),
        "verify": (sealed, trust),
        "open": (sealed, trust | {"--key": keys / "consumer.x25519.key"} | out),
    }


def run_good(mdg: Mdg, good: Good, verb: str, **changed: Path) -> Said:
    about, options = good[verb]
    options = options | {name if name == "-o" else f"--{name}": path for name, path in changed.items()}
    return mdg(verb, about, *(part for pair in options.items() for part in pair), "--json")


@pytest.mark.parametrize(
    "wrong",
    [
        "pack to consumer.x25519.key",
        "pack to consumer.ed25519.pub",
        "pack to consumer.ed25519.key",
        "pack sign provider.x25519.key",
        "pack sign provider.ed25519.pub",
        "verify trust provider.x25519.pub",
        "verify trust provider.ed25519.key",
        "verify key consumer.ed25519.key",
        "open key consumer.x25519.pub",
    ],
)
def test_a_key_of_the_wrong_kind_is_a_mistake(mdg: Mdg, good: Good, keys: Path, tmp_path: Path, wrong: str) -> None:
    """Raw keys look alike: sealed to a private key, or to one that signs, a study could never be opened."""
    verb, option, file = wrong.split()
    said = run_good(mdg, good, verb, **{option: keys / file})
    assert (said.code, said.json()["code"]) == (2, "usage"), said
    assert file in said.err
    assert not (tmp_path / "new").exists()
    assert run_good(mdg, good, verb).code == 0


@pytest.mark.parametrize("verb", ["pack", "open"])
def test_a_folder_that_is_missing_is_named_before_any_work(mdg: Mdg, good: Good, tmp_path: Path, verb: str) -> None:
    said = run_good(mdg, good, verb, **{"-o": tmp_path / "nowhere" / "out"})
    assert said.code == 4
    assert said.err.startswith(f"mdg: {tmp_path / 'nowhere'}: is not a folder")


def test_verifying_needs_no_event_loop(keys: Path, sealed: Path) -> None:
    """It is a fifth of the start of a command that hashes 400 MB in a quarter of a second."""
    arguments = ["verify", sealed, "--trust", keys / "provider.card.json", "--key", keys / "consumer.x25519.key"]
    loaded = "print([name for name in ('anyio', 'asyncio') if name in sys.modules], file=sys.stderr)"
    code = f"import sys, mdg.cli; code = mdg.cli.run(sys.argv[1:]); {loaded}; sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_ctrl_c_ends_packing_and_nothing_of_it_stays(keys: Path, study: Path, tmp_path: Path) -> None:
    large, out = tmp_path / "large", tmp_path / "out"
    out.mkdir()
    with large.open("wb") as file:
        file.truncate(7 << 30)  # sparse; nobody packs it to its end
    arguments = ["pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key"]
    command = [sys.executable, "-m", "mdg.cli", *map(str, arguments), "--file", str(large), "-o", str(out / "e.zip")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as packing:
        while packing.poll() is None and not list(out.iterdir()):
            time.sleep(0.01)  # until the other process has begun to write
        packing.send_signal(signal.SIGINT)
        assert packing.wait(60) == 130
    assert not list(out.iterdir())
