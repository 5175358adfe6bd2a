"""`mdg verify`: whether an envelope is by a key that you trust and unchanged; with your key also what is inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdg.cli.report import Verbose, lines, next_step
from mdg.cli.terminal import Json, progress, say


def verify(
    path: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A ZIP file or a folder.")],
    *,
    trust: Annotated[
        list[Path],
        typer.Option(metavar="CARD|PUB", help="Card or raw Ed25519 public key of who may have signed; repeatable."),
    ],
    key: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Your NAME.x25519.key, to check the content as well.")
    ] = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Check signature and hashes of an envelope; write nothing."""
    from mdg import envelope
    from mdg.cli.keyfile import read_opener, read_trust

    trusted = read_trust(trust).pairs
    private, owner = read_opener(key) if key else (None, None)
    with next_step(path), progress(f"verifying {path.name}") as show:
        report = envelope.verify(path, trust=trusted, key=private, receiver=owner, progress=show)
    say(report.to_json(), lines(report, opened=key is not None, verbose=verbose), as_json)
