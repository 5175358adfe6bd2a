"""`mdg sandbox study`: a study to try everything with, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Mdg

from mdg.sources.headers import read_header


def uids(folder: Path) -> set[str | None]:
    return {read_header(path).StudyInstanceUID for path in folder.iterdir()}


def test_the_study_of_the_demo_is_written_whole_and_another_seed_is_another_study(mdg: Mdg, tmp_path: Path) -> None:
    study = tmp_path / "new" / "study"
    said = mdg("sandbox", "study", study, "--json")
    assert said.code == 0
    assert (said.json()["instances"], said.json()["patient_id"]) == (120, "DEMO-0001")
    assert said.json()["bytes"] == sum(path.stat().st_size for path in study.iterdir())
    assert len(list(study.iterdir())) == 120
    empty = tmp_path / "empty"
    empty.mkdir()
    assert mdg("sandbox", "study", empty, "--seed", "2").code == 0
    assert (len(uids(study)), len(uids(empty)), uids(study) & uids(empty)) == (1, 1, set())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_holds_something_is_refused_and_stays_as_it_was(mdg: Mdg, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    said = mdg("sandbox", "study", tmp_path, "--json")
    assert (said.code, said.json()["code"]) == (4, "input-output")
    assert "name another" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_interrupted_study_leaves_nothing(mdg: Mdg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done * 60 > total:
            raise KeyboardInterrupt

    class Shown:
        def __enter__(self) -> object:
            return stop

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr("mdg.cli.sandbox.progress", lambda _: Shown())
    assert mdg("sandbox", "study", tmp_path / "study").code == 130
    assert list(tmp_path.iterdir()) == []
