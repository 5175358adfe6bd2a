"""Where the demo plays: a sandbox and gateways as processes of their own, each with a folder and a log, on the
loopback.

Whatever happens, leaving the stage stops every process and removes the folder. A process that ends early or does not
become ready is an error with the last words of its log.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

from mdg.errors import InputOutput

READY_TIME = 120.0  # seconds to start and to index
STOP_TIME = 5.0  # seconds to stop when asked, before it is killed


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A running gateway: its folder, where its two listeners are reached (`url` is its public URL), what it indexed."""

    folder: Path
    url: str
    admin: str
    studies: int
    instances: int

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"


@dataclass
class Stage:
    """The processes of one demo under the folder `root`."""

    root: Path
    _processes: dict[str, Process] = field(default_factory=dict)

    async def sandbox(self) -> str:
        """Starts the stand-in for the national services; returns its URL."""
        return str((await self._start("sandbox", "sandbox", "serve", "--port", "0"))["url"])

    async def gateway(self, name: str, port: int, public_port: int, settings: Mapping[str, object]) -> GatewayProcess:
        """Starts a gateway that listens on `port` and is reached by others at `public_port`; returns when it has
        indexed its folders."""
        folder = self.root / name
        url, admin = f"http://127.0.0.1:{public_port}", f"127.0.0.1:{free_port()}"
        own = {"public_url": url, "bind": f"127.0.0.1:{port}", "admin_bind": admin, "data": str(folder / "data")}
        folder.mkdir(exist_ok=True)
        config = folder / "mdg.toml"
        config.write_text("".join(f"{key} = {toml(value)}\n" for key, value in {**own, **settings}.items()))
        ready = await self._start(name, "serve", "--config", str(config))
        return GatewayProcess(folder, url, f"http://{admin}", int(ready["studies"]), int(ready["instances"]))

    def check(self) -> None:
        """`InputOutput` when a process has ended by itself."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                raise InputOutput(name, f"it ended with {process.returncode}: {self._last_words(name)}")

    async def _start(self, name: str, *arguments: str) -> dict[str, Any]:
        """Runs `mdg` with `arguments`; returns what it says when it is ready."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MDG_")}
        with (self.root / f"{name}.out").open("wb") as out, (self.root / f"{name}.log").open("wb") as log:
            self._processes[name] = await anyio.open_process(
                [sys.executable, "-m", "mdg.cli", *arguments, "--json"],
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,  # an interrupt at the terminal is for the demo, which then stops them in order
            )
        with anyio.move_on_after(READY_TIME):
            while True:
                with suppress(ValueError, IndexError):
                    ready = json.loads((self.root / f"{name}.out").read_text().splitlines()[0])
                    if ready["ok"]:
                        return dict(ready)
                self.check()
                await anyio.sleep(0.02)
        raise InputOutput(name, f"not ready within {READY_TIME:.0f} s: {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        lines = (self.root / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    async def _stop(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self._processes.values():
            with anyio.move_on_after(STOP_TIME):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """An empty stage in a new private folder, cleared at the end."""
    root = Path(tempfile.mkdtemp(prefix="mdg-demo-"))
    standing = Stage(root)
    try:
        yield standing
    finally:
        with anyio.CancelScope(shield=True):
            await standing._stop()
            shutil.rmtree(root, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def toml(value: object) -> str:
    """A value in TOML; its strings are written as JSON writes them, which TOML reads alike."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(part) for part in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
