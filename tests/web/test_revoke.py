"""`mdg revoke` as a process: an operator takes tokens back from a running gateway, and accepts them again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from anyio import to_thread

from mdg.access import Of
from mdg.cli.revoke import KINDS

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
MDG = [sys.executable, "-m", "mdg.cli", "revoke"]


async def revoke(*arguments: str, read: str = "") -> subprocess.CompletedProcess[str]:
    return await to_thread.run_sync(
        lambda: subprocess.run([*MDG, *arguments], input=read, capture_output=True, text=True, check=False, timeout=120)
    )


def test_the_kinds_are_those_of_the_gateway() -> None:
    assert list(KINDS) == list(Of)


async def test_an_organisation_is_refused_shown_and_accepted_again(start: Start) -> None:
    async with start() as gateway:
        organisation = gateway.consumer.organisation
        made = await revoke("organisation", "-", "--json", "--admin", gateway.admin, read=f"{organisation}\n")
        assert made.returncode == 0, made.stdout + made.stderr
        id_ = json.loads(made.stdout)["id"]
        assert (await gateway.consumer.search()).status_code == 401
        shown = await revoke("--list", "--admin", gateway.admin)
        assert shown.stdout.startswith(f"{id_}  since ")
        assert shown.stdout.endswith(f"  organisation {organisation}\n")
        ended = await revoke("--end", id_, "--admin", gateway.admin)
        assert (ended.returncode, ended.stdout) == (0, "ended; these tokens are accepted again\n")
        assert (await gateway.consumer.search()).status_code == 200
        assert (await revoke("--list", "--admin", gateway.admin)).stdout == "nothing is revoked\n"
        again = await revoke("--end", id_, "--admin", gateway.admin)
        assert again.returncode == 1
        assert "your gateway answered 404" in again.stderr


async def test_what_no_token_can_have_is_refused_without_its_value(start: Start) -> None:
    async with start() as gateway:
        said = await revoke("practitioner", "-", "--json", "--admin", gateway.admin, read="8003610833334085x\n")
    assert said.returncode == 1
    assert "your gateway answered 400" in said.stderr
    assert "8003610833334085" not in said.stdout + said.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("client",), ("client", "x", "--list"), ("--list", "--end", "x"), ("somebody", "x"), ("--end", "../audit")],
)
async def test_half_a_command_is_usage(arguments: tuple[str, ...]) -> None:
    said = await revoke(*arguments)
    assert said.returncode == 2, said.stdout + said.stderr
