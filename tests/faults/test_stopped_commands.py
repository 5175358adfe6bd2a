"""A command that is told to stop leaves nothing half written, and a gateway that is told to read again goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.faults.conftest import MDG, PATIENCE, Serve, until

from mdg.sandbox.identifiers import EXAMPLE_IHI
from mdg.sandbox.phantom import write_phantom

LARGE = 512 << 20
"""Bytes of a file that takes longer to seal or open than to notice its first bytes."""


def mdg(*arguments: str, cwd: Path) -> None:
    subprocess.run([*MDG, *arguments], check=True, capture_output=True, cwd=cwd)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a study, a large file and an envelope with both."""
    desk = tmp_path_factory.mktemp("desk")
    write_phantom(desk / "study", slices=1)
    with (desk / "large.bin").open("wb") as file:
        file.truncate(LARGE)
    mdg("keygen", "--out", "keys", "--name", "me", "--id", "https://example.org/me", cwd=desk)
    mdg("pack", "study", *PACK, "-o", "whole.zip", cwd=desk)
    return desk


PACK = ("--to", "keys/me.card.json", "--sign", "keys/me.ed25519.key", "--file", "large.bin")
OPEN = ("whole.zip", "--trust", "keys/me.card.json", "--key", "keys/me.x25519.key")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("command", [("pack", "study", *PACK), ("open", *OPEN)], ids=["pack", "open"])
def test_a_command_that_is_stopped_leaves_nothing(desk: Path, command: tuple[str, ...], number: signal.Signals) -> None:
    process = subprocess.Popen([*MDG, *command, "-o", "out"], cwd=desk, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + PATIENCE
        while not list(desk.glob(".out.*.part")):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.001)  # nothing tells that a command has begun to write
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert not list(desk.glob(".out*"))
    assert not (desk / "out").exists()


@pytest.mark.anyio
async def test_a_gateway_reads_its_identities_again_at_sighup_or_keeps_the_old_ones(
    serve: Serve, identity: Path, tmp_path: Path
) -> None:
    table = identity.read_text()

    async def studies() -> int:
        return int((await served.consumer.search()).json()["total"])

    async def found(number: int) -> bool:
        return await studies() == number

    with (tmp_path / "log").open("wb") as log:
        async with serve(log=log) as served:
            assert await studies() == 1
            identity.write_text(table.replace(EXAMPLE_IHI, "8003608833357361"[:-1] + "9"))
            served.process.send_signal(signal.SIGHUP)

            async def logged(what: str) -> bool:
                return what in (tmp_path / "log").read_text()

            await until(lambda: logged("identities not loaded"))
            assert await studies() == 1
            identity.write_text(table.splitlines()[0] + "\n")
            served.process.send_signal(signal.SIGHUP)
            await until(lambda: found(0))
            identity.write_text(table)
            served.process.send_signal(signal.SIGHUP)
            await until(lambda: found(1))
            log_text = (tmp_path / "log").read_text()
            assert EXAMPLE_IHI not in log_text
            assert served.process.poll() is None
