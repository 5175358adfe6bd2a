"""`mdg audit`: what a gateway recorded, as FHIR AuditEvents (IEF C4). `show` is by request, `list` by patient,
requester, time and outcome.

Both read the database beside the running gateway. A gateway gives each request an id of its own; the id that the caller
sent is kept beside it, so that the records of both sides of an exchange can be put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.consumer import read_ihi
from mdg.cli.terminal import Json, advise, megabytes, printable, say
from mdg.errors import Misuse

if TYPE_CHECKING:
    from mdg.audit import Wanted
    from mdg.model.event import Outcome

app = typer.Typer(help="Read the audit record.", no_args_is_help=True, rich_markup_mode=None)
SHOWN = 50
"""Records that a person is shown who asked for no number."""
DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder of the gateway.")]
OUTCOMES = {"0": "success", "4": "refused", "8": "failed"}
WORDS = {
    "search-type": "search",
    "disclose": "release granted",
    "110102": "transfer begins",
    "110103": "retrieval",
    "110104": "transfer ended",
    "110120": "start",
    "110121": "stop",
    "110122": "login",
    "110129": "revocation",
}
"""Codes of subtypes in fewer words than their display has; an import is a disclosure to this gateway."""
IMPORT = "110107"


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="The X-Request-ID of an answer.")],
    *,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: Json = False,
) -> None:
    """Print what was recorded for one request.

    With --json the whole AuditEvents. An id that callers sent finds the records of their requests."""
    import anyio

    with advise("mdg audit show --config FILE, the settings of the gateway, or --data DIR, its data folder"):
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
    wide: Annotated[
        bool, typer.Option("--wide", help="Name every party, purpose and study, as `mdg audit show` does.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one AuditEvent a line, exactly as stored.")] = False,
) -> None:
    """Print records, the newest first.

    Who looked at a patient, what an organisation asked for, what was refused. A line is time (UTC), outcome,
    organisation, what, the last digits of the patient's IHI, bytes, and the request id that `mdg audit show` takes."""
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
    with advise("mdg audit list --config FILE, the settings of the gateway, or --data DIR, its data folder"):
        shown = anyio.run(_print, _database(config, data), wanted, most, None if as_json else _line if wide else _row)
    if not shown:
        typer.echo("no record", err=True)
        raise typer.Exit(1)


async def _print(
    database: str, wanted: Wanted, most: int | None, written: Callable[[Mapping[str, Any]], str] | None
) -> int:
    """Prints records as they are read, `written` for a person or as stored; returns the number of them."""
    from mdg.audit import listed
    from mdg.store import Store

    shown = 0
    async with Store.open(database, read_only=True) as store:
        async for _, event in listed(store, wanted):
            if shown == most:
                typer.echo(f"the newest {most}; --last N or --json prints more", err=True)
                break
            typer.echo(event if written is None else printable(written(json.loads(event))))
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


def _short(number: str) -> str:
    """An identifier without the namespace of HPI-Os and HPI-Is, which each of them has."""
    from mdg.model.identity import HPII_SYSTEM, HPIO_SYSTEM

    return number.removeprefix(f"{HPIO_SYSTEM}/").removeprefix(f"{HPII_SYSTEM}/")


def _is_organisation(agent: Mapping[str, Any]) -> bool:
    return bool(agent["type"]["coding"][0]["code"] == "PROV")


def _name(agent: Mapping[str, Any]) -> str:
    who = agent["who"]
    return _short(who.get("identifier", {}).get("value") or who.get("display", "not identified"))


def _addresses(agents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Network addresses of callers."""
    return [agent["network"]["address"] for agent in agents if agent.get("network", {}).get("type") == "2"]


def _parties(agents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each party of an event with its role: `by` a client, `at` a gateway, `for` a user, `of` an organisation. A party
    in several roles, such as a client that is an organisation, is named in the first."""
    said: list[str] = []
    named: set[str] = set()
    for place, agent in enumerate(agents):
        word = ("by", "at")[place] if place < 2 else "of" if _is_organisation(agent) else "for"
        name = _name(agent)
        if name not in named:
            said.append(f"{word} {name}")
            named.add(name)
        said += [f"purpose {use['coding'][0]['code']}" for use in agent.get("purposeOfUse", ())]
    return said


def _what(event: Mapping[str, Any]) -> str:
    """What happened, in a word or two."""
    if event["type"]["code"] == IMPORT and len(event["subtype"]) > 1:
        return "import"
    first = event["subtype"][0]
    return WORDS.get(first["code"]) or str(first.get("display", first["code"]))


def _why(event: Mapping[str, Any]) -> str:
    return f" ({event['outcomeDesc']})" if event.get("outcomeDesc") else ""


def _row(event: Mapping[str, Any]) -> str:
    """One line of a list. The organisation is that of the token; without a token it is the caller's address, or the
    gateway itself. Of the IHI only the last four digits are shown, because a terminal is recorded."""
    from mdg.model.identity import IHI_SYSTEM

    agents, entities = event["agent"], event["entity"]
    organisation = next((_name(agent) for agent in agents if _is_organisation(agent)), None)
    who = organisation or next(iter(_addresses(agents)), None) or _name(agents[0])
    ids = [entity.get("what", {}).get("identifier", {}) for entity in entities]
    patient = next((f"IHI …{one['value'][-4:]}" for one in ids if one.get("system") == IHI_SYSTEM), "")
    details = {one["type"]: one["valueString"] for entity in entities for one in entity.get("detail", ())}
    size = megabytes(int(details["bytes"])) if "bytes" in details else ""
    fields = (
        f"{event['recorded'][:19]}Z",
        f"{OUTCOMES.get(event['outcome'], event['outcome']):<7}",
        f"{who:<16}",
        f"{_what(event):<15}",
        f"{patient:<9}",
        f"{size:>9}",
        ids[0]["value"],
    )
    return "  ".join(fields) + _why(event)


def _line(event: Mapping[str, Any]) -> str:
    """When, what, how it ended and why, by whom and from where, and about which study."""
    what = event["subtype"][0].get("display", event["subtype"][0]["code"])
    outcome = OUTCOMES.get(event["outcome"], event["outcome"])
    objects = [entity.get("what", {}).get("identifier", {}) for entity in event["entity"]]
    about = [
        f"  study {one['value'].removeprefix('urn:oid:')}" for one in objects if one.get("system") == "urn:dicom:uid"
    ]
    who = ", ".join([*_parties(event["agent"]), *(f"from {address}" for address in _addresses(event["agent"]))])
    return f"{event['recorded']}  {what}: {outcome}{_why(event)}  {who}{''.join(about)}"
