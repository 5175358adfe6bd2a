"""`mdg sandbox`: what is needed to try everything on one machine. The stand-in for the national services as a process
of its own, its tokens, requests that use them, a subscriber's endpoint, and a study that is nobody's."""

from __future__ import annotations

import json
import os
import shlex
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from mdg.cli.consumer import ConsumerData, IhiText, Purpose, read_ihi
from mdg.cli.terminal import Json, count, megabytes, progress, say
from mdg.errors import InputOutput, Misuse

if TYPE_CHECKING:
    from mdg.model.identity import Ihi

app = typer.Typer(
    help="The stand-in for the national services, on this machine only.", no_args_is_help=True, rich_markup_mode=None
)

DISCOVERY = "system/ImagingStudy.rs system/Endpoint.rs system/Patient.rs"
ONCE = "# This line works once and for 60 seconds: its proof is for one request (RFC 9449)."


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8400,
    as_json: Json = False,
) -> None:
    """Run token authority, key directory and record locator."""
    import anyio
    from hypercorn.asyncio import serve as run
    from hypercorn.config import Config

    from mdg.sandbox import create_app

    listener = _bound(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.include_server_header = False
    config.loglevel = "WARNING"
    application = create_app(url)
    say(
        {"url": url},
        (f"sandbox: {url}", "it gives a token to anybody on this machine: for demo, development and tests only"),
        as_json,
    )
    anyio.run(lambda: run(application, config))  # type: ignore[arg-type]  # hypercorn has ASGI types of its own


@app.command()
def study(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder for the study.")],
    *,
    seed: Annotated[int, typer.Option(metavar="N", help="Another number makes another study of the patient.")] = 1,
    as_json: Json = False,
) -> None:
    """Write the study of the demo as DICOM files.

    It is a CT of a body that never was, to try everything with."""
    from mdg.sandbox.phantom import ISSUER, PATIENT_ID, SLICES, write_phantom

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputOutput(str(folder), "is already there and not an empty folder; name another one")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.absolute().parent) as beside,
        progress(f"writing {folder}") as show,
    ):
        whole = Path(beside) / "study"  # a folder that is watched gets all of the study at once, or nothing
        size = write_phantom(whole, seed=seed, progress=show)
        whole.rename(folder.absolute())
    say(
        {"folder": str(folder), "instances": SLICES, "bytes": size, "patient_id": PATIENT_ID, "issuer": ISSUER},
        (
            f"{folder}: {count(SLICES, 'instance')}, {megabytes(size)}",
            f"a phantom: patient {PATIENT_ID} of issuer {ISSUER} stands for nobody",
        ),
        as_json,
    )


@app.command()
def token(
    *,
    gateway: Annotated[str, typer.Option(metavar="URL", help="Base URL of the gateway that the token is for.")],
    ihi: IhiText = "-",
    purpose: Purpose = "TREAT",
    scope: Annotated[str, typer.Option(metavar="SCOPES", help="Scopes, separated by spaces.")] = DISCOVERY,
    curl: Annotated[bool, typer.Option("--curl", help="Print a whole request that works, for a shell.")] = False,
    data: ConsumerData = None,
    as_json: Json = False,
) -> None:
    """Print one access token, or with --curl a search that uses it.

    The token is of the sandbox that the gateway trusts."""
    import anyio

    from mdg.model.identity import IHI_SYSTEM

    patient = read_ihi(ihi)
    if curl and as_json:
        raise Misuse("--curl prints a line for a shell; leave --json out")
    search = f"{gateway.rstrip('/')}/fhir/ImagingStudy/_search"
    credentials = anyio.run(
        partial(_credentials, "POST", search, scope=scope, patient=patient, purpose=purpose, data=data)
    )
    if not curl:
        say({"access_token": credentials.token, "token_type": "DPoP", "expires_in": 300}, (credentials.token,), as_json)
        return
    typer.echo(ONCE)
    # printf is part of the shell and curl reads the form field from it, so the IHI stands in no process list.
    typer.echo(
        f"printf %s '{IHI_SYSTEM}|{patient}' | {credentials.curl} \\\n"
        f"  -d _include=ImagingStudy:endpoint --data-urlencode patient.identifier@-"
    )


@app.command()
def curl(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, DELETE and so on.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The whole address, at a gateway on this machine.")],
    *,
    body: Annotated[
        Path | None, typer.Option("-d", "--body", metavar="FILE", help="What is sent: JSON, or a form to a search.")
    ] = None,
    ihi: IhiText = "-",
    purpose: Purpose = "TREAT",
    scope: Annotated[
        str | None, typer.Option(metavar="SCOPES", help="Scopes; those that the address needs unless said.")
    ] = None,
    data: ConsumerData = None,
    as_json: Json = False,
) -> None:
    """Print one curl command with a fresh token and its proof.

    Both are for this very request; pipe it into sh to run it."""
    import anyio

    if as_json:
        raise Misuse("a line for a shell is printed; leave --json out")
    if body is not None and not body.is_file():
        raise InputOutput(str(body), "is not a file; name the file that is to be sent")
    patient = read_ihi(ihi)
    path = urlsplit(url).path
    scope = scope or _scope(path)
    credentials = anyio.run(
        partial(_credentials, method.upper(), url, scope=scope, patient=patient, purpose=purpose, data=data)
    )
    typer.echo(ONCE)
    if body is None:
        typer.echo(credentials.curl)
        return
    kind = "application/x-www-form-urlencoded" if path.endswith("/_search") else "application/fhir+json"
    typer.echo(f"{credentials.curl} \\\n  -H 'Content-Type: {kind}' --data-binary @{shlex.quote(str(body))}")


def _scope(path: str) -> str:
    """What opens an address (docs/reference/access.md, "Scopes")."""
    from mdg.client import RETRIEVAL

    if path.startswith("/fhir/Subscription"):
        return "system/Subscription.crud"
    return " ".join(RETRIEVAL) if path.startswith("/api/jmix") else DISCOVERY


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What opens one request, once."""

    token: str
    curl: str
    """The request without a body, for a shell."""


async def _credentials(
    method: str, url: str, *, scope: str, patient: Ihi, purpose: str, data: Path | None
) -> _Credentials:
    from mdg.cli.consumer import consumer

    parts = urlsplit(url)
    async with consumer(f"{parts.scheme}://{parts.netloc}", data) as asking:
        granted = await asking.tokens.token(asking.gateway.fhir, scope.split(), ihi=patient, purpose=purpose)
        proof = asking.keyring.dpop.prove(method, url, granted.value)
    how = {"GET": "", "HEAD": "-I "}.get(method, f"-X {shlex.quote(method)} ")
    shown = f"  -H 'Authorization: DPoP {granted.value}' \\\n  -H 'DPoP: {proof}'"
    return _Credentials(granted.value, f"curl -sS {how}{shlex.quote(url)} \\\n{shown}")


@app.command()
def listen(
    *,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 9000,
    data: ConsumerData = None,
    as_json: Json = False,
) -> None:
    """Receive the notifications of a subscription and print each.

    This is the endpoint of a subscriber on this machine. It runs until interrupted."""
    import anyio

    from mdg.cli.consumer import own_organisation
    from mdg.sandbox.receiver import create_receiver
    from mdg.web.server import listen as serve_until

    listener = _bound(port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    _, organisation = own_organisation(data)
    subscribers = json.dumps({organisation: [url]})
    say(
        {"url": url, "organisation": organisation, "subscribers": subscribers},
        (
            f"listening: {url}",
            f"this consumer acts for {organisation}; a gateway lets it subscribe when it is started with",
            f"  MDG_SUBSCRIBERS='{subscribers}'",
        ),
        as_json,
    )
    receiver = create_receiver(lambda report, line: say(report, (line,), as_json))

    async def run() -> None:
        await serve_until(receiver, listener, anyio.Event().wait)

    anyio.run(run)


def _bound(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise InputOutput(f"port {port}", f"{os.strerror(error.errno or 0)}; try --port 0") from error
