"""`docs/reference/access.md` names every rule, in the order in which they are asked."""

from __future__ import annotations

import re
from pathlib import Path

from mdg.access.rules import RULES

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "access.md"


def test_each_rule_has_its_line() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Rules")[1]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [rule.name for rule in RULES]


def test_each_rule_is_the_file_of_its_name() -> None:
    for rule in RULES:
        assert type(rule).__module__ == f"mdg.access.rules.{rule.name}"
