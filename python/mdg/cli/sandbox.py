"""`mdg sandbox`: the stand-in for the national services as a process of its own, one token from it, and a study that
is nobody's."""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mdg.cli.consumer import ConsumerData, IhiText, Purpose, read_ihi
from mdg.cli.terminal import Json, count, megabytes, progress, say
from mdg.errors import InputOutput, Misuse

app = typer.Typer(
    help="The stand-in for the national services, on this machine only.", no_args_is_help=True, rich_markup_mode=None
)

DISCOVERY = "system/ImagingStudy.rs system/Endpoint.rs system/Patient.rs"


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 8400,
    as_json: Json = False,
) -> None:
    """Run token authority, key directory and record locator until interrupted."""
    import anyio
    from hypercorn.asyncio import serve as run
    from hypercorn.config import Config

    from mdg.sandbox import create_app

    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise InputOutput(f"port {port}", f"{error.strerror}; try --port 0") from error
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
    """Write the study of the demo as DICOM files: a CT of a body that never was, to try everything with."""
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
    """Print one access token of the sandbox that a gateway trusts, or with --curl a search that uses it."""
    import anyio

    from mdg.cli.consumer import consumer

    patient = read_ihi(ihi)
    if curl and as_json:
        raise Misuse("--curl prints a line for a shell; leave --json out")

    async def ask() -> tuple[str, str]:
        async with consumer(gateway, data) as asking:
            granted = await asking.tokens.token(asking.gateway.fhir, scope.split(), ihi=patient, purpose=purpose)
            url = f"{asking.gateway.fhir}/ImagingStudy/_search"
            return granted.value, asking.keyring.dpop.prove("POST", url, granted.value)

    value, proof = anyio.run(ask)
    if curl:
        from mdg.model.identity import IHI_SYSTEM

        # printf is part of the shell and curl reads the form field from it, so the IHI stands in no process list.
        typer.echo(
            f"printf %s '{IHI_SYSTEM}|{patient}' | curl -sS {gateway.rstrip('/')}/fhir/ImagingStudy/_search \\\n"
            f"  -H 'Authorization: DPoP {value}' \\\n  -H 'DPoP: {proof}' \\\n"
            f"  -d _include=ImagingStudy:endpoint --data-urlencode patient.identifier@-"
        )
        return
    say({"access_token": value, "token_type": "DPoP", "expires_in": 300}, (value,), as_json)
