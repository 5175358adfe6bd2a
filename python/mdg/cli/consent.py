"""`mdg consent`: what patients have permitted or denied, as your running gateway is told of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.consumer import read_ihi
from mdg.cli.listener import AdminUrl, Listener
from mdg.cli.terminal import Json, say
from mdg.errors import InputOutput, Misuse

app = typer.Typer(help="Record, list and end the consents of patients.", no_args_is_help=True, rich_markup_mode=None)
ConsentId = Annotated[str, typer.Argument(metavar="ID", help="As `mdg consent list` shows it.")]


@app.command()
def record(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A FHIR R4 Consent in JSON; - reads standard input.")],
    *,
    replaces: Annotated[
        str | None, typer.Option(metavar="ID", help="The Consent of this patient that it takes the place of.")
    ] = None,
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Have your running gateway decide by this Consent from now on.

    Downloads that it no longer permits end within 5 seconds. A Consent stays until it is ended or replaced."""
    own = Listener(config, admin)
    content = _read(file)
    if replaces is None:
        got = own.object_of(own.ask("POST", "/consents", content=content), 201)
    else:
        got = own.object_of(own.ask("PUT", f"/consents/{_id(replaces)}", content=content), 200)
    say(got, (f"recorded; mdg consent end {got['id']} ends it",), as_json)


@app.command("list")
def list_(
    *,
    ihi: Annotated[str, typer.Option(metavar="IHI|-", help="The patient; - reads the IHI from standard input.")],
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Print the Consents of one patient, the oldest first; with --json as they were recorded."""
    own = Listener(config, admin)
    got = own.object_of(own.ask("POST", "/consents/_search", {"ihi": read_ihi(ihi)}, form=True), 200)
    lines = [f"{one['id']}  since {one['since']}  {one['status']}" for one in got["consents"]]
    say(got, lines or ["no consent is recorded; treatment is permitted by implied consent"], as_json)


@app.command()
def end(
    id_: ConsentId,
    *,
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Have your running gateway decide without this Consent from now on."""
    own = Listener(config, admin)
    own.expect(own.ask("DELETE", f"/consents/{_id(id_)}"), 204)
    say({"ended": id_}, ("ended; it no longer counts",), as_json)


def _read(file: str) -> bytes:
    """What is in a file. `InputOutput` when it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputOutput(file, error.strerror or "cannot be read") from error


def _id(given: str) -> str:
    """`given` in an address. `Misuse` when it is no id."""
    from uuid import UUID

    try:
        return str(UUID(given))
    except ValueError:
        raise Misuse("ID is that of a consent, as `mdg consent list` shows it") from None
