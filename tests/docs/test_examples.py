"""The example files that pages offer: each can be parsed, and the commands in it exist."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from tests.docs.sessions import REPOSITORY
from tests.docs.test_reference import commands

from mdg.cli import command_line

HOW_TO = REPOSITORY / "docs" / "how-to"
UNIT = HOW_TO / "examples" / "mdg.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names are case-sensitive
    parser.read(UNIT)
    return parser


def test_the_commands_of_the_unit_are_commands_of_mdg_with_options_that_they_have() -> None:
    known = commands(typer.main.get_command(command_line()))
    for name in ("ExecStartPre", "ExecStart"):
        program, *words = shlex.split(unit()["Service"][name])
        verb = " ".join(words[: words.index("--config")])
        assert Path(program).name == "mdg"
        assert {word for word in words if word.startswith("--")} <= set(known[verb]), name


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    program = shutil.which("true")
    assert program is not None
    there = tmp_path / "mdg.service"  # a unit names programs of the machine that it is for
    there.write_text(UNIT.read_text().replace("/usr/local/bin/mdg", program))
    judged = subprocess.run([analyze, "verify", "--man=no", there], capture_output=True, text=True, check=False)
    assert "Unknown" not in judged.stderr, judged.stderr
    assert judged.returncode == 0, judged.stderr


def test_the_proxies_pass_host_on_and_speak_http_1_1() -> None:
    page = (HOW_TO / "behind-a-reverse-proxy.md").read_text(encoding="utf-8")
    nginx, caddy = re.search(r"```nginx\n(.*?)```", page, re.DOTALL), re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert nginx is not None
    assert caddy is not None
    assert nginx[1].count("{") == nginx[1].count("}")
    assert caddy[1].count("{") == caddy[1].count("}")
    assert 'trusted_proxies = ["127.0.0.1/32"]' in page
    for needed in (
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_http_version 1.1;",
        "proxy_set_header Host $http_host;",
        "proxy_buffering off;",
    ):
        assert needed in nginx[1]
    assert "versions 1.1" in caddy[1]
