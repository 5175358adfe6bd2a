"""`mdg serve` and `mdg config` as processes: what they print, how they end, and what they refuse to start with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.docs.sessions import Terminal
from tests.identities import write_identity_csv

from mdg.cli.stage import free_port
from mdg.sandbox.identifiers import EXAMPLE_IHI

MDG = [sys.executable, "-m", "mdg.cli"]
SETTINGS = """
custodian = "8003621566684455"
public_url = "https://mdg.example.org"
data = "DATA"
default_issuer = "DEMO"
time_zone = "Australia/Brisbane"
directory_url = "https://directory.example.org"
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MDG_")}
    return subprocess.run(
        [*MDG, *arguments], check=False, capture_output=True, text=True, timeout=60, env=inherited | environment
    )


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """A gateway that has said it is ready, and what it said."""
    process = subprocess.Popen(
        [*MDG, "serve", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_folder_and_the_sandbox_are_enough(phantom: Path, tmp_path: Path) -> None:
    arguments = ("--folder", str(phantom), "--sandbox", "--data", str(tmp_path / "data"), "--port", "0")
    with serving(*arguments) as (process, ready):
        assert ready["public"] == f"http://{ready['listening']}"
        assert ready | {"public": 0, "listening": 0, "admin": 0} == {
            "ok": True, "public": 0, "listening": 0, "admin": 0, "studies": 1, "instances": 3, "problems": 0,
            "not_findable": 0, "warnings": [],
        }  # fmt: skip
        with urllib.request.urlopen(f"{ready['public']}/readyz") as answer:  # noqa: S310 -- our own loopback address
            assert answer.read() == b"ok"
        with urllib.request.urlopen(f"{ready['admin']}/health") as answer:  # noqa: S310 -- our own loopback address
            assert json.load(answer)["sandbox"] is True
        with urllib.request.urlopen(f"{ready['public']}/fhir/metadata") as answer:  # noqa: S310 -- the same
            assert b'"Subscription"' in answer.read(), "a first try may try everything"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert oct((tmp_path / "data" / "keys").stat().st_mode & 0o077) == "0o0"
    with serving(*arguments) as (_, ready):
        assert ready["studies"] == 1, "the same data folder serves again"


def test_a_gateway_listens_while_it_reads_a_new_table_and_is_ready_when_it_is_in_force(tmp_path: Path) -> None:
    table = tmp_path / "identity.csv"
    write_identity_csv(table, {f"P{number}": EXAMPLE_IHI for number in range(300_000)})
    port, images = free_port(), tmp_path / "images"
    images.mkdir()
    arguments = ("--folder", str(images), "--sandbox", "--data", str(tmp_path / "data"), "--identity", str(table))
    said: list[str] = []
    with subprocess.Popen(
        [*MDG, "serve", *arguments, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while "ok" not in said and process.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
                    probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    said.append(probe.makefile("rb").read().rpartition(b"\r\n")[2].decode())
        finally:
            process.kill()
    assert list(dict.fromkeys(said)) == ["not ready", "ok"]


def test_the_printed_command_finds_the_study(phantom: Path, tmp_path: Path) -> None:
    """The line that `mdg serve` prints is run as it stands, with `mdg` being this one."""
    (tmp_path / "bin").mkdir()
    mdg = tmp_path / "bin" / "mdg"
    mdg.write_text(f'#!/bin/sh\nexec {sys.executable} -m mdg.cli "$@" --data {tmp_path / "consumer"}\n')
    mdg.chmod(0o755)
    process = subprocess.Popen(
        [*MDG, "serve", "--folder", str(phantom), "--sandbox", "--data", str(tmp_path / "data"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        command = next(line.strip() for line in process.stdout if line.strip().startswith("echo "))
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        found = subprocess.run(
            ["sh", "-c", command],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"PATH": path},
        )
        assert json.loads(found.stdout)["total"] == 1, found.stderr
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def printed(*arguments: str) -> list[str]:
    """What `mdg serve` prints until it is ready."""
    process = subprocess.Popen(
        [*MDG, "serve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "--curl" in line:
                break
        return lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("source", ["card", "sandbox"])
def test_the_ihi_of_a_person_is_never_printed(phantom: Path, tmp_path: Path, source: str) -> None:
    table = tmp_path / "identity.csv"
    table.write_text(f"PatientID,issuer,IHI,source,date\nDEMO-0001,DEMO,8003608166690503,{source},2026-01-31\n")
    arguments = ("--folder", str(phantom), "--sandbox", "--data", str(tmp_path / "data"), "--port", "0")
    lines = printed(*arguments, "--identity", str(table))
    assert "8003608166690503" not in "".join(lines)
    assert "type the IHI of one of your patients" in lines[-2]
    assert lines[-1].startswith("  mdg sandbox token --gateway http://127.0.0.1:")


def test_an_address_without_a_host_is_refused_before_anything_listens(tmp_path: Path) -> None:
    path = tmp_path / "mdg.toml"
    for setting, value, every in (
        ("bind", "8095", "0.0.0.0:8095"),
        ("bind", ":8095", "0.0.0.0:8095"),
        ("admin_bind", "8096", "0.0.0.0:8096"),
        ("bind", "127.0.0.1:99999", "0.0.0.0:8080"),
        ("bind", "127.0.0.1", "0.0.0.0:8080"),
        ("bind", "::1:8080", "0.0.0.0:8080"),
    ):
        path.write_text(f'{SETTINGS.replace("DATA", str(tmp_path / "data"))}\n{setting} = "{value}"\n')
        for command in (("config", "check"), ("serve",)):
            answer = run(*command, "--config", str(path))
            assert answer.returncode == 2, answer.stdout
            assert f"{setting}: an address and a port, as in 127.0.0.1:8080" in answer.stderr
            assert f"{every} means every network" in answer.stderr


def test_a_port_in_use_a_missing_folder_and_a_bad_identity_file_are_said(phantom: Path, tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = run("serve", "--folder", str(phantom), "--sandbox", "--port", port, *data)
    assert (answer.returncode, port in answer.stderr) == (4, True)
    answer = run("serve", "--folder", str(tmp_path / "none"), "--sandbox", "--port", "0", *data)
    assert (answer.returncode, "none" in answer.stderr) == (4, True)
    csv = tmp_path / "identity.csv"
    csv.write_text("PatientID,issuer,IHI,source,date\nX,DEMO,8003608833357362,me,2026-01-01\n")
    answer = run("serve", "--folder", str(phantom), "--sandbox", "--identity", str(csv), "--port", "0", *data)
    assert answer.returncode == 3, answer.stderr
    assert "8003608833357362" not in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("surprise = 1", "surprise: no such setting"),
        ('public_url = "http://mdg.example.org"', "public_url begins with https://"),
        ('public_url = "https://u@mdg.example.org"', "public_url"),
        ("sandbox = true", "a sandbox is for this machine only"),
        ('admin_bind = "0.0.0.0:9000"', "admin_bind is reachable from outside"),
        ('custodian = "8003621566684456"', "custodian"),
        ('time_zone = "Mars/Olympus"', "time zone"),
        ("envelope_hours = 100", "envelope_hours"),
        ("[capabilities]\nregistration = true", "registration needs registry_url"),
        ("[capabilities]\nregistration = true\ndiscovery = false", "switch both on, or both off"),
        ('service_id = "gateway-1"', "service_id"),
        ("[capabilities]\nsubscription = true\ndiscovery = false", "switch both on, or both off"),
        ("[subscribers]\n8003621566684456 = ['https://ris.example.org']", "subscribers"),
        ("[subscribers]\n8003626566707032 = ['https://10.0.0.1']", "subscribers: the URL names its host by a DNS name"),
        ("[subscribers]\n8003626566707032 = ['https://ris.example.org/told']", "subscribers: an origin ends with"),
        ("[[issuers]]\niss = 'x'", "issuers.0.jwks_url is required"),
    ],
)
def test_settings_that_do_not_hold_are_named_and_nothing_starts(tmp_path: Path, line: str, said: str) -> None:
    name = line.partition(" = ")[0]
    kept = "\n".join(one for one in SETTINGS.splitlines() if not one.startswith(f"{name} ="))
    path = tmp_path / "mdg.toml"
    path.write_text(f"{kept.replace('DATA', str(tmp_path / 'data'))}\n{line}\n")
    for command in (("config", "check"), ("serve",)):
        answer = run(*command, "--config", str(path))
        assert answer.returncode == 2, answer.stdout
        assert said in answer.stderr
        assert "Value error" not in answer.stderr
    assert not (tmp_path / "data").exists()


def test_required_settings_are_required(tmp_path: Path) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text("")
    answer = run("config", "check", "--config", str(path))
    assert answer.returncode == 2
    for name in ("custodian", "public_url", "data", "default_issuer", "time_zone"):
        assert f"{name} is required" in answer.stderr


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    path, secret = tmp_path / "mdg.toml", tmp_path / "token"
    path.write_text(SETTINGS.replace("DATA", str(tmp_path)))
    secret.write_text("s" * 40)
    secret.chmod(0o600)
    arguments = ("config", "show", "--origin", "--json", "--config", str(path))
    answer = run(*arguments, MDG_NAME="Elsewhere", MDG_ADMIN_TOKEN_FILE=str(secret))
    settings = json.loads(answer.stdout)["settings"]
    assert settings["name"] == {"value": "Elsewhere", "origin": "MDG_NAME"}
    assert settings["admin_token"]["origin"] == "MDG_ADMIN_TOKEN_FILE"
    assert settings["custodian"] == {"value": "8003621566684455", "origin": str(path)}
    assert settings["envelope_hours"] == {"value": 24, "origin": "default"}
    assert "sssss" not in answer.stdout
    secret.chmod(0o644)
    refused = run(*arguments, MDG_ADMIN_TOKEN_FILE=str(secret))
    assert (refused.returncode, "chmod 600" in refused.stderr) == (2, True)
    stray = run(*arguments, MDG_NMAE="x")
    assert (stray.returncode, "MDG_NMAE" in stray.stderr) == (2, True)


def test_a_settings_file_that_anybody_may_change_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(SETTINGS.replace("DATA", str(tmp_path)))
    path.chmod(0o666)
    answer = run("config", "check", "--config", str(path))
    assert answer.returncode == 2
    assert "chmod go-w" in answer.stderr.replace("\n", " ")


def test_a_folder_without_settings_is_told_of_the_sandbox_first(phantom: Path) -> None:
    answer = run("serve", "--folder", str(phantom))
    assert answer.returncode == 2
    assert answer.stderr.startswith("mdg: for a first try add --sandbox; for good, `mdg init` writes")
    assert "custodian is required" in answer.stderr
    assert "try: mdg serve --folder DIR --sandbox" in answer.stderr


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Settings with which a gateway would start, on free ports."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "mdg.toml"
    path.write_text(
        SETTINGS.replace("DATA", str(tmp_path / "data"))
        + f'sources = [{{ kind = "folder", name = "dicom", path = "{tmp_path / "images"}" }}]\n'
        + f'bind = "127.0.0.1:{free_port()}"\nadmin_bind = "127.0.0.1:0"\n'
    )
    return path


def test_a_gateway_that_starts_says_who_cannot_use_it_and_where_it_listens(whole: Path, tmp_path: Path) -> None:
    with serving("--config", str(whole)) as (_, ready):
        bind = whole.read_text().partition('bind = "')[2].partition('"')[0]
        assert (ready["public"], ready["listening"]) == ("https://mdg.example.org", bind)
        warnings = ready["warnings"]
        assert isinstance(warnings, list)
        assert warnings[0].startswith("issuers: there are none, so nobody gets in")
        assert any("https://directory.example.org" in warning for warning in warnings)
        checked = run("config", "check", "--config", str(whole), "--json")
        assert checked.returncode == 0, "a gateway that runs already does not make its settings wrong"
        told = json.loads(checked.stdout)["warnings"]
        assert told[:-1] == warnings
        assert f"a gateway uses {tmp_path / 'data'} now" in told[-1]


def test_a_study_that_cannot_be_found_is_said_at_the_end(phantom: Path, tmp_path: Path) -> None:
    csv = tmp_path / "identity.csv"
    csv.write_text("PatientID,issuer,IHI,source,date\nNobody,DEMO,8003608833357361,me,2026-01-01\n")
    arguments = ["--folder", str(phantom), "--sandbox", "--port", "0", "--data", str(tmp_path / "data")]
    shown = Terminal(tmp_path, {**os.environ, "PATH": os.environ["PATH"]})
    try:
        shown.type(f"{' '.join(MDG)} serve {' '.join(arguments)} --identity {csv}")
        lines = shown.wait_for_lines(5).splitlines()
    finally:
        shown.close()
    assert "3 instances of 1 study" in lines[0]
    assert f"1 study cannot be found yet (no IHI): mdg index --problems --data {tmp_path / 'data'}" in lines
    assert "1 line of identity.csv matches no file: compare PatientID and issuer with the files" in lines
