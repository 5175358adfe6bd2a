"""`mdg config`: what the settings are and whether they hold, without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    """Print every setting; secrets are masked."""
    from mdg.config import Settings

    settings = Settings.load(config).model_dump(mode="json")
    origins = Settings.origins(config)
    report = {name: {"value": value, "origin": origins[name]} if origin else value for name, value in settings.items()}
    lines = (f"{name} = {value!r}" + (f"   ({origins[name]})" if origin else "") for name, value in settings.items())
    say({"settings": report}, lines, as_json)


@app.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Look at all that `mdg serve` looks at before it starts, and start nothing.

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
    """Print the card of this gateway, for the directory: its id, name and public keys. Makes the keys when absent."""
    import json

    from mdg.config import Settings
    from mdg.keys import Keyring

    settings = Settings.load(config)
    own = Keyring.open(settings.data, id=settings.custodian.uri, name=settings.name, contact=settings.contact).card
    say({"card": own.to_json()}, (json.dumps(own.to_json(), indent=2, ensure_ascii=False),), as_json)
