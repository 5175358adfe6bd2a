"""`mdg consent` as a process: an operator enters, shows, replaces and ends what a patient has permitted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from tests.web.test_consent import RESEARCH_ONLY, WITHDRAWN, consent, found, permit

from mdg.sandbox.identifiers import EXAMPLE_IHI

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
MDG = [sys.executable, "-m", "mdg.cli", "consent"]


async def run(*arguments: str, read: str = "") -> subprocess.CompletedProcess[str]:
    return await to_thread.run_sync(
        lambda: subprocess.run([*MDG, *arguments], input=read, capture_output=True, text=True, check=False, timeout=120)
    )


async def test_a_consent_is_recorded_shown_replaced_and_ended(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "consent.json"
    file.write_text(json.dumps(WITHDRAWN))
    async with start() as gateway:
        at = ("--admin", gateway.admin)
        made = await run("record", str(file), "--json", *at)
        assert made.returncode == 0, made.stdout + made.stderr
        id_ = json.loads(made.stdout)["id"]
        assert await found(gateway) == 0
        replaced = await run("record", "-", "--replaces", id_, *at, read=json.dumps(RESEARCH_ONLY))
        assert replaced.stdout == f"recorded; mdg consent end {id_} ends it\n"
        assert [await found(gateway), await found(gateway, "HRESCH")] == [0, 1]
        shown = await run("list", "--ihi", "-", *at, read=f"{EXAMPLE_IHI}\n")
        assert shown.stdout.startswith(f"{id_}  since ")
        assert shown.stdout.endswith("  active\n")
        ended = await run("end", id_, *at)
        assert (ended.returncode, ended.stdout) == (0, "ended; it no longer counts\n")
        assert await found(gateway) == 1
        none = await run("list", "--ihi", str(EXAMPLE_IHI), *at)
        assert none.stdout == "no consent is recorded; treatment is permitted by implied consent\n"


async def test_what_is_not_taken_names_the_element_and_no_patient(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "consent.json"
    file.write_text(json.dumps(consent(permit("TREAT") | {"weather": []})))
    async with start() as gateway:
        said = await run("record", str(file), "--admin", gateway.admin)
        missing = await run("record", str(tmp_path / "none.json"), "--admin", gateway.admin)
        wrong = await run("end", "4711", "--admin", gateway.admin)
    assert (said.returncode, missing.returncode, wrong.returncode) == (1, 4, 2)
    assert "Consent.provision.weather: not understood" in said.stderr
    assert EXAMPLE_IHI not in said.stdout + said.stderr
    assert "none.json" in missing.stderr
