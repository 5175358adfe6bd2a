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
    """Say whether a gateway would start with these settings, and what is missing on this machine."""
    from mdg.config import Settings
    from mdg.errors import InputOutput

    settings = Settings.load(config)
    for path in (*settings.folders, *((settings.identity,) if settings.identity else ())):
        if not path.exists():
            raise InputOutput(str(path), "it is not there; correct folders or identity")
    say({"custodian": settings.custodian, "public_url": settings.public_url}, ("settings: ok",), as_json)
