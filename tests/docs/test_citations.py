"""What comments, tests and pages cite is there: headings of `docs/spec`, rows of hostile input, clauses of the paper.

The forms are `spec/access 3`, `spec/hostile-input F13`, `seg/1 9.1`, `IEF A4.3`, and the path of a page in `docs`, with
or without a heading in quotes. Standards are cited by their names and are not looked up here.
"""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SPEC = REPOSITORY / "docs" / "spec"
FOLDERS = ("python/mdg", "rust", "tests", "benches", ".ci", "docs")
SUFFIXES = {".py", ".pyi", ".rs", ".toml", ".yaml", ".md", ".sh", ""}
WITHOUT = ("CHANGELOG.md", "docs/design/decisions/", "tests/docs/test_citations.py")
"""What was true on its day, and this file."""

NUMBER = r"(?:[0-9]+(?:\.[0-9]+)*(?![0-9.]*[0-9a-z])|[A-LX][0-9]{0,2}\b)"
NUMBERS = rf"({NUMBER}(?:(?:, | and | to ){NUMBER})*)"
CITED = re.compile(rf"(?<![\w/])spec/([a-z][a-z0-9.-]*[a-z0-9]) {NUMBERS}")
PROFILE = re.compile(rf'seg/1 ("?)(Notation\b|{NUMBERS[1:-1]})')
PATH = re.compile(r'(?<![\w/])docs/([a-z0-9/.-]+\.md)(?:, "([^"]+)")?')
CLAUSE = re.compile(r"IEF\s((?:[A-Z]+(?:-[A-Z])?[0-9][0-9.]*[a-z]?(?:, | to )?)+)")
ROW = re.compile(r"\b[A-LX][0-9]{1,2}\b(?!\.[0-9])")
ELSEWHERE = (
    "fhir-au", "security-tests", "jmix-interop", "segmented-jmix", "rust-feasibility", "style-examples", "peers.md",
)  # fmt: skip
"""Documents that are not in this repository."""
UNNAMED = re.compile(r'\becosystem [0-9]|\barchitecture,? "')
"""Citations of two more, whose names are words."""


@cache
def headings(page: str) -> frozenset[str]:
    """Numbers and words of the headings of a page under `docs`."""
    found = re.findall(r"^#+ (.+)$", (REPOSITORY / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    words = {re.sub(r"^[0-9A-Z.]+\.? (?=\S)", "", heading) for heading in found}
    numbers = {match[1].rstrip(".") for heading in found if (match := re.match(r"([0-9][0-9.]*|[A-LX]\.) ", heading))}
    return frozenset({*found, *words, *numbers})


@cache
def rows() -> frozenset[str]:
    """The ids of hostile inputs and faults."""
    page = (SPEC / "hostile-input.md").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^\| ([A-LX][0-9]{1,2}) \|", page, re.MULTILINE))


@cache
def clauses() -> frozenset[str]:
    """The ids of `docs/conformance.md`, and those whose parts have ids."""
    page = (REPOSITORY / "docs" / "conformance.md").read_text(encoding="utf-8")
    ids = re.findall(r"^\| ([A-Z]+(?:-[A-Z])?[0-9][0-9.]*[a-z]?) \|", page, re.MULTILINE)
    return frozenset(ids) | {re.sub(r"(?<=[0-9])[a-z]$", "", id_) for id_ in ids}


def is_there(page: str, number: str) -> bool:
    return number in headings(f"spec/{page}.md") or (page == "hostile-input" and number in rows())


def comments(text: str, suffix: str) -> str:
    """The comments and docstrings of Python, the comments of Rust, the whole of anything else."""
    if suffix == ".rs":
        return "\n".join(re.findall(r"//.*", text))
    if suffix not in (".py", ".pyi"):
        return ""
    found, begins = [], True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (begins and token.type == tokenize.STRING):
            found.append(token.string)
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return "\n".join(found)


def faults(text: str, suffix: str = "") -> list[str]:
    """What a text cites that is not there."""
    flat = re.sub(r"\s*\n\s*(?://[/!]? ?|# ?)?", " ", text)
    wrong = [f"{name}: not in the repository" for name in ELSEWHERE if name in flat]
    wrong += [f"{found[0]}: not in the repository" for found in UNNAMED.finditer(flat)]
    for page, numbers in CITED.findall(flat):
        if not (SPEC / f"{page}.md").is_file():
            wrong.append(f"spec/{page}: no such page")
            continue
        wrong += [f"spec/{page} {one}: no such heading" for one in parts(numbers) if not is_there(page, one)]
    for _, numbers in PROFILE.findall(flat):
        wrong += [f"seg/1 {one}: no such heading" for one in parts(numbers) if not is_there("seg-1", one)]
    for path, heading in PATH.findall(flat):
        if not (REPOSITORY / "docs" / path).is_file():
            wrong.append(f"docs/{path}: no such page")
        elif heading and heading not in headings(path):
            wrong.append(f"docs/{path}: no heading {heading}")
    for several in CLAUSE.findall(flat):
        ids = [id_.rstrip(".") for id_ in re.split(", | to ", several) if id_]
        wrong += [f"IEF {id_}: not in docs/conformance.md" for id_ in ids if id_ not in clauses()]
    said = CITED.sub("", CLAUSE.sub("", comments(text, suffix)))
    wrong += [f"{id_}: no such row" for id_ in ROW.findall(said) if id_ not in rows()]
    return wrong


def parts(numbers: str) -> list[str]:
    return re.split(", | and | to ", numbers)


def files() -> list[Path]:
    found = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    found += [path for path in REPOSITORY.iterdir() if path.suffix in (".md", ".toml") or path.name == "Makefile"]
    names = {path: path.relative_to(REPOSITORY).as_posix() for path in found}
    return sorted(
        path
        for path, name in names.items()
        if path.is_file()
        and path.suffix in SUFFIXES
        and not {"target", "corpus", "vectors"}.intersection(path.parts)
        and not name.startswith(WITHOUT)
    )


def test_everything_that_is_cited_is_there() -> None:
    wrong = {
        path.relative_to(REPOSITORY).as_posix(): found
        for path in files()
        if (found := faults(path.read_text(encoding="utf-8"), path.suffix))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("checked first (spec/acces 3)", "spec/acces: no such page"),
        ("checked first (spec/access 99)", "spec/access 99: no such heading"),
        ("checked first (spec/access 1.3,\n    9.9)", "spec/access 9.9: no such heading"),
        ("// checked first (spec/access\n    // 99)", "spec/access 99: no such heading"),
        ("dripped (spec/hostile-input F99)", "spec/hostile-input F99: no such heading"),
        ("pieces (seg/1 9.7)", "seg/1 9.7: no such heading"),
        ("(docs/spec/nowhere.md)", "docs/spec/nowhere.md: no such page"),
        ('(docs/spec/patient-identity.md, "Nowhere")', "docs/spec/patient-identity.md: no heading Nowhere"),
        ("the purpose is known (IEF A4.9)", "IEF A4.9: not in docs/conformance.md"),
        ("as fhir-au 1.3 says", "fhir-au: not in the repository"),
        ('(architecture "Bytes")', 'architecture ": not in the repository'),
    ],
)
def test_what_is_not_there_is_found(text: str, fault: str) -> None:
    assert faults(text) == [fault]


@pytest.mark.parametrize(
    ("text", "suffix"), [('"""Slow (F99)."""', ".py"), ("x = 1  # F99", ".py"), ("/// F99", ".rs")]
)
def test_a_row_that_is_not_there_is_found_in_a_comment(text: str, suffix: str) -> None:
    assert faults(text, suffix) == ["F99: no such row"]


@pytest.mark.parametrize(
    "text",
    [
        "spec/access 1 to 3, and 6.1",
        "spec/hostile-input 1, F, K3",
        "seg/1 13.1, 16",
        '(docs/spec/patient-identity.md, "The IHI inside DICOM")',
        "IEF CAP3, RG-A1; RFC 9449 4.3",
    ],
)
def test_what_is_there_is_not_complained_of(text: str) -> None:
    assert faults(text) == []


def test_each_fault_with_a_number_is_cited() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in files() if path.suffix == ".py")
    assert [id_ for id_ in rows() if id_.startswith("X") and f"spec/hostile-input {id_}" not in texts] == []


def test_clauses_are_cited_in_the_code() -> None:
    """The form of a citation has not changed under this test."""
    texts = "".join(path.read_text(encoding="utf-8") for path in files() if path.suffix in (".py", ".rs"))
    cited = {id_.rstrip(".") for several in CLAUSE.findall(texts) for id_ in re.split(", | to ", several) if id_}
    assert {"A4.3", "CAP5.5", "RG-A1"} <= cited
