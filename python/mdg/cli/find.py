"""`mdg find`: which studies of a patient a gateway shows."""

from __future__ import annotations

from uuid import uuid4

import typer

from mdg.cli.consumer import ConsumerData, GatewayUrl, IhiText, Purpose, read_ihi
from mdg.cli.terminal import Json, count, say


def find(
    *,
    gateway: GatewayUrl,
    ihi: IhiText = "-",
    purpose: Purpose = "TREAT",
    data: ConsumerData = None,
    as_json: Json = False,
) -> None:
    """Search a gateway with a sandbox for the studies of a patient.

    The gateway is on this machine. `mdg retrieve` has your own gateway ask one elsewhere."""
    import anyio

    from mdg.cli.consumer import consumer
    from mdg.client import Found

    patient = read_ihi(ihi)
    request_id = str(uuid4())

    async def ask() -> Found:
        async with consumer(gateway, data) as asking:
            return await asking.gateway.find(patient, request_id=request_id, purpose=purpose)

    found = anyio.run(ask)
    studies = [
        {
            "study": study.uid,
            "started": study.resource.get("started"),
            "description": study.resource.get("description"),
            "instances": study.resource.get("numberOfInstances"),
            "retrievable": study.address is not None,
        }
        for study in found.studies
    ]
    lines = [
        "  ".join(
            str(part) for part in (s["started"], s["description"], f"{s['instances']} instances", s["study"]) if part
        )
        for s in studies
    ]
    say(
        {"request_id": request_id, "studies": studies, "missing": found.missing},
        (*lines, f"{count(len(studies), 'study')}; request {request_id}"),
        as_json,
    )
    for lack in found.missing:
        typer.echo(f"mdg: not all studies are listed: {lack}; search again later", err=True)
    if found.missing or not studies:
        raise typer.Exit(1)
