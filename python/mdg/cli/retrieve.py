"""`mdg retrieve`: has a running gateway of yours fetch a study from another gateway, and keep it."""

from __future__ import annotations

from typing import Annotated

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.consumer import IhiText, Purpose, base_of, read_ihi
from mdg.cli.listener import AdminUrl, Listener
from mdg.cli.terminal import Json, count, megabytes, say


def retrieve(
    *,
    gateway: Annotated[str, typer.Option(metavar="URL", help="Base URL of the other gateway, its public_url.")],
    ihi: IhiText = "-",
    study: Annotated[
        str | None, typer.Option(metavar="UID", help="StudyInstanceUID, where the patient has several studies there.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="HPI-O", help="The organisation that must have signed what comes.")
    ] = None,
    purpose: Purpose = "TREAT",
    config: ConfigFile = None,
    admin: AdminUrl = None,
    as_json: Json = False,
) -> None:
    """Have your running gateway fetch a study from another one.

    Your gateway verifies what comes and keeps it. The origin of the other gateway stands under `allow` in the settings
    of yours."""
    own = Listener(config, admin)
    asked = {"gateway": base_of(gateway), "ihi": read_ihi(ihi), "purpose": purpose}
    asked |= {name: value for name, value in (("study", study), ("provider", provider)) if value is not None}
    got = own.object_of(own.ask("POST", "/retrievals", asked), 201)
    say(
        got,
        (
            f"received {count(got['instances'], 'instance')}, {megabytes(got['bytes'])}, verified and kept",
            f"study {got['study']}; request {got['request_id']}",
        ),
        as_json,
    )
