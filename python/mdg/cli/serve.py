"""`mdg serve`: one gateway on two listeners, until it is told to stop.

With `--folder DIR --sandbox` alone it is a first try: the stand-ins for the national services run in the same process,
patients without an IHI get a made-up one, and a command that finds the first of them is printed.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.terminal import Json, command, count, no_file, progress, say
from mdg.errors import InputOutput, MdgError, Misuse

if TYPE_CHECKING:
    from mdg.app import Rooms
    from mdg.config import Settings
    from mdg.sources.scan import ScanReport

    Banner = Callable[[Rooms, ScanReport, Sequence[str]], Awaitable[None]]

SANDBOX_ZONE = "Australia/Sydney"
SANDBOX_ISSUER = "SANDBOX"
PORTS = range(8080, 8180)
"""Where a first try looks for a free port."""
SETTLE = 2.0
"""Seconds between two looks for new patients in a sandbox."""


def serve(
    *,
    config: ConfigFile = None,
    folder: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Folder of DICOM files, referenced in place.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(metavar="FILE", help="identity.csv: PatientID, issuer, IHI, source, date.")
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="On this machine only, with stand-in services.")] = False,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port on 127.0.0.1.", min=0, max=65535)] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for database, keys and what is received.")
    ] = None,
    trust_clock: Annotated[
        bool,
        typer.Option("--trust-clock", help="The time is right now: forget a later one that this gateway has seen."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve discovery and retrieval of the images in a folder."""
    import anyio

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the gateway runs there is nothing to read again

    from mdg.config import Settings

    given: dict[str, Any] = {}
    if folder:
        given["sources"] = folder_source(folder)
    if identity is not None:
        given["identity"] = identity.absolute()
    if data is not None:
        given["data"] = data.absolute()
    if sandbox:
        given["sandbox"] = True
    if sandbox and config is None:
        listeners, given = _first_try_listeners(sandbox_defaults() | given, port)
    else:
        if port is not None:
            given |= {"bind": f"127.0.0.1:{port}"}
        try:
            listeners = bound(Settings.load(config, **given))
        except Misuse as error:
            raise error if config is not None else _without_settings(error) from None
    settings = Settings.load(config, **given)
    banner = partial(
        _banner,
        listening=[_address(listener) for listener in listeners],
        again=shlex.join(["--data", str(settings.data)] if config is None else ["--config", str(config)]),
        as_json=as_json,
    )
    try:
        anyio.run(_serve, settings, listeners, banner, trust_clock)
    except BaseExceptionGroup as group:
        raise _first(group) from None
    finally:
        for listener in listeners:
            listener.close()


def _first(error: BaseException) -> BaseException:
    """What went wrong first: the rest of a group are the tasks that were stopped because of it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _without_settings(error: Misuse) -> Misuse:
    """Somebody who names a folder and nothing else tries mdg for the first time."""
    first = Misuse(
        "for a first try add --sandbox; for good, `mdg init` writes a settings file, which --config names. "
        f"Without either: {error}"
    )
    first.add_note(f"{command()} serve --folder DIR --sandbox")
    return first


def bound(settings: Settings) -> list[socket.socket]:
    """The public and the admin socket, bound before anything is opened, so that a port in use is said at once."""
    from mdg.config import host_of, port_of

    sockets = []
    for name, bind in (("bind", settings.bind), ("admin_bind", settings.admin_bind)):
        otherwise = f"change {name} in the settings file" + (
            ", or choose another with --port" if name == "bind" else ""
        )
        sockets.append(_bound(host_of(bind), [port_of(bind)], otherwise))
    return sockets


def folder_source(folders: Sequence[Path], name: str = "folder") -> list[dict[str, Any]]:
    """The setting `sources` for folders that were named on the command line."""
    return [{"kind": "folder", "name": name, "path": [folder.absolute() for folder in folders]}]


def sandbox_defaults() -> dict[str, Any]:
    """What a first try need not say, unless the environment says it."""
    from platformdirs import user_data_path

    from mdg.config import PREFIX
    from mdg.sandbox.identifiers import EXAMPLE_PROVIDER

    settings = {
        "custodian": EXAMPLE_PROVIDER,
        "name": "Sandbox gateway",
        "data": user_data_path("mdg") / "sandbox",
        "default_issuer": SANDBOX_ISSUER,
        "time_zone": SANDBOX_ZONE,
        "capabilities": {"registration": True, "subscription": True},
    }
    said = {variable.partition("__")[0] for variable in os.environ}
    return {name: value for name, value in settings.items() if PREFIX + name.upper() not in said}


def _first_try_listeners(given: dict[str, Any], port: int | None) -> tuple[list[socket.socket], dict[str, Any]]:
    """Free ports of this machine, and the settings that follow from them."""
    public, admin = _bound("127.0.0.1", PORTS if port is None else [port]), _bound("127.0.0.1", [0])
    bind, admin_bind = (f"127.0.0.1:{one.getsockname()[1]}" for one in (public, admin))
    return [public, admin], given | {"public_url": f"http://{bind}", "bind": bind, "admin_bind": admin_bind}


def _bound(host: str, ports: Sequence[int], otherwise: str = "choose another with --port") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports:
        try:
            return socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            if port == ports[-1]:
                why = os.strerror(error.errno) if error.errno else "it cannot be listened on"
                raise InputOutput(f"{host} port {port}", f"{why}; {otherwise}") from error
    raise Misuse("no port to listen on")


async def _serve(settings: Settings, listeners: Sequence[socket.socket], banner: Banner, trust_clock: bool) -> None:
    import anyio

    from mdg.app import create_admin, create_public, open_gateway, preflight
    from mdg.web.log import configure
    from mdg.web.server import listen

    await preflight.check(settings, starting=True)
    configure()
    async with open_gateway(settings, trust_clock=trust_clock) as rooms:
        if settings.identity is not None:
            await rooms.identities.expect(settings.identity)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, rooms.stopping)
            tasks.start_soon(_reload_on_hangup, rooms)
            tasks.start_soon(_images, rooms, banner)
            async with anyio.create_task_group() as serving:
                for app, listener in zip((create_public(rooms), create_admin(rooms)), listeners, strict=True):
                    serving.start_soon(listen, app, listener, rooms.stopping.wait)
            tasks.cancel_scope.cancel()


async def _images(rooms: Rooms, banner: Banner) -> None:
    """Takes identity.csv, registers this gateway, indexes its folders, says that it is ready, and goes on watching."""
    import anyio

    from mdg.app import preflight
    from mdg.sandbox.people import make_up_identities
    from mdg.sources import watcher
    from mdg.sources.source import Watches

    settings = rooms.settings
    await _load_identities(rooms)
    await _register(rooms)
    warnings: list[str] = []

    async def ask_others() -> None:
        warnings.extend(await preflight.warnings(settings))

    async with anyio.create_task_group() as asking:
        asking.start_soon(ask_others)
        with progress("indexing") as show:
            report = await watcher.scan(rooms.sources, lambda _files, read: show(read, 0) if show else None)
    made_up = settings.own_sandbox and settings.identity is None
    if made_up:
        await make_up_identities(rooms.store, settings.custodian)
    await banner(rooms, report, warnings)
    async with anyio.create_task_group() as tasks:
        for source in rooms.sources:
            if isinstance(source, Watches):
                tasks.start_soon(watcher.follow, source)
        while made_up:
            await anyio.sleep(SETTLE)
            with suppress(MdgError):  # the store is closing, or busy: the next look sees the same patients
                await make_up_identities(rooms.store, settings.custodian)


async def _register(rooms: Rooms) -> None:
    """In a sandbox the directory takes any card; elsewhere an operator hands it in."""
    if not rooms.settings.sandbox:
        return
    card = json.dumps(rooms.keyring.card.to_json()).encode()
    answer = await rooms.outbound.post(f"{rooms.directory_url}/cards", card, {"Content-Type": "application/json"})
    if answer.status != 201:
        raise InputOutput(rooms.directory_url, f"the sandbox did not take this gateway's card (status {answer.status})")


def _address(listener: socket.socket) -> str:
    """Where a socket listens, as `bind` writes it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _banner(
    rooms: Rooms,
    report: ScanReport,
    warnings: Sequence[str],
    *,
    listening: Sequence[str],
    again: str,
    as_json: bool,
) -> None:
    """The last lines of a start: what is served, what is not and why, where, and in a sandbox what to type next.
    `listening` names the two sockets, `again` are the options with which another command finds this gateway."""
    settings = rooms.settings
    public, admin = listening
    hidden = Counter(problem.code for problem in await rooms.identities.problems())
    list_them = f"{command()} index --problems {again}"
    lines = [f"mdg: {count(report.instances, 'instance')} of {count(report.studies, 'study')}, indexed in place"]
    if report.problems:
        lines.append(f"{count(report.problems, 'file')} cannot be served: {list_them}")
    lines += [
        f"{count(number, 'study')} cannot be found yet ({code.replace('-', ' ').replace('ihi', 'IHI')}): {list_them}"
        for code, number in sorted(hidden.items())
    ]
    if unmatched := await rooms.identities.unmatched():
        lines.append(f"{no_file(unmatched)}: compare PatientID and issuer with the files")
    lines += [
        *(f"warning: {warning}" for warning in warnings),
        f"public: {settings.public_url}, listening on {public}",
        f"admin: http://{admin}",
        f"data: {settings.data}",
    ]
    if settings.own_sandbox:
        lines += await _first_try(rooms, report.studies)
    found = {"studies": report.studies, "instances": report.instances, "problems": report.problems}
    found["not_findable"] = hidden.total()
    where = {"public": settings.public_url, "listening": public, "admin": f"http://{admin}"}
    say({**where, **found, "warnings": list(warnings)}, lines, as_json)


async def _first_try(rooms: Rooms, studies: int) -> list[str]:
    """A command that works, for the first patient with a made-up IHI. The IHI of a person is never printed, because a
    terminal is recorded and standard output goes to the journal: such a person's IHI is for the reader to type."""
    from mdg.sandbox.people import made_up_ihi

    curl = f"{command()} sandbox token --gateway {rooms.settings.public_url} --ihi - --curl | sh"
    ihi = await made_up_ihi(rooms.store, rooms.settings.custodian)
    stand_in = "sandbox: everything here is a stand-in, for this machine only; try"
    if ihi is None and not studies:
        return ["no patient yet: put DICOM files into the folder"]
    if ihi is None:
        return [f"{stand_in}, and type the IHI of one of your patients:", f"  {curl}"]
    return [f"{stand_in}:", f"  echo {ihi} | {curl}"]


async def _load_identities(rooms: Rooms) -> Mapping[str, object]:
    """Takes identity.csv as it is now, whole or not at all, and records both. Returns the fields of a log line, because
    at the start the banner says what was taken."""
    from mdg.errors import reason
    from mdg.model.event import Event, Kind, Outcome

    path = rooms.settings.identity
    if path is None:
        return {}
    request_id = str(uuid4())
    try:
        taken = await rooms.identities.load_csv(path)
    except MdgError as error:
        await rooms.audit.record(Event(Kind.IDENTITIES_LOADED, Outcome.FAILURE, request_id, reason=reason(error)))
        raise
    details = (("rows", str(taken.rows)),)
    await rooms.audit.record(Event(Kind.IDENTITIES_LOADED, Outcome.SUCCESS, request_id, details=details))
    return {"file": str(path), "rows": taken.rows, "audit": request_id}


async def _reload_on_hangup(rooms: Rooms) -> None:
    """SIGHUP (`systemctl reload`) reads identity.csv again. A table that cannot be taken changes nothing."""
    import anyio
    import structlog

    log = structlog.get_logger("mdg.identities")
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if rooms.settings.identity is None:
                log.info("nothing to reload", why="no identity.csv is set")
                continue
            try:
                taken = await _load_identities(rooms)
                log.info("identities loaded", **taken)
            except MdgError as error:
                log.error("identities not loaded", why=str(error), kept="the table that was read before")


async def _stop_on_signal(stopping: Any) -> None:
    """The first signal lets running answers end, the second one ends the process at once (spec/hostile-input X26)."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if stopping.is_set():
                os._exit(128 + number)
            stopping.set()
