"""Addresses of granted downloads, as they were handed out and as an attacker would bend them (group D)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.negative.world import World

from mdg.access import Tickets
from mdg.keys import Ed25519Key
from mdg.model.request import Requester


async def ticket_target(world: World, how: str) -> tuple[str, str, str, str]:
    """(path, query, method, the token it was granted to)."""
    token = world.forgery.token({})
    granted = await world.grant(token)
    path, _, query = granted.partition("?")
    expiry, _, code = query.removeprefix("t=").partition(".")
    recipe = path.rpartition("/")[2]
    holder = await requester(world, token)
    lapsed = datetime.now(UTC) - timedelta(minutes=15, seconds=1)
    changed = f"t={expiry}.{'A' if code[0] != 'A' else 'B'}{code[1:]}"
    bent = {
        "as granted": query,
        "for POST": query,
        "for POST, changed": changed,
        "changed": changed,
        "missing": "",
        "by another key": f"t={Tickets(Ed25519Key.generate()).issue(recipe, holder, datetime.now(UTC))}",
        "expired": f"t={Tickets(world.rooms.keyring.ticket).issue(recipe, holder, lapsed)}",
        "of the year 2286": f"t=9999999999.{code}",
        "of another recipe": query,
        "with an extra parameter": f"{query}&x=1",
        "twice": f"{query}&{query}",
        "escaped": query.replace(".", "%2e"),
        "with a semicolon": f"{query};x=1",
        "upper case": f"t={query.removeprefix('t=').upper()}",
    }[how]
    if how == "of another recipe":
        path = (await world.grant(token)).partition("?")[0]
    return path, bent, "POST" if how.startswith("for POST") else "GET", token


async def requester(world: World, token: str) -> Requester:
    proof = world.forgery.proof(token, "GET", "/", {})
    return await world.rooms.gate.authenticate([f"DPoP {token}"], [proof], "GET", "/")
