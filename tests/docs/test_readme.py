"""The sessions in the README are what the commands print, figures aside (`tests/docs/sessions.py`)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.docs.sessions import REPOSITORY, Page, Terminal, desk, follow, normalised

README = REPOSITORY / "README.md"


def test_the_session_by_hand_is_what_the_commands_print(tmp_path: Path) -> None:
    page = Page(README)
    (hand,) = (session for session in page.sessions if session.name == "hand")
    typed = [command.split() for command, _ in hand.steps]
    assert [words[1] for words in typed] == ["sandbox", "keygen", "keygen", "pack", "verify", "open"]
    follow(page, tmp_path / "home", only=["hand"])


def test_the_demo_is_what_the_demo_prints(tmp_path: Path) -> None:
    with desk(tmp_path / "home") as environment:
        terminal = Terminal(tmp_path / "home", environment)
        terminal.type("mdg demo")
        there = terminal.wait_for_prompt()
        terminal.close()
    assert there.endswith("demo: ok\n")
    Page(README).compare("demo", there.replace(str(tmp_path / "home"), "~"))


def test_the_first_screen_speaks_of_no_format() -> None:
    """Whoever opens the page reads what it does for them before they meet an acronym."""
    first = README.read_text(encoding="utf-8").split("<!-- session demo -->")[0]
    prose = re.sub(r"\]\([^)]*\)", "]", first)
    assert len(prose.splitlines()) < 30
    for word in ("JMIX", "DICOM", "FHIR", "JWS", "AES", "ZIP"):
        assert word not in prose


@pytest.mark.parametrize(
    ("a", "b"), [("12 MB", "1,234 MB"), ("x  12", "x 7"), ("key id " + "a" * 43, "key id " + "b" * 43)]
)
def test_figures_are_made_equal(a: str, b: str) -> None:
    assert normalised(a) == normalised(b)


def test_words_are_not_made_equal() -> None:
    assert normalised("signature: full") != normalised("signature: none")
    assert normalised("audit: 3 records") != normalised("audit: 3 rows")
