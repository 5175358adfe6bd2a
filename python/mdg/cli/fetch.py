"""`mdg fetch`: one study from a gateway into a folder: asked for, downloaded, verified, opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from mdg.cli.consumer import ConsumerData, GatewayUrl, IhiText, Purpose, read_ihi
from mdg.cli.report import Verbose
from mdg.cli.terminal import Json, advise, megabytes, new_place, progress, say


def fetch(
    *,
    gateway: GatewayUrl,
    study: Annotated[str, typer.Option(metavar="UID", help="StudyInstanceUID, as `mdg find` prints it.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="New folder for the study.")],
    ihi: IhiText = "-",
    purpose: Purpose = "TREAT",
    data: ConsumerData = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Retrieve one study from a gateway with a sandbox.

    The gateway is on this machine; the study comes into a new folder. A signed request with a fresh key, one download,
    verified and opened. `mdg retrieve` has your own gateway fetch from one elsewhere."""
    import anyio

    from mdg.cli.consumer import consumer
    from mdg.cli.report import lines
    from mdg.client import Opened, find_study

    new_place(out)
    patient = read_ihi(ihi)
    request_id = str(uuid4())

    async def ask() -> Opened:
        async with consumer(gateway, data) as asking:
            found = await asking.gateway.find(patient, study, request_id=request_id, purpose=purpose)
            wanted = find_study(found, study)
            with progress(f"fetching {study}") as show:
                return await asking.gateway.fetch(
                    wanted,
                    patient,
                    out,
                    provider=await asking.provider(wanted),
                    request_id=request_id,
                    purpose=purpose,
                    progress=show,
                )

    with advise(f"mdg find --gateway {gateway} --ihi -"):
        opened = anyio.run(ask)
    say(
        {"folder": str(out), "request_id": request_id, "length": opened.length, **opened.report.to_json()},
        (
            f"received {megabytes(opened.length)}, {opened.length / 1e6 / opened.seconds:,.0f} MB/s",
            *lines(opened.report, opened=True, verbose=verbose),
            f"in {out}; request {request_id}",
        ),
        as_json,
    )
