"""`mdg retrieve` as a process: one gateway fetches a study from another, and an operator is told what is missing."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from tests.web.conftest import second_gateway

from mdg.cli.stage import free_port
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
MDG = [sys.executable, "-m", "mdg.cli"]


async def retrieve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await to_thread.run_sync(
        lambda: subprocess.run(
            [*MDG, "retrieve", "--json", *arguments],
            input=EXAMPLE_IHI,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    )


async def test_a_study_is_fetched_kept_and_on_record(start: Start) -> None:
    async with start() as provider, second_gateway(start, provider, sources=(), identity=None) as own:
        said = await retrieve("--gateway", provider.url, "--admin", own.admin)
        assert said.returncode == 0, said.stdout + said.stderr
        got = json.loads(said.stdout)
        assert (got["ok"], got["instances"]) == (True, 3)
        assert {event["type"]["code"] for event in await own.records(got["request_id"])}
        received = own.rooms.settings.data / "received"
        assert len(list(received.rglob("*.dcm"))) == 3
        folders = [received, *(path for path in received.rglob("*") if path.is_dir())]
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


async def test_an_origin_that_is_not_allowed_is_named_to_the_operator(start: Start) -> None:
    async with start() as own:
        said = await retrieve("--gateway", "https://mdg.other.example.org/base", "--admin", own.admin)
    assert said.returncode == 1
    assert "name https://mdg.other.example.org under allow in the settings" in said.stderr
    assert json.loads(said.stdout)["ok"] is False
    assert EXAMPLE_IHI not in said.stdout + said.stderr


async def test_the_settings_name_the_listener_and_its_credential(start: Start, tmp_path: Path) -> None:
    secret = "s" * 40
    async with start(admin_token=secret) as own:
        config = tmp_path / "mdg.toml"
        lines = {
            "custodian": EXAMPLE_CONSUMER, "public_url": own.url, "data": str(tmp_path / "none"), "sandbox": True,
            "admin_bind": own.admin.removeprefix("http://"), "default_issuer": "X", "time_zone": "Australia/Sydney",
            "admin_token": secret,
        }  # fmt: skip
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
        config.chmod(0o600)
        without = await retrieve("--gateway", "https://mdg.other.example.org", "--admin", own.admin)
        said = await retrieve("--gateway", "https://mdg.other.example.org", "--config", str(config))
    assert "access is not permitted" in without.stderr
    assert "under allow" in said.stderr
    assert secret not in said.stdout + said.stderr


async def test_a_gateway_that_is_not_running_is_named_with_what_to_look_at() -> None:
    admin = f"http://127.0.0.1:{free_port()}"
    said = await retrieve("--gateway", "https://mdg.other.example.org", "--admin", admin)
    assert said.returncode == 4
    assert f"{admin}: nothing answers there; is your gateway running?" in said.stderr


async def test_who_could_not_be_asked_is_named_to_the_operator_with_the_cause(start: Start) -> None:
    """An operator can do something about a firewall, a certificate or a name, when told which of them it is."""
    nobody = f"http://127.0.0.1:{free_port()}"
    async with start(allow=(nobody,)) as own:
        said = await retrieve("--gateway", nobody, "--admin", own.admin)
    assert said.returncode == 1
    assert f"could not ask {nobody}: the exchange broke: ConnectError: " in said.stderr
    assert "security" not in said.stderr
    assert EXAMPLE_IHI not in said.stdout + said.stderr


async def test_the_address_of_the_fhir_server_is_not_that_of_the_gateway() -> None:
    said = await retrieve("--gateway", "https://mdg.other.example.org/fhir")
    assert (said.returncode, "leave /fhir out: https://mdg.other.example.org" in said.stderr) == (2, True)
