"""One scan in a process of its own, for tests that kill it: `python scanning.py FOLDER DATABASE`.

Writes how many bytes this process had read when the scan began (proc(5), io).
"""

from __future__ import annotations

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio

from mdg.model.identity import HpiO
from mdg.sources.folder import FolderSource
from mdg.store import Store


def bytes_read() -> int:
    """Bytes that this process got from read calls, the page cache included."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def scan(folder: Path, database: str) -> None:
    async with Store.open(database) as store:
        source = FolderSource(
            store,
            HpiO("8003621566684455"),
            [folder],
            default_issuer="RMH",
            time_zone=ZoneInfo("Australia/Melbourne"),
        )
        sys.stdout.write(f"{bytes_read()}\n")
        sys.stdout.flush()
        await source.scan()


if __name__ == "__main__":
    anyio.run(scan, Path(sys.argv[1]), sys.argv[2])
