"""`mdg revoke`: has a running gateway of yours refuse tokens, list what it refuses, and accept them again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.listener import AdminUrl, Listener
from mdg.cli.terminal import Json, say
from mdg.errors import Misuse

KINDS = ("token", "client", "subject", "practitioner", "organisation")


def revoke(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help=f"What VALUE is: {', '.join(KINDS)}.")] = None,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE|-", help="As tokens have it; - reads it from standard input.")
    ] = None,
    *,
    list_: Annotated[bool, typer.Option("--list", help="Show what is revoked, the oldest first.")] = False,
    end: Annotated[str | None, typer.Option(metavar="ID", help="Accept the tokens of this revocation again.")] = None,
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Have your running gateway refuse tokens.

    Refused is one token, or every one that names a client, a person or an organisation. Running downloads end within 5
    seconds. A revocation stays until it is ended."""
    if (kind is not None) + list_ + (end is not None) != 1 or (kind is None) != (value is None):
        raise Misuse("say one of these: KIND VALUE, --list, --end ID")
    own = Listener(config, admin)
    if end is not None:
        own.expect(own.ask("DELETE", f"/revocations/{_id(end)}"), 204)
        say({"ended": end}, ("ended; these tokens are accepted again",), as_json)
    elif list_:
        got = own.object_of(own.ask("GET", "/revocations"), 200)
        say(got, [_line(one) for one in got["revocations"]] or ["nothing is revoked"], as_json)
    else:
        if kind not in KINDS:
            raise Misuse(f"KIND is one of {', '.join(KINDS)}")
        got = own.object_of(own.ask("POST", "/revocations", {"kind": kind, "value": _value(value)}), 201)
        say(got, (f"revoked; mdg revoke --end {got['id']} accepts these tokens again",), as_json)


def _value(given: str | None) -> str:
    if given != "-":
        return given or ""
    if sys.stdin.isatty():
        typer.echo("value: ", err=True, nl=False)
    return sys.stdin.readline().strip()


def _id(given: str) -> str:
    """`given` in an address. `Misuse` when it is no id."""
    from uuid import UUID

    try:
        return str(UUID(given))
    except ValueError:
        raise Misuse("--end: the ID of a revocation, as `mdg revoke --list` shows it") from None


def _line(one: dict[str, str]) -> str:
    return f"{one['id']}  since {one['since']}  {one['kind']} {one['value']}"
