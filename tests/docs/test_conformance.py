"""`docs/conformance.md` names a state for each clause, and the places and tests it names exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs" / "conformance.md"
STATES = {"works", "partly", "not yet"}

# Heading to the numbers that its clauses must have; None where the framework does not number them.
SECTIONS = {
    "Guiding principles": None,
    "Protocol constraints": None,
    "Conformance": range(1, 6),
    "Capabilities of a Medical Data Gateway": range(1, 6),
    "Data considerations": None,
    "Registries": None,
    "Roadmap": None,
    "Appendices": range(1, 5),
    "Questions": range(5, 8),
    "Outstanding issues": range(1, 10),
}


class Clause(NamedTuple):
    section: str
    name: str
    state: str
    places: list[str]
    tests: list[str]


def clauses() -> list[Clause]:
    found = []
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for row in re.findall(r"^\|(?! ---)(.+)\|$", body, re.MULTILINE):
            name, _, state, places, tests = (cell.strip() for cell in row.split("|"))
            if name != "clause":
                found.append(
                    Clause(heading, name, state, re.findall(r"`([^`]+)`", places), re.findall(r"`([^`]+)`", tests))
                )
    return found


def test_every_section_of_the_framework_is_there() -> None:
    assert set(SECTIONS) <= {clause.section for clause in clauses()}


@pytest.mark.parametrize(("section", "numbers"), [(name, numbers) for name, numbers in SECTIONS.items() if numbers])
def test_every_numbered_clause_is_there(section: str, numbers: range) -> None:
    names = [clause.name for clause in clauses() if clause.section == section]
    assert {int(number) for name in names for number in re.findall(r"^\D*(\d+)", name)} == set(numbers)


@pytest.mark.parametrize("clause", clauses(), ids=lambda clause: f"{clause.section}-{clause.name}")
def test_a_clause_says_its_state_and_shows_it(clause: Clause) -> None:
    assert clause.state in STATES
    if clause.state == "works":
        assert clause.places
        assert clause.tests
    if clause.state == "not yet":
        assert not clause.tests
    for place in clause.places:
        assert (REPOSITORY / place).exists(), place
    for test in clause.tests:
        file, _, name = test.partition("::")
        path = REPOSITORY / file
        assert path.exists(), test
        assert not name or re.search(rf"\b(def|fn) {re.escape(name)}\b", path.read_text(encoding="utf-8")), test
