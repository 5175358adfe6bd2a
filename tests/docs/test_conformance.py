"""`docs/conformance.md` has a row for each clause of the framework paper, and the places and tests it names exist.

The paper itself is not in the repository, so its clauses are counted here. Where a copy lies beside the repository, the
titles on the page are looked up in it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = REPOSITORY / "docs" / "conformance.md"
PAPER = REPOSITORY.parent / "shared" / "paper" / "imaging-exchange-framework.txt"
STATES = {"works", "partly", "not yet", "not for a gateway"}
WHY = 15
"""A reason has at least so many characters; "the same" points to the row above."""


APPENDIX_1 = "Appendix 1: Framework Patterns"


def counted(prefix: str, last: int, first: int = 1) -> list[str]:
    return [f"{prefix}{number}" for number in range(first, last + 1)]


CLAUSES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "Overview": (("Overview",), counted("O", 2)),
    "Policy perspective": (("Policy Perspective", "Market Flexibility and Adoption"), counted("V", 7)),
    "Relationship with FHIR standards": (("Relationship with FHIR standards",), counted("F", 2)),
    "Alignment with HealthConnect": (
        ("Alignment with HealthConnect",),
        [*counted("HA", 2), *counted("HP", 5), *counted("HI", 4)],
    ),
    "Guiding principles": (("Guiding Principles",), counted("P", 6)),
    "Roles": (("Roles",), counted("R", 5)),
    "Supported exchange patterns": (("Supported Exchange Patterns",), counted("X", 8)),
    "Supported access patterns": (("Supported Access Patterns",), counted("AP", 4)),
    "Protocol and interface constraints": (("Protocol and Interface Constraints",), counted("I", 4)),
    "Participation": (("Participation",), counted("N", 3)),
    "Conformance": (("Conformance",), counted("C", 5)),
    "Deployment models": (("Deployment Models",), counted("DM", 3)),
    "Implementation profile": (("Implementation Profile",), counted("G", 6)),
    "Capabilities": (
        ("Capabilities",),
        [*counted("CAP1.", 4), *counted("CAP2.", 11), "CAP3", "CAP4", *counted("CAP5.", 5, 0)],
    ),
    "Practical applications": (("Practical Applications",), counted("PA", 3)),
    "Harmony": (("A Reference Architecture: The Harmony Project",), counted("HF", 11)),
    "Data considerations": (
        ("Data Considerations", "Patient ID collisions", "IHI's in DICOM"),
        counted("DC", 4),
    ),
    "Registries": (
        ("Registries", "Purpose and Role", "Registry Record Structure", "How It Works"),
        [*counted("RG", 8), *counted("RG-A", 2), "RG-B1", "RG-C1"],
    ),
    "Roadmap": (("Implementation Roadmap & Transition Period",), counted("Y", 5, 0)),
    "Appendix 1: rules of the patterns": (
        (APPENDIX_1,),
        [*counted("A1.1.", 9), *counted("A1.2.", 6), *counted("A1.3.", 5), *counted("A1.4.", 5)],
    ),
    "Appendix 1: use cases": (
        (APPENDIX_1,),
        [*counted("UC-D", 12), *counted("UC-R", 11), *counted("UC-G", 7), *counted("UC-S", 8)],
    ),
    "Appendix 2: JMIX": (("Appendix 2: JMIX \N{EN DASH} Technical Overview",), counted("A2.", 9)),
    "Appendix 3: DICOM and DICOMweb": (
        (
            "Appendix 3: Practical limitations of DICOM/DICOMweb",
            "DICOM limitations",
            "DICOMweb limitations",
            "Comparison of technologies within a HealthConnect ecosystem",
        ),
        counted("A3.", 11),
    ),
    "Appendix 4: valid requests for data": (("Appendix 4: Valid requests for data",), counted("A4.", 5)),
    "Appendix 5: questions": (("Appendix 5: FAQs",), counted("Q", 13)),
    "Appendix 6: imaging intensive specialties": (("Appendix 6: Imaging Intensive specialties",), ["A6"]),
    "Outstanding issues": (("Outstanding Issues",), counted("OI", 9)),
    "Glossary": (("Glossary",), ["GL1"]),
}
"""Each section of the page: the headings of the paper that it covers, and the clauses that it must have."""

WITHOUT_CLAUSES = {
    "Executive Summary",
    "Introduction",
    "About the Authors",
    "Licence & Reuse",
    "Background",
    "The Framework",
    "Purpose",
    "Summary",
}
"""Headings of the paper that introduce, or say again what others say."""

LISTS = {
    "P": ("Guiding Principles", "", "Roles", "- "),
    "AP": ("Supported Access Patterns", "", "Protocol and Interface Constraints", "[0-9]. "),
    "C": ("Conformance", "", "Deployment Models", "[0-9]. "),
    "G": ("Implementation Profile", "The MDG enables:", "The MDG can be deployed", "- "),
    "HF": ("A Reference Architecture: The Harmony Project", "Key Features", "Open Source", "- "),
    "Q": ("Appendix 5: FAQs", "", "Appendix 6", "[0-9]+. "),
    "OI": ("Outstanding Issues", "", "Glossary", "[0-9]. "),
    "UC-D": (APPENDIX_1, "1. Discovery", "Key Characteristics:", "- "),
    "UC-R": (APPENDIX_1, "2. Retrieval", "Constraints:", "- "),
    "UC-G": (APPENDIX_1, "3. Registration", "Constraints:", "- "),
    "UC-S": (APPENDIX_1, "4. Subscription & Notification", "Constraints:", "- "),
}
"""Ids, and where the paper lists what they count: the heading, the words before the list and those after it, and how
each line of it begins."""


class Clause(NamedTuple):
    section: str
    id: str
    title: str
    here: str
    state: str
    places: list[str]
    tests: list[str]

    @property
    def stem(self) -> str:
        """The clause's own id, without the letter of a part."""
        return re.sub(r"(?<=[0-9])[a-z]$", "", self.id)


@cache
def clauses() -> tuple[Clause, ...]:
    found = []
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for row in re.findall(r"^\|(?! ---)(.+)\|$", body, re.MULTILINE):
            id_, title, here, state, places, tests = (cell.strip() for cell in row.split("|"))
            if id_ != "id":
                named = (re.findall(r"`([^`]+)`", cell) for cell in (places, tests))
                found.append(Clause(heading, id_, title, here, state, *named))
    return tuple(found)


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions that a test file defines at its top; those of a Rust file by their words."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".rs":
        return frozenset(re.findall(r"#\[test\]\s+fn (\w+)", text))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.parse(text).body if isinstance(node, kinds))


def test_every_id_is_given_once() -> None:
    assert [id_ for id_, times in Counter(clause.id for clause in clauses()).items() if times > 1] == []


@pytest.mark.parametrize("section", list(CLAUSES))
def test_every_clause_of_the_paper_has_a_row_and_no_other_has(section: str) -> None:
    there = {clause.stem for clause in clauses() if clause.section == section}
    assert there == set(CLAUSES[section][1])


def test_every_section_of_the_page_is_one_of_the_paper() -> None:
    assert {clause.section for clause in clauses()} == set(CLAUSES)


def test_parts_of_a_clause_follow_each_other_and_are_never_one_alone() -> None:
    parts: dict[str, list[str]] = {}
    for clause in clauses():
        parts.setdefault(clause.stem, []).append(clause.id.removeprefix(clause.stem))
    for stem, letters in parts.items():
        assert letters == ([""] if len(letters) == 1 else [chr(ord("a") + n) for n in range(len(letters))]), stem


@pytest.mark.parametrize("clause", clauses(), ids=lambda clause: clause.id)
def test_a_clause_says_its_state_and_shows_it(clause: Clause) -> None:
    assert clause.state in STATES
    assert clause.title
    assert clause.here
    if clause.state == "works":
        assert clause.places
        assert clause.tests
    if clause.state == "partly":
        assert clause.places
    if clause.state == "not yet":
        assert not clause.tests
        assert not clause.places
    if clause.state == "not for a gateway":
        assert len(clause.here) >= WHY or clause.here == "the same"
    for place in clause.places:
        assert (REPOSITORY / place).exists(), place
    for test in clause.tests:
        file, _, name = test.partition("::")
        path = REPOSITORY / file
        assert path.is_file(), test
        assert name.startswith("test_") or path.suffix == ".rs", f"{test}: name one test"
        assert name in functions(path), test


def test_a_test_that_is_named_by_a_clause_is_named_by_the_page() -> None:
    """`test_a4_4_...` shows A4.4: the page must say so, or the name says nothing."""
    shown = {test for clause in clauses() for test in clause.tests}
    for path in (REPOSITORY / "tests" / "conformance").glob("test_*.py"):
        for name in functions(path):
            if name.startswith("test_"):
                assert f"tests/conformance/{path.name}::{name}" in shown, name


@pytest.fixture(scope="module")
def contents() -> str:
    """The whole paper; its table of contents stands before the executive summary."""
    if not PAPER.is_file():
        pytest.skip(f"no copy of the framework paper at {PAPER}")
    return re.sub(r"\*\*|[`\[\]]", "", PAPER.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def paper(contents: str) -> str:
    """The paper without its table of contents."""
    return "".join(contents.partition("\nExecutive Summary\n")[1:])


def words(text: str) -> str:
    return " ".join(re.sub(r"[*_]", "", text).split()).casefold()


def test_every_heading_of_the_paper_is_covered_or_has_no_clause(contents: str) -> None:
    headings = re.findall(r"^(.+)\t[0-9]+$", contents, re.MULTILINE)
    assert len(headings) > 40
    covered = {heading for covering, _ in CLAUSES.values() for heading in covering}
    assert set(headings) == covered | WITHOUT_CLAUSES


def test_each_title_is_words_of_its_section_of_the_paper(paper: str) -> None:
    """The order of sections is that of the paper, so a section ends where the next one on the page begins."""
    strange = []
    for clause in clauses():
        begin = paper.index(f"\n{CLAUSES[clause.section][0][0]}\n")
        after = list(CLAUSES)[list(CLAUSES).index(clause.section) + 1 :]
        ends = [paper.find(f"\n{CLAUSES[section][0][0]}\n", begin + 1) for section in after]
        section = paper[begin : min((end for end in ends if end > 0), default=len(paper))]
        if words(clause.title) not in words(section):
            strange.append(clause.id)
    assert strange == []


def test_the_paper_lists_as_many_clauses_as_are_counted_here(paper: str) -> None:
    listed, known = {}, {}
    for prefix, (heading, before, after, line) in LISTS.items():
        part = paper.partition(f"\n{heading}\n")[2]
        part = part.partition(before)[2] if before else part
        if prefix.startswith("UC-"):
            part = part.partition("Use Cases:\n")[2]
        lines = re.findall(rf"^{line.replace('.', '[.]')}", part.partition(f"\n{after}")[0], re.MULTILINE)
        listed[prefix] = len(lines)
        ids = [id_ for _, ids in CLAUSES.values() for id_ in ids if re.fullmatch(rf"{prefix}[0-9]+", id_)]
        known[prefix] = len(ids)
    assert listed == known
