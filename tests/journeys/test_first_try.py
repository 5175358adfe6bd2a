"""`mdg serve --folder DIR --sandbox` alone: no file written by hand, and the line that it prints works."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.conftest import MDG

from mdg.cli.stage import free_port
from mdg.sandbox.phantom import write_phantom

LIMIT = 60  # seconds; far beyond what it takes


@pytest.fixture
def printed(environment: dict[str, str], tmp_path: Path) -> Iterator[list[str]]:
    """What the gateway says when it is ready."""
    write_phantom(tmp_path / "images", slices=2)
    arguments = ["serve", "--folder", str(tmp_path / "images"), "--sandbox", "--port", str(free_port())]
    with (tmp_path / "log").open("wb") as log:
        serving = subprocess.Popen(
            [*MDG, *arguments], env=environment, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
        )
    assert serving.stdout is not None
    lines: list[str] = []
    try:
        while not (lines and "--curl" in lines[-1]):
            line = serving.stdout.readline()
            assert line, (lines, (tmp_path / "log").read_text())
            lines.append(line.strip())
        assert "/sandbox/" not in (tmp_path / "log").read_text()
        yield lines
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=LIMIT)
    assert serving.returncode == 0


def test_the_printed_line_finds_the_study_that_was_just_put_there(
    environment: dict[str, str], printed: list[str]
) -> None:
    assert "2 instances of 1 study" in printed[0]
    asked = subprocess.run(
        ["sh", "-c", printed[-1]], env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    bundle = json.loads(asked.stdout)
    assert (bundle["resourceType"], bundle["total"]) == ("Bundle", 1)


def test_the_record_locator_names_the_service_that_holds_it(environment: dict[str, str], printed: list[str]) -> None:
    gateway, ihi = printed[-1].partition("--gateway ")[2].split()[0], printed[-1].split()[1]
    command = [*MDG, "locate", "--gateway", gateway, "--json"]

    def services(of: str) -> list[dict[str, str]]:
        said = subprocess.run(command, env=environment, input=of, stdout=subprocess.PIPE, text=True, check=False)
        found: list[dict[str, str]] = json.loads(said.stdout)["services"]
        assert said.returncode == (0 if found else 1)
        return found

    for _ in range(LIMIT):
        if services(ihi):
            break
        time.sleep(0.5)  # it is told soon after the study has settled
    assert [service["type"] for service in services(ihi)] == ["record"]
    assert services("8003608166690503") == []


def test_what_was_asked_is_in_the_audit(environment: dict[str, str], printed: list[str], tmp_path: Path) -> None:
    gateway = printed[-1].partition("--gateway ")[2].split()[0]
    ihi = printed[-1].split()[1]
    found = subprocess.run(
        [*MDG, "find", "--gateway", gateway, "--json"],
        env=environment,
        input=ihi,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    request_id = json.loads(found.stdout)["request_id"]
    shown = subprocess.run(
        [*MDG, "audit", "show", request_id], env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert "search-type: success" in shown.stdout
    assert ihi not in shown.stdout
