"""`mdg open`: the verified content of an envelope in a new folder, or nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdg.cli.report import Verbose, envelope_size, lines, next_step
from mdg.cli.terminal import Json, new_place, progress, room_for, say


def open(  # noqa: A001 -- a verb's function has the verb's name
    path: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A ZIP file or a folder.")],
    *,
    key: Annotated[Path, typer.Option(metavar="KEY", help="Your NAME.x25519.key.")],
    trust: Annotated[
        list[Path],
        typer.Option(metavar="CARD|PUB", help="Card or raw Ed25519 public key of who may have signed; repeatable."),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="New folder for metadata.json, files.json, dicom/ and files/."),
    ],
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Verify an envelope and open it into a new folder.

    After a refusal nothing of it is left."""
    from mdg import envelope
    from mdg.cli.keyfile import read_opener, read_trust

    new_place(out)
    trusted = read_trust(trust).pairs
    private, owner = read_opener(key)
    room_for(out, envelope_size(path))
    with next_step(path), progress(f"opening {path.name}") as show:
        report = envelope.open_(path, trust=trusted, key=private, receiver=owner, out=out, progress=show)
    say({"folder": str(out), **report.to_json()}, (*lines(report, opened=True, verbose=verbose), f"in {out}"), as_json)
