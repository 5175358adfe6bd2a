"""What happens when packing or opening does not come to its end: nothing stays, or the next one removes it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.envelope.envelopes import SENDER, Parties, write_instance

from mdg import envelope as room
from mdg.envelope.beside import beside
from mdg.errors import InputOutput, MdgError, Refused

LARGE = 20 << 20
"""Bytes of a file whose packing reports progress before it is read to its end."""

KILLED = """
import os, signal, sys
from mdg import _core

def die(done, total):
    os.kill(os.getpid(), signal.SIGKILL)

sender, public, key, envelope, out = sys.argv[1:]
_core.open_envelope(envelope, trust=[(sender, bytes.fromhex(public))], key=_core.X25519Key.read(key), out=out,
                    progress=die)
"""


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def kill_while_opening(parties: Parties, envelope: Path, out: Path) -> None:
    key = out.parent / "killed.key"
    parties.recipient.write(str(key))
    arguments = (SENDER["id"], parties.signer.public.hex(), str(key), str(envelope), str(out))
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_removed_by_the_next(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kill_while_opening(parties, envelope, out)
    assert not out.exists()
    (left,) = hidden(tmp_path)
    assert list((tmp_path / left).rglob("*.dcm"))
    others = [
        ".out.0123456789abcde.part",
        ".out.0123456789abcdeg.part",
        ".out.0123456789abcdef.parts",
        ".other.0123456789abcdef.part",
    ]
    for name in others:
        (tmp_path / name).touch()
    assert parties.open(envelope, out)["ok"]
    assert hidden(tmp_path) == sorted(others)


def test_what_another_one_is_making_is_left_alone(parties: Parties, envelope: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[list[str]] = []

    def overtake(_done: int, _total: int) -> None:
        if not seen:
            seen.append(hidden(tmp_path))
            assert parties.open(envelope, out)["ok"]
            seen.append(hidden(tmp_path))

    with pytest.raises(InputOutput, match="exists"):
        parties.open(envelope, out, progress=overtake)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    assert hidden(tmp_path) == []
    assert parties.verify(envelope)["ok"]


@pytest.mark.parametrize("what", ["pack", "open"])
def test_a_task_that_is_cancelled_leaves_nothing(
    parties: Parties, study: list[Path], envelope: Path, tmp_path: Path, what: str
) -> None:
    """As Ctrl-C does it: the task is cancelled, and no cancel scope knows."""
    out = tmp_path / "out"
    begun, let_go = threading.Event(), threading.Event()

    def wait(_done: int, _total: int) -> None:
        begun.set()
        let_go.wait(60)

    async def work() -> object:
        if what == "open":
            return await beside(
                lambda told: room.open_(envelope, trust=parties.trust, key=parties.recipient, out=out, progress=told),
                wait,
            )
        return await beside(
            lambda told: room.pack(
                [(path, None) for path in study],
                envelope_id="6f57f5fa-1cd1-45be-a5c3-fb209be1e0ec",
                timestamp="2026-11-24T08:00:00Z",
                patient_id="urn:x",
                identifiers=[],
                sender=SENDER,
                requester=None,
                receiver=SENDER,
                recipient=parties.recipient.public,
                signer=parties.signer,
                out=out,
                progress=told,
            ),
            wait,
        )

    async def interrupted() -> None:
        task = asyncio.create_task(work())
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        let_go.set()

    asyncio.run(interrupted())
    for thread in threading.enumerate():
        if thread.name.startswith("AnyIO"):
            thread.join(60)
    assert not out.exists()
    assert hidden(tmp_path) == []


def test_a_file_system_without_exclusive_rename_serves_as_well(
    parties: Parties, study: list[Path], tmp_path: Path
) -> None:
    """NFS answers EINVAL; here strace does."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    card, key = tmp_path / "to", tmp_path / "by"
    card.write_bytes(parties.recipient.public)
    parties.signer.write(str(key))
    tracing = (strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL")
    python = (*tracing, sys.executable, "-m", "mdg.cli")
    pack = (*python, "pack", str(study[0].parent), "--to", str(card), "--sign", str(key), "-o")
    if subprocess.run([*tracing, "true"], check=False, capture_output=True, timeout=60).returncode:
        pytest.skip("strace may not trace here")
    for out, arguments in (
        (tmp_path / "sealed.zip", pack),
        (tmp_path / "folder", (*pack[:-1], "--as-directory", "-o")),
    ):
        done = subprocess.run([*arguments, str(out)], check=False, timeout=60)
        assert done.returncode == 0
        assert parties.verify(out, trust=[(None, parties.signer.public)])["instances"] == 4
    assert hidden(tmp_path) == []


def shrink(path: Path) -> None:
    os.truncate(path, LARGE - 1)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LARGE - 1)
        file.write(b"x")
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    ("edit", "error"), [(shrink, "become shorter"), (grow, "E_STORE_CORRUPT"), (change, "E_STORE_CORRUPT")]
)
def test_a_source_that_changes_while_it_is_read_is_not_packed(
    parties: Parties, study: list[Path], tmp_path: Path, edit: Callable[[Path], None], error: str
) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(LARGE))
    edited: list[str] = []

    def meanwhile(_done: int, _total: int) -> None:
        if not edited:
            edit(large)
            edited.append(error)

    with pytest.raises(MdgError, match=f"{error}|{large}.*{error}"):
        parties.pack(study, tmp_path / "out.zip", files=[(str(large), "large")], progress=meanwhile)
    assert edited
    assert not (tmp_path / "out.zip").exists()
    assert hidden(tmp_path) == []


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_and_leaves_nothing(parties: Parties, study: list[Path], tmp_path: Path) -> None:
    large, sealed = tmp_path / "large", tmp_path / "sealed.zip"
    large.write_bytes(bytes(LARGE))
    parties.pack(study, sealed, files=[(str(large), "large")])
    for size in (0, 1000, 9 << 20):
        with files_end_at(size), pytest.raises(InputOutput):
            parties.pack(study, tmp_path / "out.zip", files=[(str(large), "large")])
        with files_end_at(size), pytest.raises(InputOutput):
            parties.open(sealed, tmp_path / "out")
        assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_text_that_no_reader_takes_is_refused_before_anything_is_sealed(
    parties: Parties, study: list[Path], tmp_path: Path
) -> None:
    plain = write_instance(study[0], 0)
    at = plain.index(b"\x08\x00\x30\x10LO")
    length = int.from_bytes(plain[at + 6 : at + 8], "little")
    text = b"\xe9" * 40_000  # Latin-1; twice as long in UTF-8
    study[0].write_bytes(plain[: at + 6] + len(text).to_bytes(2, "little") + text + plain[at + 8 + length :])
    with pytest.raises(Refused, match=r"E_INDEX_JSON: metadata\.json"):
        parties.pack(study, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
