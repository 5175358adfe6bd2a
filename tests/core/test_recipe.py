"""Any byte range of a spooled release: whole, by range, from buffers and from files, and never a changed byte."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest

from mdg._core import Recipe, Stream
from mdg.errors import InputOutput, Misuse, Refused

PIECE = 65536
LENGTHS = [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 57]


def spool(folder: Path, length: int) -> tuple[Path, bytes]:
    data = random.Random(length).randbytes(length)
    path = folder / f"release-{length}.zip"
    path.write_bytes(data)
    return path, data


def drain(stream: Stream, got: bytearray | None = None) -> bytes:
    """Everything up to the end or the error; `got` has what came before an error."""
    got = bytearray() if got is None else got
    while (piece := stream.next()) is not None:
        got += piece
    return bytes(got)


def seams(length: int) -> list[int]:
    return sorted(
        {at for seam in (0, PIECE, 2 * PIECE, length) for at in (seam - 1, seam, seam + 1) if 0 <= at <= length}
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_every_range_between_seams_is_the_range_of_the_file(length: int, tmp_path: Path) -> None:
    path, data = spool(tmp_path, length)
    recipe = Recipe.spool(str(path))
    assert (recipe.length, recipe.sha256) == (length, hashlib.sha256(data).digest())
    for start in seams(length):
        for end in seams(length):
            if end < start:
                continue
            buffers = [data[a:b] for source, a, b in recipe.plan(start, end) if source == 0]
            assert recipe.fill(start, end, buffers) == data[start:end]
            for piece in (PIECE, PIECE + 57, 1 << 20):
                assert drain(recipe.stream([str(path)], start, end, piece)) == data[start:end]


def test_a_stored_recipe_serves_the_same_bytes(tmp_path: Path) -> None:
    path, data = spool(tmp_path, 3 * PIECE + 1)
    state = Recipe.spool(str(path)).state
    recipe = Recipe.load(state)
    assert drain(recipe.stream([str(path)], 0, recipe.length)) == data
    assert recipe.state == state
    for broken in (b"", state[:-1], state + b"\0", state[:40] + b"\xff" + state[41:]):
        with pytest.raises(Refused, match="E_STORE_CORRUPT"):
            Recipe.load(broken)


@pytest.mark.parametrize("changed", [0, PIECE - 1, PIECE, 3 * PIECE + 7, 5 * PIECE + 56])
def test_a_changed_byte_is_refused_before_its_piece_leaves(changed: int, tmp_path: Path) -> None:
    path, data = spool(tmp_path, 5 * PIECE + 57)
    recipe = Recipe.spool(str(path))
    with path.open("r+b") as file:
        file.seek(changed)
        file.write(bytes([data[changed] ^ 1]))
    stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
    got = bytearray()
    with pytest.raises(Refused) as refused:
        drain(stream, got)
    assert refused.value.code == "E_STORE_CORRUPT"
    assert refused.value.at == changed - changed % PIECE
    assert got == data[: changed - changed % PIECE]
    with pytest.raises(Refused, match="E_STORE_CORRUPT"):
        stream.next()
    with pytest.raises(Refused, match="E_STORE_CORRUPT"):
        recipe.fill(changed, changed + 1, [path.read_bytes()[a:b] for _, a, b in recipe.plan(changed, changed + 1)])


def test_a_file_cut_under_a_stream_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path, data = spool(tmp_path, 40 * PIECE)
    recipe = Recipe.spool(str(path))
    stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
    first = stream.next()
    assert first is not None
    os.truncate(path, 20 * PIECE)
    with pytest.raises(InputOutput, match="has become shorter"):
        drain(stream)
    assert bytes(first) == data[:PIECE]
    with pytest.raises(Refused, match="E_STORE_CORRUPT"):
        recipe.stream([str(path)], 0, recipe.length)


def test_pieces_that_are_kept_stay_as_they_were(tmp_path: Path) -> None:
    path, data = spool(tmp_path, 30 * PIECE + 9)
    recipe = Recipe.spool(str(path))
    stream = recipe.stream([str(path)], 1, recipe.length, PIECE)
    kept = []
    while (piece := stream.next()) is not None:
        assert piece.readonly
        kept.append(piece)
    assert b"".join(kept) == data[1:]
    with pytest.raises(TypeError):
        kept[0][0] = 0


def test_a_stream_may_be_dropped_at_any_piece(tmp_path: Path) -> None:
    path, data = spool(tmp_path, 10 * PIECE)
    recipe = Recipe.spool(str(path))
    for pieces in range(11):
        stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
        got = b"".join(piece for _ in range(pieces) if (piece := stream.next()) is not None)
        del stream
        assert got == data[: pieces * PIECE]


def test_many_streams_at_once_give_each_its_own_bytes(tmp_path: Path) -> None:
    path, data = spool(tmp_path, 50 * PIECE + 3)
    recipe = Recipe.spool(str(path))
    results: dict[int, bool] = {}

    def download(start: int) -> None:
        results[start] = drain(recipe.stream([str(path)], start, recipe.length, PIECE)) == data[start:]

    threads = [threading.Thread(target=download, args=(start * 1000,)) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {start * 1000: True for start in range(16)}


def test_what_makes_no_sense_is_misuse(tmp_path: Path) -> None:
    path, data = spool(tmp_path, PIECE + 1)
    recipe = Recipe.spool(str(path))
    for start, end in [(1, 0), (0, PIECE + 2), (PIECE + 2, PIECE + 2)]:
        with pytest.raises(Misuse):
            recipe.plan(start, end)
        with pytest.raises(Misuse):
            recipe.stream([str(path)], start, end)
    with pytest.raises(Misuse):
        recipe.fill(0, 1, [])
    with pytest.raises(Misuse):
        recipe.fill(0, 1, [data])
    for piece in (0, PIECE - 1, (4 << 20) + 1):
        with pytest.raises(Misuse):
            recipe.stream([str(path)], 0, 1, piece)
    for paths in ([], [str(path), str(path)]):
        with pytest.raises(Misuse):
            recipe.stream(paths, 0, 1)
    with pytest.raises(InputOutput, match="missing"):
        Recipe.spool(str(tmp_path / "missing"))
    with pytest.raises(InputOutput):
        Recipe.spool(str(tmp_path))
