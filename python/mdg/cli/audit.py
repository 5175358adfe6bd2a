"""`mdg audit show`: all that a gateway recorded under one X-Request-ID, as FHIR AuditEvents (fhir-au 7.1).

It reads the database beside the running gateway. The records of the other side of an exchange have the same request id.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.terminal import Json, advise, say

app = typer.Typer(help="Read the audit record.", no_args_is_help=True, rich_markup_mode=None)
OUTCOMES = {"0": "success", "4": "refused", "8": "failed"}


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The X-Request-ID of an answer.")],
    *,
    config: ConfigFile = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Data folder of the gateway.")] = None,
    as_json: Json = False,
) -> None:
    """Print what was recorded for one request; with --json the whole AuditEvents."""
    import anyio

    with advise("mdg audit show --data DIR, the data folder of the gateway"):
        events = anyio.run(_events, _database(config, data), request_id)
    say({"request_id": request_id, "events": events}, [_line(event) for event in events] or ["no record"], as_json)
    if not events:
        raise typer.Exit(1)


def _database(config: Path | None, data: Path | None) -> str:
    """That of the settings, of the data folder that was named, or of a first try."""
    from platformdirs import user_data_path

    from mdg.config import SQLITE, Settings

    if config is not None:
        return Settings.load(config, **({"data": data} if data is not None else {})).store_url
    return str((data or user_data_path("mdg") / "sandbox") / SQLITE)


async def _events(database: str, request_id: str) -> list[dict[str, Any]]:
    from mdg.audit import recorded
    from mdg.store import Store

    async with Store.open(database, read_only=True) as store:
        return await recorded(store, request_id)


def _line(event: Mapping[str, Any]) -> str:
    """When, what, how it ended and why, by whom."""
    what = event["subtype"][0].get("display", event["subtype"][0]["code"])
    outcome = OUTCOMES.get(event["outcome"], event["outcome"])
    why = f" ({event['outcomeDesc']})" if event.get("outcomeDesc") else ""
    named = [agent.get("who", {}).get("identifier", {}).get("value") for agent in event["agent"]]
    who = ", ".join(dict.fromkeys(name for name in named if name)) or "nobody known"
    return f"{event['recorded']}  {what}: {outcome}{why}  by {who}"
