"""`mdg config`: what the settings are and whether they hold, without starting anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mdg.cli.terminal import Json, say

app = typer.Typer(help="Show and check settings without starting.", no_args_is_help=True, rich_markup_mode=None)
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The settings file (TOML).")]


@app.command()
def show(
    config: ConfigFile = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting as a settings file; secrets are masked."""
    from mdg.config import Settings

    settings = Settings.load(config).model_dump(mode="json")
    origins = Settings.origins(config)
    report = {name: {"value": value, "origin": origins[name]} if origin else value for name, value in settings.items()}
    say({"settings": report}, _file(settings, origins if origin else {}), as_json)


def _file(settings: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    """TOML that `--config` reads: single values first, then tables. What is not set, or masked, is a comment."""
    from mdg.config import SECRETS

    tables: list[tuple[str, str, Mapping[str, Any]]] = []
    for name, value in settings.items():
        origin = f"  # {origins[name]}" if origins else ""
        match value:
            case dict():
                tables.append((f"[{name}]", origin, value))
            case [dict(), *_]:
                tables += ((f"[[{name}]]", origin, one) for one in value)
            case _:
                yield _line(name, value, masked=name in SECRETS) + origin
    for head, origin, table in tables:
        yield f"{head}{origin}"
        yield from (_line(name, value) for name, value in table.items() if not isinstance(value, dict))
        for name, value in table.items():
            if isinstance(value, dict):
                yield f"[{head.strip('[]')}.{name}]"
                yield from (_line(inner, one) for inner, one in value.items())


def _line(name: str, value: object, masked: bool = False) -> str:
    from mdg.cli.stage import toml

    key = name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
    return f"# {name} is not set" if value is None else f"{'# ' * masked}{key} = {toml(value)}"


@app.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check what `mdg serve` checks before it starts; start nothing.

    Settings, folders, identity.csv, keys, data folder, database, addresses; with a warning for each service that does
    not answer."""
    import anyio

    from mdg.app import preflight
    from mdg.cli.serve import bound
    from mdg.config import SQLITE, Settings
    from mdg.store.lock import in_use

    settings = Settings.load(config)

    async def look() -> list[str]:
        await preflight.check(settings)
        return list(await preflight.warnings(settings))

    warnings = anyio.run(look)
    if settings.database is None and in_use(settings.data / SQLITE):
        warnings.append(f"a gateway uses {settings.data} now, so whether bind and admin_bind are free was not tried")
    else:
        for listener in bound(settings):
            listener.close()
    say(
        {"custodian": settings.custodian, "public_url": settings.public_url, "warnings": warnings},
        (*(f"warning: {warning}" for warning in warnings), "settings: ok"),
        as_json,
    )


@app.command()
def card(config: ConfigFile = None, as_json: Json = False) -> None:
    """Print the card of this gateway, for the directory.

    The card is its id, name and public keys. The keys are made when absent."""
    import json

    from mdg.config import Settings
    from mdg.keys import Keyring

    settings = Settings.load(config)
    own = Keyring.open(settings.data, id=settings.custodian.uri, name=settings.name, contact=settings.contact).card
    say({"card": own.to_json()}, json.dumps(own.to_json(), indent=2, ensure_ascii=False).split("\n"), as_json)
