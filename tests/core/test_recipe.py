"""Any byte range of an envelope by its recipe: whole and in part, from the file, and never a changed byte.

Files of every length, and other kinds of release, are the work of `cargo test`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.envelope.envelopes import Parties, write_instance

from mdg._core import Recipe, Stream
from mdg.errors import InputOutput, Misuse, Refused

PIECE = 65536


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "envelope.zip"


@pytest.fixture
def recipe(path: Path) -> Recipe:
    """Of an envelope of five pieces and a bit, at `path`."""
    instance = path.with_name("instance")
    write_instance(instance, 1, pixels=5 * PIECE)
    return Parties.generate().spool([instance], path)


def drain(stream: Stream, got: bytearray | None = None) -> bytes:
    """Everything up to the end or the error; `got` has what came before an error."""
    got = bytearray() if got is None else got
    while (piece := stream.next()) is not None:
        got += piece
    return bytes(got)


def flip(path: Path, at: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[at] ^= 1
    path.write_bytes(changed)


@pytest.mark.parametrize("pixels", [32, PIECE, 5 * PIECE, 30 * PIECE])
def test_an_envelope_that_was_just_written_is_served_as_it_stands(pixels: int, path: Path) -> None:
    instances = [path.with_name(f"instance-{number}") for number in range(3)]
    for number, instance in enumerate(instances):
        write_instance(instance, number, pixels=pixels)
    recipe = Parties.generate().spool(instances, path)
    assert recipe.length == path.stat().st_size
    assert drain(recipe.stream([str(path)], 0, recipe.length)) == path.read_bytes()


def test_every_range_between_seams_is_the_range_of_the_file(path: Path, recipe: Recipe) -> None:
    data = path.read_bytes()
    seams = sorted({at + by for at in (0, PIECE, 2 * PIECE, len(data)) for by in (-1, 0, 1)} & {*range(len(data) + 1)})
    for start in seams:
        for end in (end for end in seams if end >= start):
            for piece in (PIECE, PIECE + 57, 1 << 20):
                assert drain(recipe.stream([str(path)], start, end, piece)) == data[start:end]


def test_a_stored_recipe_serves_the_same_bytes(path: Path, recipe: Recipe) -> None:
    stored = Recipe.load(recipe.state)
    assert (stored.length, stored.digest, stored.state) == (recipe.length, recipe.digest, recipe.state)
    assert drain(stored.stream([str(path)], 0, stored.length)) == path.read_bytes()
    state = recipe.state
    for broken in (b"", state[:-1], state + b"\0", state[:40] + bytes([state[40] ^ 1]) + state[41:]):
        with pytest.raises(Refused, match="E_STORE_CORRUPT"):
            Recipe.load(broken)


def test_two_envelopes_have_two_digests(path: Path, recipe: Recipe) -> None:
    other = Parties.generate().spool([path.with_name("instance")], path.with_name("other.zip"))
    assert len(recipe.digest) == 32
    assert other.digest != recipe.digest


@pytest.mark.parametrize("changed", [0, PIECE - 1, PIECE, 3 * PIECE + 7, -1])
def test_a_changed_byte_is_refused_before_its_piece_leaves(changed: int, path: Path, recipe: Recipe) -> None:
    data, changed = path.read_bytes(), changed % recipe.length
    flip(path, changed)
    stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
    got = bytearray()
    with pytest.raises(Refused) as refused:
        drain(stream, got)
    assert refused.value.code == "E_STORE_CORRUPT"
    assert refused.value.at == changed - changed % PIECE
    assert got == data[: changed - changed % PIECE]
    with pytest.raises(Refused, match="E_STORE_CORRUPT"):
        stream.next()


def test_a_file_cut_under_a_stream_is_an_error_and_no_signal(path: Path, recipe: Recipe) -> None:
    data = path.read_bytes()
    stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
    first = stream.next()
    os.truncate(path, 3 * PIECE)
    with pytest.raises(InputOutput, match="has become shorter"):
        drain(stream)
    assert first == data[:PIECE]
    with pytest.raises(Refused, match="E_STORE_CORRUPT"):
        recipe.stream([str(path)], 0, recipe.length)


def test_pieces_that_are_kept_stay_as_they_were(path: Path, recipe: Recipe) -> None:
    stream = recipe.stream([str(path)], 1, recipe.length, PIECE)
    kept = []
    while (piece := stream.next()) is not None:
        assert type(piece) is bytes, "a server hands on bytes as they are"
        kept.append(piece)
    assert b"".join(kept) == path.read_bytes()[1:]


def test_a_stream_may_be_dropped_at_any_piece(path: Path, recipe: Recipe) -> None:
    data = path.read_bytes()
    for pieces in range(6):
        stream = recipe.stream([str(path)], 0, recipe.length, PIECE)
        got = b"".join(piece for _ in range(pieces) if (piece := stream.next()) is not None)
        del stream
        assert got == data[: pieces * PIECE]


def test_many_streams_at_once_give_each_its_own_bytes(path: Path, recipe: Recipe) -> None:
    data = path.read_bytes()
    results: dict[int, bool] = {}

    def download(start: int) -> None:
        results[start] = drain(recipe.stream([str(path)], start, recipe.length, PIECE)) == data[start:]

    threads = [threading.Thread(target=download, args=(start * 1000,)) for start in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {start * 1000: True for start in range(16)}


def test_what_makes_no_sense_is_misuse(path: Path, recipe: Recipe) -> None:
    length = recipe.length
    for start, end in [(1, 0), (0, length + 1), (length + 1, length + 1)]:
        with pytest.raises(Misuse):
            recipe.stream([str(path)], start, end)
    for piece in (0, PIECE - 1, (4 << 20) + 1):
        with pytest.raises(Misuse):
            recipe.stream([str(path)], 0, 1, piece)
    for paths in ([], [str(path), str(path)]):
        with pytest.raises(Misuse):
            recipe.stream(paths, 0, 1)
    with pytest.raises(InputOutput, match="missing"):
        recipe.stream([str(path.with_name("missing"))], 0, 1)
    with pytest.raises(Misuse, match="folder"):
        Parties.generate().pack([path.with_name("instance")], path.with_name("out"), recipe=True, as_directory=True)
