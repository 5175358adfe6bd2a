"""`mdg inspect`: what an envelope says to somebody without any key, and what that does not prove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mdg.cli.terminal import Json, advise, say

UNPROVED = (
    "not proved: who signed it, that nothing was changed, what is inside. Anybody can write these lines.",
    "next: mdg verify {path} --trust CARD",
)


def inspect(
    path: Annotated[Path, typer.Argument(metavar="ENVELOPE", help="A ZIP file or a folder.")],
    as_json: Json = False,
) -> None:
    """Show the clear parts of an envelope, without any key."""
    from mdg import envelope

    with advise(f"unzip -l {path}"):
        report = envelope.inspect(path)
    said = report.to_json()
    shown = [f"{name}: {_text(value)}" for name, value in said.items() if name != "ok" and value not in (None, [], ())]
    say({**said, "ok": True}, (*shown, *(line.format(path=path) for line in UNPROVED)), as_json)


def _text(value: object) -> str:
    """One line for a person: the control characters of a stranger's text are shown, not sent to the terminal."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
