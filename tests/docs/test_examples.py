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
        "limit_req_status 429;",
    ):
        assert needed in nginx[1]
    assert "versions 1.1" in caddy[1]


@pytest.mark.parametrize("program", ["nginx", "caddy"])
def test_the_proxies_take_their_settings(tmp_path: Path, program: str) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} here")
    page = (HOW_TO / "behind-a-reverse-proxy.md").read_text(encoding="utf-8")
    (settings,) = re.findall(rf"```{'nginx' if program == 'nginx' else 'text'}\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "settings"
    if program == "caddy":
        path.write_text(settings)
        judge = [found, "adapt", "--config", str(path), "--adapter", "caddyfile", "--validate"]
    else:
        make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mdg.example.org")
        files = ("-keyout", tmp_path / "mdg.example.org.key", "-out", tmp_path / "mdg.example.org.pem")
        subprocess.run(["openssl", *make, *files], check=True, capture_output=True)
        settings = settings.replace("/etc/ssl/", f"{tmp_path}/").replace("/var/log/nginx/", f"{tmp_path}/")
        path.write_text(f"pid {tmp_path}/pid; events {{}} http {{ {settings} }}")
        judge = [found, "-t", "-c", str(path)]
    judged = subprocess.run(judge, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stderr


def typed(page: Path) -> list[list[str]]:
    """The words of each `mdg` command in the shell blocks of a page, whatever runs it (`runuser`, a path)."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    programs = [words[words.index("--") + 1 :] if words[:1] == ["runuser"] else words for words in lines]
    return [words[1:] for words in programs if words and Path(words[0]).name == "mdg"]


@pytest.mark.parametrize("page", sorted(HOW_TO.glob("*.md")), ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    known = commands(typer.main.get_command(command_line()))
    for words in typed(page):
        if words == ["--version"]:
            continue
        verb = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert {word for word in words if word.startswith("--")} <= set(known[verb]), words


def test_the_commands_of_a_page_are_found() -> None:
    assert ["config", "check", "--config", "/etc/mdg/mdg.toml"] in typed(HOW_TO / "run-for-good.md")
    assert len(typed(HOW_TO / "retrieve-from-another-gateway.md")) >= 1
