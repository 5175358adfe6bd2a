"""What must hold before a gateway starts: `mdg serve` looks at it first, `mdg config check` looks at nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from mdg.app.services import directory_url, issuers, origins, registry_url, token_url
from mdg.config import Settings
from mdg.errors import InputOutput, MdgError
from mdg.identity import identity_csv
from mdg.keys import Keyring
from mdg.outbound import Outbound
from mdg.store import Store

LONG = 4 << 20
"""Bytes of an identity.csv that takes longer to read than a start may wait: about 60,000 lines."""


async def check(settings: Settings, *, starting: bool = False) -> None:
    """Folders, identity.csv, keys, data folder and database. Nothing is made or changed; the first thing that does not
    hold is raised, as `InputOutput`, `Refused`, `Unsupported` or `Misuse`. A gateway that is `starting` looks at the
    lines of a LONG identity.csv when it takes them, beside its listeners."""
    for source in settings.sources:
        for folder in source.path:
            await to_thread.run_sync(_readable, folder)
    if settings.identity is not None:
        later = starting and await to_thread.run_sync(_size, settings.identity) > LONG
        await to_thread.run_sync(identity_csv.digest if later else identity_csv.check, settings.identity)
    await to_thread.run_sync(Keyring.check, settings.data)
    await Store.check(settings.store_url)


async def warnings(settings: Settings) -> Sequence[str]:
    """What lets a gateway start and keeps it from being of use: nobody whose tokens count, a service that does not
    answer now. Services are asked without a credential, and any answer will do."""
    if settings.own_sandbox:
        return []
    found = []
    if not issuers(settings):
        found.append("issuers: there are none, so nobody gets in; name the token authority whose tokens you trust")
    services = {"directory_url": directory_url(settings)}
    services |= {f"jwks_url of {one.iss}": one.jwks_url for one in issuers(settings)}
    services |= {"token_url": token_url(settings)} if token_url(settings) else {}
    services |= {"registry_url": registry_url(settings)} if settings.capabilities.registration else {}
    silent: dict[str, str] = {}
    async with Outbound(origins(settings), settings.sandbox) as outbound, anyio.create_task_group() as tasks:

        async def ask(name: str, url: str) -> None:
            try:
                await outbound.get(url)
            except MdgError:
                silent[name] = url

        for name, url in services.items():
            tasks.start_soon(ask, name, url)
    return found + [f"{name}: nothing usable answers at {silent[name]} now" for name in services if name in silent]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _readable(folder: Path) -> None:
    if not folder.is_dir():
        raise InputOutput(str(folder), "it is not a folder; name a folder of DICOM files")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputOutput(str(folder), "this user may not read the folder; give the gateway's user the right to")
