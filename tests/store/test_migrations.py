"""The migrations make exactly the tables that the rooms declare, on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection

import mdg
from mdg.store import Store
from mdg.store.schema import metadata

WIRED = ("mdg.app", "mdg.cli", "mdg.sandbox", "mdg.web", "mdg.store.migrations")
"""Floors that own no table, and Alembic's own scripts, which run only inside a migration."""


@pytest.fixture(autouse=True)
def every_room() -> None:
    for module in pkgutil.walk_packages(mdg.__path__, "mdg."):
        if not module.name.startswith(WIRED):
            importlib.import_module(module.name)


@pytest.mark.anyio
async def test_the_migrated_schema_is_the_declared_one(database: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        return list(compare_metadata(context, metadata))

    async with Store.open(database) as store, store.read() as connection:
        assert await connection.run_sync(differences) == []


def test_every_row_names_its_custodian() -> None:
    for table in metadata.tables.values():
        assert not table.c.custodian.nullable, table.name
