"""`mdg jobs`: what your running gateway still has to do, why it is not done, and having it done now or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.listener import AdminUrl, Listener
from mdg.cli.terminal import Json, say
from mdg.errors import Misuse

STATES = ("open", "waiting", "running", "done", "failed", "cancelled")

app = typer.Typer(
    help="List, show, retry and cancel the jobs of your gateway.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
JobId = Annotated[int, typer.Argument(metavar="ID", help="As `mdg jobs list` shows it.", min=1)]


@app.command("list")
def list_(
    *,
    state: Annotated[str, typer.Option(metavar="STATE", help=f"One of {', '.join(STATES)}.")] = "open",
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="One kind of job only.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Jobs at most, the newest.", min=1, max=1000)] = 100,
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Print jobs, the newest first: number, kind, what it is about, state, tries, when it is due, why it failed."""
    if state not in STATES:
        raise Misuse(f"--state: one of {', '.join(STATES)}")
    from urllib.parse import urlencode

    asked = {"state": state, "limit": limit} | ({"kind": kind} if kind is not None else {})
    own = Listener(config, admin)
    got = own.object_of(own.ask("GET", f"/jobs?{urlencode(asked)}"), 200)
    lines = [_line(job) for job in got["jobs"]]
    if got["next"] is not None:
        lines.append(f"there may be more: --limit {min(limit * 10, 1000)}, or --kind")
    say(got, lines or [f"no job is {state}"], as_json)


@app.command()
def show(id_: JobId, *, config: ConfigFile = None, admin: AdminUrl = None, as_json: Json = False) -> None:
    """Print one job."""
    own = Listener(config, admin)
    got = own.object_of(own.ask("GET", f"/jobs/{id_}"), 200)
    say(got, _lines(got), as_json)


@app.command()
def retry(id_: JobId, *, config: ConfigFile = None, admin: AdminUrl = None, as_json: Json = False) -> None:
    """Have a job tried now that waits, has failed or was cancelled."""
    _say(_changed(Listener(config, admin), id_, "retry"), "is tried now", as_json)


@app.command()
def cancel(id_: JobId, *, config: ConfigFile = None, admin: AdminUrl = None, as_json: Json = False) -> None:
    """Have a job not done; one that runs stops within seconds."""
    _say(_changed(Listener(config, admin), id_, "cancel"), "is cancelled", as_json)


def _changed(own: Listener, id_: int, change: str) -> dict[str, Any]:
    return own.object_of(own.ask("POST", f"/jobs/{id_}/{change}"), 200)


def _say(job: dict[str, Any], said: str, as_json: bool) -> None:
    say(job, (f"job {job['id']} ({job['kind']}, {job['about'] or 'periodic'}) {said}",), as_json)


def _line(job: dict[str, Any]) -> str:
    when = f"due {job['due']}" if job["finished"] is None else f"ended {job['finished']}"
    line = f"{job['id']}  {job['kind']}  {job['about'] or '-'}  {job['state']}  {_tries(job)}, {when}"
    return f"{line}  {_why(job)}" if job["error"] else line


def _lines(job: dict[str, Any]) -> Sequence[str]:
    lines = [f"job {job['id']}: {job['kind']}, {job['about'] or 'periodic'}", f"{job['state']}, {_tries(job)}"]
    lines += [f"{name}: {job[name]}" for name in ("created", "due", "finished", "process") if job[name]]
    return lines + ([f"the last try failed: {_why(job)}"] if job["error"] else [])


def _tries(job: dict[str, Any]) -> str:
    return f"{job['tries']} {'try' if job['tries'] == 1 else 'tries'}"


def _why(job: dict[str, Any]) -> str:
    return f"{job['error']}: {job['why']}" if job["why"] else str(job["error"])
