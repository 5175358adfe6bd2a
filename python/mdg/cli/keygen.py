"""`mdg keygen`: the two key pairs of one organisation and its card (seg/1 4.1)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from mdg.cli.terminal import Json, advise, say
from mdg.errors import InputOutput, Misuse


def keygen(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the key files; made when absent.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the organisation; it also names the files.")],
    id: Annotated[str, typer.Option(metavar="URI", help="URI of the organisation.")],  # noqa: A002 -- the option is --id
    contact: Annotated[str, typer.Option(metavar="MAIL", help="Mail address for whoever receives an envelope.")] = "",
    as_json: Json = False,
) -> None:
    """Make the key pairs and the card of one organisation.

    NAME.x25519.key opens what is sent to you and NAME.ed25519.key signs what you send: both stay here, mode 0600.
    NAME.card.json holds only public keys: give it to those who send to you or trust you.
    """
    if not name or name.startswith(".") or not name.isprintable() or any(c in "/\\" for c in name):
        raise Misuse(
            "--name names the key files: it needs at least one character, no slash, no leading dot and nothing that "
            "cannot be printed"
        )
    if ":" not in id:
        raise Misuse("--id is a URI, such as http://ns.electronichealth.net.au/id/hi/hpio/1.0/<HPI-O>")
    from mdg.keys import Card, Ed25519Key, X25519Key

    out.mkdir(parents=True, exist_ok=True)
    there = [path.name for path in _files(out, name) if path.exists()]
    if there:
        error = InputOutput(str(out / there[0]), "is already there, and a key is never overwritten")
        error.add_note(f"mdg keygen --out {out} --name ANOTHER-NAME --id {id}")
        raise error
    x25519, ed25519 = X25519Key.generate(), Ed25519Key.generate()
    card = Card.issue(id=id, name=name, contact=contact, x25519=x25519.public, signer=ed25519)
    files = _files(out, name)
    public = (x25519.public, ed25519.public, json.dumps(card.to_json(), indent=2, ensure_ascii=False).encode())
    written: list[Path] = []
    try:
        with advise(f"ls -ld {out}"):
            for path, key in ((files[0], x25519), (files[2], ed25519)):
                key.write(str(path))
                written.append(path)
            for path, content in zip((files[1], files[3], files[4]), public, strict=True):
                _write_new(path, content)
                written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    say(
        {"id": id, "kid": ed25519.kid, "files": [str(path) for path in files]},
        (
            *(f"wrote {path}" for path in files),
            f"key id {ed25519.kid}",
            f"give {files[-1].name} to everyone who sends to you or trusts you; "
            "the .key files never leave this machine",
        ),
        as_json,
    )


def _files(out: Path, name: str) -> list[Path]:
    return [out / f"{name}.{end}" for end in ("x25519.key", "x25519.pub", "ed25519.key", "ed25519.pub", "card.json")]


def _write_new(path: Path, content: bytes) -> None:
    """A new file of public bytes; `FileExistsError` when something is there."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        file.write(content)
