"""What all tests share: the event loop backend and the optional real data beside the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.databases import Server, server

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real DICOM beside the repository; tests that need it are skipped on a machine without it."""
    folder = (REPOSITORY.parent / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f'no real DICOM at {folder} (CONTRIBUTING.md, "What the tests need")')
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, started when the first test asks for it."""
    with server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """What `Store.open` takes for a database of the test's own, of each kind."""
    if request.param == "sqlite":
        yield str(tmp_path / "data" / "mdg.sqlite")
    else:
        running: Server = request.getfixturevalue("postgresql")
        with running.database() as name:
            yield running.url(name)
