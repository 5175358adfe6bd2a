"""The history of the schema, run by Alembic when a store is opened; `versions` holds one file per step.

A step is never edited after a release. All of a migration runs in one transaction: an interrupted one leaves the
database as it was.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from mdg.errors import InputOutput


def current(connection: Connection) -> str | None:
    """The step that the schema is at; None when there is none."""
    return MigrationContext.configure(connection).get_current_revision()


def check(connection: Connection) -> None:
    """`InputOutput` when a newer mdg made the schema."""
    _steps_ahead(connection, _config(connection))


def upgrade(connection: Connection) -> None:
    """Brings the schema to the newest step inside the caller's transaction. `InputOutput` when a newer mdg made it."""
    config = _config(connection)
    if _steps_ahead(connection, config):  # otherwise nothing is written: a database on a read-only disk can be opened
        command.upgrade(config, "head")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _steps_ahead(connection: Connection, config: Config) -> bool:
    """Whether the schema is older than this mdg."""
    steps, here = ScriptDirectory.from_config(config), current(connection)
    if here is not None and here not in {step.revision for step in steps.walk_revisions()}:
        raise InputOutput(str(connection.engine.url.database), f"a newer mdg made this database (step {here})")
    return here != steps.get_current_head()
