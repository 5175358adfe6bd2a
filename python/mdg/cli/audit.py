"""`mdg audit`: what a gateway recorded, as FHIR AuditEvents (IEF C4). `show` is by request, `list` by patient,
requester, time and outcome.

Both read the database beside the running gateway. A gateway gives each request an id of its own; the id that the caller
sent is kept beside it, so that the records of both sides of an exchange can be put together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.consumer import read_ihi
from mdg.cli.terminal import Json, advise, say
from mdg.errors import Misuse

if TYPE_CHECKING:
    from mdg.audit import Wanted
    from mdg.model.event import Outcome

app = typer.Typer(help="Read the audit record.", no_args_is_help=True, rich_markup_mode=None)
SHOWN = 50
"""Records that a person is shown who asked for no number."""
DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder of the gateway.")]
OUTCOMES = {"0": "success", "4": "refused", "8": "failed"}


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The X-Request-ID of an answer.")],
    *,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: Json = False,
) -> None:
    """Print what was recorded for one request; with --json the whole AuditEvents. An id that callers sent finds the
    records of their requests."""
    import anyio

    with advise("mdg audit show --data DIR, the data folder of the gateway"):
        events, of_callers = anyio.run(_events, _database(config, data), request_id)
    lines = [_line(event) for event in events]
    if of_callers:
        lines += ["of requests whose callers sent this id:", *(f"  {_line(event)}" for event in of_callers)]
    report = {"request_id": request_id, "events": events, "of_callers": of_callers}
    say(report, lines or ["no record"], as_json)
    if not lines:
        raise typer.Exit(1)


@app.command("list")
def list_(
    *,
    ihi: Annotated[
        str | None, typer.Option(metavar="IHI", help="Records about this patient; - reads the IHI from standard input.")
    ] = None,
    requester: Annotated[
        str | None, typer.Option(metavar="ID", help="A client id, an HPI-O, an HPI-I or the subject of a token.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this time on: 2026-05-01, or with time and offset.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")] = None,
    outcome: Annotated[str | None, typer.Option(metavar="NAME", help="success, refused or failed.")] = None,
    last: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most so many of the newest; 50 without --json.")
    ] = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one AuditEvent a line, exactly as stored.")] = False,
) -> None:
    """Print records, the newest first: who looked at a patient, what an organisation asked for, what was refused."""
    import anyio

    from mdg.audit import Wanted

    wanted = Wanted(
        patient=None if ihi is None else read_ihi(ihi),
        requester=requester,
        since=_time("--since", since),
        until=_time("--until", until),
        outcome=_outcome(outcome),
    )
    most = last or (None if as_json else SHOWN)
    with advise("mdg audit list --data DIR, the data folder of the gateway"):
        shown = anyio.run(_print, _database(config, data), wanted, most, as_json)
    if not shown:
        typer.echo("no record", err=True)
        raise typer.Exit(1)


async def _print(database: str, wanted: Wanted, most: int | None, as_json: bool) -> int:
    """Prints records as they are read; the number of them."""
    from mdg.audit import listed
    from mdg.store import Store

    shown = 0
    async with Store.open(database, read_only=True) as store:
        async for _, event in listed(store, wanted):
            if shown == most:
                typer.echo(f"the newest {most}; --last N or --json prints more", err=True)
                break
            typer.echo(event if as_json else _line(json.loads(event)))
            shown += 1
    return shown


def _time(option: str, text: str | None) -> datetime | None:
    """A date is its beginning by the clock of this machine."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):  # a time of year 1 or 9999 may have no UTC
        raise Misuse(f"{option} is a date or a time, as in 2026-05-01 or 2026-05-01T09:30+10:00") from None


def _outcome(name: str | None) -> Outcome | None:
    from mdg.model.event import Outcome

    if name is None:
        return None
    for code, word in OUTCOMES.items():
        if word == name:
            return Outcome(code)
    raise Misuse(f"--outcome is one of {', '.join(OUTCOMES.values())}")


def _database(config: Path | None, data: Path | None) -> str:
    """That of the settings, of the data folder that was named, or of a first try."""
    from platformdirs import user_data_path

    from mdg.config import SQLITE, Settings

    if config is not None:
        return Settings.load(config, **({"data": data} if data is not None else {})).store_url
    return str((data or user_data_path("mdg") / "sandbox") / SQLITE)


async def _events(database: str, request_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from mdg.audit import recorded
    from mdg.store import Store

    async with Store.open(database, read_only=True) as store:
        return await recorded(store, request_id)


def _parties(agents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each party of an event with its role: `by` a client, `at` a gateway, `for` a user, `of` an organisation."""
    said: list[str] = []
    for place, agent in enumerate(agents):
        organisation = agent["type"]["coding"][0]["code"] == "PROV"
        word = ("by", "at")[place] if place < 2 else "of" if organisation else "for"
        who = agent["who"]
        name = who.get("identifier", {}).get("value") or who.get("display", "not identified")
        said.append(f"{word} {name}")
        said += [f"purpose {use['coding'][0]['code']}" for use in agent.get("purposeOfUse", ())]
    return said


def _line(event: Mapping[str, Any]) -> str:
    """When, what, how it ended and why, by whom and from where, and about which study."""
    what = event["subtype"][0].get("display", event["subtype"][0]["code"])
    outcome = OUTCOMES.get(event["outcome"], event["outcome"])
    why = f" ({event['outcomeDesc']})" if event.get("outcomeDesc") else ""
    came = [agent["network"]["address"] for agent in event["agent"] if agent.get("network", {}).get("type") == "2"]
    objects = [entity.get("what", {}).get("identifier", {}) for entity in event["entity"]]
    about = [
        f"  study {one['value'].removeprefix('urn:oid:')}" for one in objects if one.get("system") == "urn:dicom:uid"
    ]
    who = ", ".join([*_parties(event["agent"]), *(f"from {address}" for address in came)])
    return f"{event['recorded']}  {what}: {outcome}{why}  {who}{''.join(about)}"
