"""Works for a store: small changes of one table, and what they left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.errors import Unavailable
from mdg.store import Store
from mdg.store.index import unsettled

Work = Callable[[AsyncConnection], Awaitable[None]]


def add(study: str) -> Work:
    """A work that adds one row, which may be there only once."""

    async def work(connection: AsyncConnection) -> None:
        row = {"custodian": "8003621566684455", "source": "folder", "study": study, "touched": 0}
        await connection.execute(insert(unsettled).values(row))

    return work


async def rows(store: Store) -> list[str]:
    """The rows there are, sorted."""
    async with store.read() as connection:
        return list((await connection.execute(select(unsettled.c.study).order_by(unsettled.c.study))).scalars())


async def attempt(store: Store, work: Work, raised: list[type[Exception]]) -> None:
    """Notes what a work that may fail has raised."""
    try:
        await store.write(work)
    except (LookupError, Unavailable) as error:
        raised.append(type(error))
