"""The sessions in the README are what the commands print, figures aside; `UPDATE_README=1` writes them anew.

A session stands between `<!-- session NAME -->` and `<!-- end -->`. Its `$` lines are run in a folder that holds one
study in `study/`; the rest is compared with what they print, numbers, key ids and places made equal.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mdg.sandbox.phantom import write_phantom

REPOSITORY = Path(__file__).resolve().parent.parent.parent
README = REPOSITORY / "README.md"
SESSION = re.compile(r"<!-- session (\w+) -->\n```(?:console|text)\n(.*?)```\n<!-- end -->", re.DOTALL)


def sessions() -> dict[str, str]:
    return dict(SESSION.findall(README.read_text(encoding="utf-8")))


def write(name: str, text: str) -> None:
    page = README.read_text(encoding="utf-8")
    README.write_text(
        SESSION.sub(lambda found: found[0].replace(found[2], text) if found[1] == name else found[0], page),
        encoding="utf-8",
    )


SAME = [
    (r"(?<![\w-])[\w-]{43}(?![\w-])", "KID"),
    (r"\S+(/demo/\S+)", r"…\1"),
    (r"\d[\d,.]*", "N"),
    (r" +", " "),
]


def normalised(text: str) -> list[str]:
    """Lines without what differs from run to run: key ids, places, figures and how far they are apart."""
    for pattern, same in SAME:
        text = re.sub(pattern, same, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def run(command: str, folder: Path) -> str:
    """What one `mdg …` command prints, output and errors as a terminal shows them."""
    program, *arguments = shlex.split(command)
    assert program == "mdg"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MDG_")}
    done = subprocess.run(
        [sys.executable, "-m", "mdg.cli", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(REPOSITORY / "python"), "XDG_DATA_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=180,
    )
    return done.stdout


def check(name: str, there: str) -> None:
    if os.environ.get("UPDATE_README") == "1":
        write(name, there)
    assert normalised(sessions()[name]) == normalised(there)


def test_the_session_by_hand_is_what_the_commands_print(tmp_path: Path) -> None:
    write_phantom(tmp_path / "study")
    commands = re.findall(r"^\$ (mdg .+)$", sessions()["hand"], re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["keygen", "keygen", "pack", "verify", "open"]
    check("hand", "\n".join(f"$ {command}\n{run(command, tmp_path)}" for command in commands))


def test_the_demo_is_what_the_demo_prints(tmp_path: Path) -> None:
    there = run("mdg demo", tmp_path)
    assert there.endswith("demo: ok\n")
    check("demo", there.replace(str(tmp_path), "~/.local/share"))


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
