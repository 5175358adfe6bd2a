"""What holds for every command: help, exit codes, one JSON object, errors with a next step, a quick start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Mdg

from mdg.cli.stage import free_port
from mdg.cli.terminal import command

VERBS = [
    *(
        ["keygen"],
        ["pack"],
        ["inspect"],
        ["verify"],
        ["open"],
        ["index"],
        ["init"],
        ["serve"],
        ["locate"],
        ["find"],
        ["fetch"],
        ["demo"],
    ),
    *(["sandbox", "serve"], ["sandbox", "study"], ["sandbox", "token"], ["sandbox", "curl"], ["sandbox", "listen"]),
    ["retrieve"],
    ["revoke"],
    *(["jobs", "list"], ["jobs", "show"], ["jobs", "retry"], ["jobs", "cancel"]),
    *(["consent", "record"], ["consent", "list"], ["consent", "end"]),
    *(["audit", "show"], ["config", "show"], ["config", "check"], ["config", "card"]),
]
HEAVY = (
    "pydicom",
    "sqlalchemy",
    "starlette",
    "hypercorn",
    "joserfc",
    "httpx2",
    "PIL",
    "pydantic",
    "mdg._core",
)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_command_has_help_and_json(mdg: Mdg, verb: list[str]) -> None:
    said = mdg(*verb, "--help")
    assert said.code == 0
    assert "--json" in said.out


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_an_unknown_option_is_usage_and_names_the_help(mdg: Mdg, verb: list[str]) -> None:
    said = mdg(*verb, "--no-such-option", "--json")
    assert said.code == 2
    assert (said.json()["ok"], said.json()["code"]) == (False, "usage")
    assert f"try: mdg {' '.join(verb)} --help" in said.err


def test_help_imports_nothing_heavy() -> None:
    heavy = f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    code = f"import sys, mdg.cli; mdg.cli.run(['--help']); {heavy}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands:" in shown.stdout
    assert shown.stderr.strip() == "[]"


def test_a_fault_of_ours_shows_no_trace_and_no_value(mdg: Mdg, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object = None) -> None:
        raise ValueError("8003608833357361")

    monkeypatch.setattr("mdg.cli.command_line", fail)
    said = mdg("pack", "--json")
    assert said.code == 1
    assert json.loads(said.out) == {"ok": False, "code": "internal", "message": "internal fault (ValueError)"}
    assert "-X dev -m mdg.cli pack" in said.err
    assert "8003" not in said.out + said.err
    assert "Traceback" not in said.err


def test_without_a_command_it_shows_help_and_says_usage(mdg: Mdg) -> None:
    said = mdg()
    assert said.code == 2
    assert "Commands:" in said.out
    assert "  mdg serve --folder DIR --sandbox  " in said.out, "the first page shows what to type"


def test_a_missing_file_is_input_output(mdg: Mdg, keys: Path, tmp_path: Path) -> None:
    said = mdg("verify", tmp_path / "absent.zip", "--trust", keys / "provider.card.json", "--json")
    assert said.code == 4
    assert said.json()["code"] == "input-output"
    assert "absent.zip" in said.err


def test_a_wrong_ihi_is_usage_and_is_not_repeated(mdg: Mdg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("8003608833357362\n"))
    said = mdg("find", "--gateway", "http://127.0.0.1:9", "--ihi", "-", "--json")
    assert said.code == 2
    assert "check digit" in said.err
    assert "8003608833357362" not in said.out + said.err


def test_a_gateway_that_does_not_answer_is_input_output(
    mdg: Mdg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("8003608833357361\n"))
    said = mdg("find", "--gateway", f"http://127.0.0.1:{free_port()}", "--data", tmp_path / "keys", "--json")
    assert said.code == 4
    assert said.json()["ok"] is False


def test_a_gateway_elsewhere_is_not_asked_from_the_command_line(mdg: Mdg, tmp_path: Path) -> None:
    said = mdg(
        "find", "--gateway", "https://mdg.example.org", "--ihi", "8003608833357361", "--data", tmp_path / "k", "--json"
    )
    assert said.code == 3
    assert said.json()["code"] == "unsupported"
    assert "`mdg retrieve --gateway URL` has your own gateway fetch from another one" in said.err
    assert not (tmp_path / "k").exists()


def test_a_reader_that_goes_away_is_no_fault() -> None:
    shown = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m mdg.cli --help | head -1"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert "Traceback" not in shown.stderr


def test_the_record_of_an_unknown_request_is_empty_and_says_no(mdg: Mdg, tmp_path: Path) -> None:
    said = mdg("audit", "show", "5f0c1f9e-0000-4000-8000-000000000000", "--data", tmp_path, "--json")
    assert said.code == 4
    assert json.loads(said.out)["ok"] is False
    assert "--data" in said.err


def test_a_line_to_copy_names_the_command_as_it_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`make` runs `.venv/bin/mdg`, which is on no path of the shell that the line is pasted into."""
    installed = tmp_path / "mdg"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for called, named in ((".venv/bin/mdg", ".venv/bin/mdg"), (str(installed), "mdg"), ("mdg/cli/__main__.py", "mdg")):
        monkeypatch.setattr(sys, "argv", [called])
        assert command() == named
