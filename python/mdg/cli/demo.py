"""`mdg demo`: one study found, released, sealed, sent, opened and verified between two gateways, before your eyes.

Provider, consumer and sandbox are three processes with nothing in common but loopback addresses. Everything that
reaches the provider passes a wire that this process holds, so that a changed byte is really changed. Nothing is printed
that did not just happen; the first thing that goes otherwise ends with `demo: failed: WHY`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdg.cli.terminal import Json, code_of
from mdg.errors import MdgError

if TYPE_CHECKING:
    from anyio import CancelScope

TAMPER = "MDG_DEMO_TAMPER"


def demo(
    *,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of DICOM to show in place of the phantom.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave all running until interrupted, and say how to ask.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show two gateways exchange one study, in about a minute."""
    import json

    import anyio

    import_module("mdg.cli.scenes")  # before the first line: a missing part of mdg is said as by every command

    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if not as_json:
            typer.echo(line)

    failed = anyio.run(_play, data, keep, tell)
    said: dict[str, object] = {"ok": failed is None}
    if failed is not None:
        tell(f"demo: failed: {failed}")
        said |= {"code": code_of(failed), "message": str(failed)}
    if as_json:
        typer.echo(json.dumps({**said, "lines": lines}, ensure_ascii=False))
    if failed is not None:
        raise typer.Exit(1)


async def _play(data: Path | None, keep: bool, tell: Callable[[str], None]) -> MdgError | None:
    """The whole performance; why it failed, or None."""
    import anyio

    failed: MdgError | None = MdgError("interrupted")

    def succeed() -> None:
        nonlocal failed
        failed = None
        tell("demo: ok")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_interrupt, tasks.cancel_scope)
        try:
            await _scenes(data, keep, tell, succeed)
        except Exception as error:
            failed = _first(error)
        tasks.cancel_scope.cancel()
    return failed


async def _scenes(data: Path | None, keep: bool, tell: Callable[[str], None], succeed: Callable[[], None]) -> None:
    import anyio
    import httpx2
    from anyio import to_thread
    from platformdirs import user_data_path

    from mdg.cli.choice import put, put_phantom
    from mdg.cli.scenes import DemoFailed, Scenes
    from mdg.cli.stage import free_port, stage
    from mdg.sandbox.wire import Wire

    async with stage() as standing, httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        images = standing.root / "provider" / "images"
        choice = await to_thread.run_sync(lambda: put(images, data) if data else put_phantom(images))
        if choice.said:
            tell(choice.said)
        port = free_port()
        wire = Wire(port)
        async with wire.carrying():
            scenes = Scenes(standing, wire, port, choice, tell, http)
            await scenes.begin()
            if os.environ.get(TAMPER) == "1":
                raise DemoFailed(f"a byte changed on the wire: {await scenes.change_a_byte()}")
            await scenes.exchange()
            refused = await scenes.refuse()
            await scenes.compare()
            await scenes.draw(user_data_path("mdg") / "demo" / "middle-slice.png")
            tell(refused)
            await scenes.account()
            succeed()
            if keep:
                for line in (*scenes.addresses(), "stop with Ctrl-C"):
                    tell(line)
                await anyio.sleep_forever()


async def _interrupt(performance: CancelScope) -> None:
    """Ctrl-C, a polite kill and a closed terminal let the stage be cleared."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            performance.cancel()


def _first(error: BaseException) -> MdgError:
    """What went wrong first, out of the groups that task groups make."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MdgError):
        return error
    return MdgError(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")
