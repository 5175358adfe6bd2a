"""A command as an Imaging Consumer: keys of its own, the services that a gateway trusts, the client.

A gateway names its token authority in its protected resource metadata (RFC 9728). That is believed only when all of it
is on this machine, which is the sandbox: an authority is told whose images are sought, so a stranger may not name it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdg.errors import InputOutput, MdgError, Misuse, NotFound, Unprocessable, Unsupported, Upstream

if TYPE_CHECKING:
    from mdg.client import FoundStudy, Gateway, Tokens
    from mdg.keys import Card, Directory, Keyring
    from mdg.model.identity import HpiO, Ihi
    from mdg.outbound import Outbound, Response
    from mdg.registry import Registry

ELSEWHERE = (
    "this command asks a gateway and a sandbox on this machine only, by a URL such as http://127.0.0.1:8080; "
    "`mdg retrieve --gateway URL` has your own gateway fetch from another one"
)

IhiText = Annotated[
    str, typer.Option("--ihi", metavar="IHI|-", help="The patient's IHI; - reads it from standard input.")
]
GatewayUrl = Annotated[str, typer.Option("--gateway", metavar="URL", help="Base URL of the gateway to ask.")]


def _purpose(value: str) -> str:
    from mdg.access.rules.purpose_known import PURPOSES

    if value not in PURPOSES:
        raise Misuse(f"--purpose: a code of v3-ActReason that is served here: {', '.join(sorted(PURPOSES))}")
    return value


Purpose = Annotated[
    str,
    typer.Option("--purpose", metavar="CODE", help="Purpose of use, a code of v3-ActReason.", callback=_purpose),
]
ConsumerData = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder of this consumer's keys, made when absent.")
]


@dataclass(frozen=True, slots=True)
class Consumer:
    """What one command needs to ask one gateway."""

    gateway: Gateway
    tokens: Tokens
    keyring: Keyring
    directory: Directory
    registry: Registry

    async def provider(self, study: FoundStudy) -> Card:
        """The card of the organisation that holds `study`, from the directory. `NotFound` when it has none."""
        card = await self.directory.card_by_id(study.custodian.uri) if study.custodian else None
        if card is None:
            raise NotFound(reason="provider-card")
        return card


@asynccontextmanager
async def consumer(gateway: str, data: Path | None) -> AsyncIterator[Consumer]:
    """A consumer with an organisation of its own, registered at the sandbox that `gateway` trusts.

    Its keys stay in `data`, by default under the user's data folder. `Unsupported` for a gateway elsewhere,
    `InputOutput` when one of the two does not answer.
    """
    from mdg.client import Gateway, Tokens
    from mdg.keys import HttpDirectory, Keyring
    from mdg.outbound import Outbound
    from mdg.outbound.address import Origin
    from mdg.registry import Registry
    from mdg.sandbox.answers import is_loopback

    base = base_of(gateway)
    if not is_loopback(base):
        raise Unsupported(base, ELSEWHERE)
    try:
        Origin.of(base, sandbox=True)
    except Unprocessable as error:
        raise _with_start(Misuse(f"--gateway: no gateway answers at {base}: {error.diagnostics}")) from None
    folder, organisation = own_organisation(data)
    keyring = Keyring.open(folder, id=organisation.uri, name="mdg command line", contact="")
    async with Outbound([base], sandbox=True) as asking:
        sandbox = await _authority(asking, base)
    async with Outbound([base, sandbox], sandbox=True) as outbound:
        await _register(outbound, sandbox, keyring)
        tokens = Tokens(f"{sandbox}/token", outbound, keyring, organisation)
        yield Consumer(
            Gateway(base, outbound, keyring, tokens),
            tokens,
            keyring,
            HttpDirectory(sandbox, outbound),
            Registry(sandbox, outbound, tokens, keyring.dpop),
        )


def base_of(gateway: str) -> str:
    """The base URL that `--gateway` names, without a slash at its end. `Misuse` if it is no base URL."""
    base = gateway.rstrip("/")
    if "://" not in base:
        raise Misuse(f"--gateway: a URL begins with http:// or https://, as in http://{base}")
    if base.endswith("/fhir"):
        raise Misuse(f"--gateway: leave /fhir out: {base.removesuffix('/fhir')}")
    return base


def own_organisation(data: Path | None) -> tuple[Path, HpiO]:
    """The folder of this consumer's keys, and the made-up organisation that it acts for: one for each folder."""
    from platformdirs import user_data_path

    from mdg.model.identity import HpiO
    from mdg.sandbox.identifiers import made_up

    folder = (data or user_data_path("mdg") / "consumer").absolute()
    return folder, made_up(HpiO, str(folder))


async def _authority(outbound: Outbound, gateway: str) -> str:
    """The sandbox that the gateway trusts. A proof names the address that a request goes to (RFC 9449 4.2), so
    `gateway` must be the address that the gateway goes by: `Misuse` says which, `Upstream` what else answers there."""
    from mdg.sandbox.answers import is_loopback

    try:
        answer = await outbound.get(f"{gateway}/.well-known/oauth-protected-resource/fhir")
    except InputOutput as error:
        raise _with_start(InputOutput(gateway, "nothing answers there; is the gateway running?")) from error
    match _json(answer):
        case {"resource": str(resource), "authorization_servers": [str(issuer), *_]}:
            issuer = issuer.rstrip("/")
        case {"resource": str(), **_rest}:
            raise Upstream(f"{gateway} names no token authority", answered=answer.status, reason="no-authority")
        case _:
            what = f"{gateway} is no mdg gateway"
            if "ready" in (_json(await outbound.get(f"{gateway}/health")) or {}):
                what = f"{gateway} is the admin listener of a gateway; name its public address"
            raise Upstream(what, answered=answer.status, reason="no-gateway")
    if resource != f"{gateway}/fhir":
        raise Misuse(f"--gateway: this gateway is {resource.removesuffix('/fhir')}; use that address")
    if not is_loopback(issuer):
        raise Unsupported(issuer, ELSEWHERE)
    return issuer


def _with_start(error: MdgError) -> MdgError:
    error.add_note("mdg serve --folder DIR --sandbox starts a gateway and prints its address")
    return error


def _json(answer: Response) -> Any:
    """The JSON of an answer; None for another one."""
    try:
        return answer.json() if answer.status == 200 else None
    except MdgError:
        return None


async def _register(outbound: Outbound, sandbox: str, keyring: Keyring) -> None:
    """Puts this consumer's card into the sandbox's directory, so that the gateway can verify its requests."""
    import json

    from mdg.client.answers import refusal

    card = json.dumps(keyring.card.to_json()).encode()
    answer = await outbound.post(f"{sandbox}/cards", card, {"Content-Type": "application/json"})
    if answer.status != 201:
        raise refusal("the sandbox", answer)


def read_ihi(text: str) -> Ihi:
    """The IHI given on the command line, or on standard input for `-`. `Misuse`, without the value, when it is none."""
    from mdg.model.identity import Ihi

    if text == "-":
        if sys.stdin.isatty():
            typer.echo("IHI: ", err=True, nl=False)
        text = sys.stdin.readline().strip()
    try:
        return Ihi.parse(text)
    except ValueError as error:
        raise Misuse(f"--ihi: {error}") from None
