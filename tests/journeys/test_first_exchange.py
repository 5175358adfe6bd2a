"""The first exchange as a person sees it: `mdg demo`, its transcript line by line, its refusals, and what `--keep`
leaves.

Three processes each time, real DICOM, real cryptography, real HTTP; nothing here reaches into them.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.conftest import MDG

LIMIT = 120  # seconds; far beyond what a run takes, so that a hanging one ends

TRANSCRIPT = [
    r"provider: 120 instances of 1 study, 63 MB, indexed in place",
    r"identity: patient DEMO-0001 of issuer DEMO -> IHI 800360…7361 \(identity\.csv\)",
    r"consumer -> token authority: ES256 at\+jwt, purpose TREAT, bound to the consumer's key",
    r"consumer -> provider  POST /fhir/ImagingStudy/_search   200  1 study, 1 JMIX endpoint +\d+ ms",
    r"consumer -> provider  POST /api/jmix/requests           201  signed request, fresh X25519 key +\d+ ms",
    r"consumer -> provider  GET  /api/jmix/r/…                200  63,\d{3},\d{3} bytes, length announced exactly "
    r"+[\d,]+ MB/s",
    r"opened: signature by the provider's key from the directory, 120 of 120 SHA-256 equal, stored, "
    r"discoverable at the consumer",
    r"picture: .*/demo/middle-slice\.png",
    r"refused: no token 401; another patient 403; discovery-only token for the payload 403; "
    r"a byte changed on the wire: E_[A-Z_]+",
    r"audit: provider \d+ records, consumer \d+ records, each request accounted for",
    r"demo: ok",
]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MDG, "demo", *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def left_behind(environment: dict[str, str]) -> list[Path]:
    return list(Path(environment["TMPDIR"]).iterdir())


def test_the_demo_prints_its_transcript_and_leaves_nothing_running(environment: dict[str, str]) -> None:
    shown = run(environment)
    lines = shown.stdout.splitlines()
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert len(lines) == len(TRANSCRIPT), shown.stdout
    for pattern, line in zip(TRANSCRIPT, lines, strict=True):
        assert re.fullmatch(pattern, line), line
    assert shown.stderr == ""
    assert left_behind(environment) == []
    picture = Path(environment["XDG_DATA_HOME"]) / "mdg" / "demo" / "middle-slice.png"
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_byte_changed_on_the_wire_fails_the_demo(environment: dict[str, str]) -> None:
    shown = run(environment | {"MDG_DEMO_TAMPER": "1"})
    assert shown.returncode == 1
    assert re.fullmatch(r"demo: failed: .*E_[A-Z_]+", shown.stdout.splitlines()[-1]), shown.stdout
    assert "demo: ok" not in shown.stdout
    assert left_behind(environment) == []


def test_a_folder_without_images_fails_the_demo_and_says_why(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    shown = run(environment, "--data", str(tmp_path / "empty"), "--json")
    report = json.loads(shown.stdout)
    assert shown.returncode == 1
    assert (report["ok"], report["code"]) == (False, "input-output")
    assert "no DICOM study" in report["message"]
    assert report["lines"][-1] == f"demo: failed: {report['message']}"
    assert left_behind(environment) == []


def test_a_folder_that_is_not_there_fails_the_demo_and_says_so(environment: dict[str, str], tmp_path: Path) -> None:
    shown = run(environment, "--data", str(tmp_path / "nowhere"))
    assert shown.returncode == 1
    (line,) = shown.stdout.splitlines()
    assert re.fullmatch(r"demo: failed: .*nowhere: it is not a folder; .*", line)
    assert left_behind(environment) == []


def test_a_folder_of_real_images_is_shown_and_stays_as_it_was(environment: dict[str, str], shared_data: Path) -> None:
    folder = shared_data / "mr-ge-epi-600"
    if not folder.is_dir():
        pytest.skip(f"no study at {folder}")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shown = run(environment, "--data", str(folder))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.splitlines()[0].startswith("data: ")
    assert shown.stdout.splitlines()[-1] == "demo: ok"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.fixture
def kept(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A demo with `--keep`, and what it printed until it was waiting."""
    demo = subprocess.Popen([*MDG, "demo", "--keep"], env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    lines: list[str] = []
    ends = time.monotonic() + LIMIT
    try:
        while not (lines and lines[-1].startswith("stop with")):
            line = demo.stdout.readline()
            assert line, lines
            assert time.monotonic() < ends
            lines.append(line.rstrip("\n"))
        yield demo, lines
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=LIMIT)


def test_the_curl_line_of_a_kept_demo_finds_the_study(
    environment: dict[str, str], kept: tuple[subprocess.Popen[str], list[str]]
) -> None:
    demo, lines = kept
    (command,) = (line.strip() for line in lines if "--curl" in line)
    asked = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    bundle = json.loads(asked.stdout)
    assert (bundle["resourceType"], bundle["total"]) == ("Bundle", 1)
    (study,) = (entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "ImagingStudy")
    assert study["numberOfInstances"] == 120

    consumer = next(line.split()[1] for line in lines if line.startswith("consumer: "))
    ihi = command.split()[1]
    uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
    out = Path(environment["TMPDIR"]) / "fetched"
    for arguments in (
        ["find", "--gateway", consumer, "--ihi", "-"],
        ["fetch", "--gateway", consumer, "--study", uid, "--ihi", "-", "-o", str(out)],
    ):
        told = subprocess.run(
            [*MDG, *arguments, "--json"],
            env=environment,
            input=ihi,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert json.loads(told.stdout)["ok"] is True
    assert len(list((out / "dicom").rglob("*.dcm"))) == 120
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=LIMIT)
    assert demo.returncode == 0
    assert [path.name for path in left_behind(environment)] == ["fetched"]
