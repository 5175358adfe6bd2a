"""`mdg retrieve`: has a running gateway of yours fetch a study from another gateway, and keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdg.cli.config import ConfigFile
from mdg.cli.consumer import IhiText, Purpose, read_ihi
from mdg.cli.terminal import Json, count, megabytes, say
from mdg.errors import InputOutput, Misuse

if TYPE_CHECKING:
    from mdg.outbound import Response

ADMIN = "http://127.0.0.1:8081"
"""Where `admin_bind` is unless the settings say otherwise."""


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
    admin: Annotated[
        str | None, typer.Option(metavar="URL", help=f"Admin listener of your gateway without --config; {ADMIN}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Have your running gateway fetch one study from another gateway, verify it and keep it.

    The origin of the other gateway stands under `allow` in the settings of yours."""
    from mdg.client.answers import refusal

    if config is not None and admin is not None:
        raise Misuse("--config names the admin listener already; leave --admin out")
    patient = read_ihi(ihi)
    url, headers = _listener(config) if config is not None else (admin or ADMIN, {})
    asked = {"gateway": gateway.rstrip("/"), "ihi": patient, "purpose": purpose}
    asked |= {name: value for name, value in (("study", study), ("provider", provider)) if value is not None}
    answer = _post(url.rstrip("/"), headers, asked)
    if answer.status != 201:
        raise refusal("your gateway", answer)
    got = answer.json()
    if not isinstance(got, dict):
        raise InputOutput(url, "this is not the admin listener of a gateway; --admin or --config names it")
    say(
        got,
        (
            f"received {count(got['instances'], 'instance')}, {megabytes(got['bytes'])}, verified and kept",
            f"study {got['study']}; request {got['request_id']}",
        ),
        as_json,
    )


def _listener(config: Path) -> tuple[str, dict[str, str]]:
    """The admin listener that the settings name, as it is reached on this machine, and its credential."""
    from mdg.config import Settings, host_of

    settings = Settings.load(config)
    host, port = host_of(settings.admin_bind), settings.admin_bind.rpartition(":")[2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    token = settings.admin_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", headers


def _post(url: str, headers: dict[str, str], asked: dict[str, str]) -> Response:
    """The answer of the admin listener, however long the study takes. The listener is the operator's own, so the rules
    for asking strangers do not apply."""
    import httpx2

    from mdg.outbound import Response

    try:
        with httpx2.Client(trust_env=False, timeout=httpx2.Timeout(10, read=None)) as http:
            answer = http.post(f"{url}/retrievals", json=asked, headers=headers)
    except httpx2.HTTPError as error:
        why = "nothing answers there; is your gateway running? Its admin_bind is named by --config or --admin"
        raise InputOutput(url, why) from error
    return Response(answer.status_code, dict(answer.headers), answer.content)
