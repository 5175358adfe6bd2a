"""`mdg init`: a settings file with every setting in it, each under what it means.

What a gateway needs stands first and is empty; `mdg config check` names what still is. Everything else is a comment
with its default. The words are those of `mdg.config`, so the file and the program say the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.cli.terminal import Json, say
from mdg.errors import InputOutput

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

NEEDED = ("custodian", "public_url", "data", "sources", "default_issuer", "time_zone", "directory_url")
"""What a gateway outside a sandbox cannot do without, in the order in which an operator thinks of it."""
EXAMPLES = {
    "custodian": '""',
    "public_url": '"https://"',
    "data": '"/var/lib/mdg"',
    "sources": '[{ kind = "folder", name = "dicom", path = "/data/dicom" }]',
    "default_issuer": '""',
    "time_zone": '""',
    "directory_url": '"https://"',
    "issuers": '[[issuers]]\niss = "https://"\njwks_url = "https://"',
    "subscribers": '[subscribers]\n"8003626566707032" = ["https://ris.example.org"]',
}
WIDTH = 118


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new settings file.")] = Path("mdg.toml"),
    *,
    as_json: Json = False,
) -> None:
    """Write a settings file with every setting and what it means.

    Fill in what stands first, then: mdg config check --config FILE"""
    if not file.parent.is_dir():
        raise InputOutput(str(file.parent), "is not a folder; make it, or name another file")
    text = "\n".join(_lines())
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise InputOutput(str(file), "is already there; name another file") from None
    file.chmod(0o600)  # a password may be written into it
    say(
        {"file": str(file)},
        (f"wrote {file}", f"fill in its first part, then: mdg config check --config {file}"),
        as_json,
    )


def _lines() -> Iterator[str]:
    from mdg.config import Settings

    fields = Settings.model_fields
    yield "# Settings of one gateway. This first part has to be filled in.\n"
    for name in NEEDED:
        yield f"{_comment(fields[name])}{name} = {EXAMPLES[name]}\n"
    yield "# Everything below may stay as it is. To change a value, remove the # before its name.\n"
    tables: dict[str, str] = {}
    for name, field in fields.items():
        if name in EXAMPLES:
            if name not in NEEDED:
                tables[name] = EXAMPLES[name]
        elif hasattr(field.default, "model_dump"):
            tables[name] = f"[{name}]\n" + "\n".join(_table(field.default))
        elif name != "sandbox":
            yield f"{_comment(field)}# {name} = {_default(field.default)}\n"
    for name, table in tables.items():
        yield _comment(fields[name]) + textwrap.indent(table, "# ", lambda _: True) + "\n"


def _table(values: BaseModel) -> Iterator[str]:
    for name, value in values.model_dump().items():
        yield f"{name} = {_default(value)}"


def _default(value: Any) -> str:
    """The default in TOML; `""` for None, which TOML cannot write."""
    from mdg.cli.stage import toml

    return '""' if value is None else toml(value)


def _comment(field: FieldInfo) -> str:
    words = " ".join((field.description or "").split())
    return textwrap.fill(words, WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n"
