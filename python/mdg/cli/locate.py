"""`mdg locate`: which services hold something of a patient, by the registry that a gateway registers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mdg.cli.consumer import ConsumerData, GatewayUrl, IhiText, Purpose, read_ihi
from mdg.cli.terminal import Json, count, say

if TYPE_CHECKING:
    from mdg.registry.record import Record


def locate(
    *,
    gateway: GatewayUrl,
    ihi: IhiText = "-",
    purpose: Purpose = "TREAT",
    data: ConsumerData = None,
    as_json: Json = False,
) -> None:
    """Ask the record locator of a sandbox who holds something.

    The sandbox is on this machine; the answer names the services that hold something of one patient."""
    import anyio

    from mdg.cli.consumer import consumer

    patient = read_ihi(ihi)

    async def ask() -> Sequence[Record]:
        async with consumer(gateway, data) as asking:
            return await asking.registry.holders(patient, purpose=purpose)

    services = [
        {"service": one.service_id, "type": one.type, "since": one.last_updated.isoformat(timespec="seconds")}
        for one in anyio.run(ask)
    ]
    lines = [f"{one['service']}  {one['type']}  since {one['since']}" for one in services]
    say({"services": services}, (*lines, count(len(services), "service")), as_json)
    if not services:
        raise typer.Exit(1)
