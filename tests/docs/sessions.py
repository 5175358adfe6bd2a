"""Types what a page tells its reader to type, in terminals, and compares what is shown with what the page shows.

A session stands between `<!-- session NAME -->` and `<!-- end -->`. A line that begins with `$` is typed, `^C` is the
key of that name, and the other lines are what the terminal shows. The words after NAME say more:

- `terminal=2`: the second window of the reader; each window is a shell of its own in the same folder.
- `stays`: the last command does not end in this session: a gateway, a receiver. A later session of its terminal goes on
  with what it prints, or ends it by `^C`.

A file that the reader saves stands between `<!-- file NAME -->` and `<!-- end -->`.

Identifiers and ports are this reader's own: those that an earlier session of the page shows are typed as they were
really shown. Other figures may differ. `UPDATE_DOCS=1` writes what is shown into the page.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mdg.cli.stage import free_port

REPOSITORY = Path(__file__).resolve().parent.parent.parent
UPDATE = os.environ.get("UPDATE_DOCS") == "1"
LIMIT = 120.0
"""Seconds that a command may take; far beyond what it takes, so that a hanging one ends."""
QUIET = 8.0
"""Seconds without a line after which a command that stays has said what it says, when the page is written anew."""
PROMPT = "\x1e"
"""What the shell of a terminal prints when it waits for a command: a character that no command prints."""

BLOCK = re.compile(r"<!-- (session|file) (\S+)((?: [^>]*)?) -->\n```\w+\n(.*?)```\n<!-- end -->", re.DOTALL)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OWN = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b|\b8003\d{12}\b")
"""Identifiers that each reader has of their own: UUIDs, ids of FHIR resources, and the HPI-O of a consumer."""
SAME = [
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (OWN.pattern, "ID"),
    (r"(?<![\w-])[\w-]{43}(?![\w-])", "KID"),
    (r"\S+(/demo/\S+)", r"…\1"),
    (r"\d[\d,.]*", "N"),
    (r" +", " "),
]


def normalised(text: str) -> list[str]:
    """Lines without what differs from run to run: identifiers, key ids, figures, and what is empty."""
    for pattern, same in SAME:
        text = re.sub(pattern, same, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@dataclass
class Session:
    """One block of a page: what is typed, and under each command what it shows."""

    name: str
    terminal: str
    stays: bool
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(typed, shown); typed is empty where a command that runs already goes on."""

    def __str__(self) -> str:
        """As the page writes it: an empty line follows what a command shows."""
        text = ""
        for typed, shown in self.steps:
            text += "" if not typed else "^C\n" if typed == "^C" else f"$ {typed}\n"
            text += f"{shown.strip()}\n\n" if shown.strip() else ""
        return text.strip() + "\n"


class Page:
    """The sessions and files of one page."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")

    def blocks(self, kind: str) -> Iterator[tuple[str, str, str]]:
        """(name, further words, content) of each block, in order."""
        return ((name, words, body) for found, name, words, body in BLOCK.findall(self.text) if found == kind)

    @property
    def sessions(self) -> list[Session]:
        """In the order of the page."""
        return [_session(name, words, body) for name, words, body in self.blocks("session")]

    @property
    def files(self) -> dict[str, str]:
        """Name to content."""
        return {name: body for name, _, body in self.blocks("file")}

    def shown(self, name: str) -> str:
        """What the page shows as session `name`."""
        return next(body for found, _, body in self.blocks("session") if found == name)

    def compare(self, name: str, there: str) -> None:
        """Fails unless the session `name` shows `there`; with UPDATE_DOCS=1 it is made so."""
        if UPDATE:
            start = self.text.index(self.shown(name), self.text.index(f"<!-- session {name}"))
            self.text = self.text[:start] + there + self.text[start + len(self.shown(name)) :]
            self.path.write_text(self.text, encoding="utf-8")
        assert normalised(self.shown(name)) == normalised(there), name


def _session(name: str, words: str, body: str) -> Session:
    terminal = re.search(r"terminal=(\w+)", words)
    session = Session(name, terminal[1] if terminal else "1", "stays" in words.split())
    for line in body.splitlines():
        if line.startswith("$ ") or line == "^C":
            session.steps.append((line.removeprefix("$ "), ""))
        elif line.startswith("> "):
            typed, shown = session.steps.pop()
            session.steps.append((f"{typed}\n> {line.removeprefix('> ')}", shown))
        else:
            typed, shown = session.steps.pop() if session.steps else ("", "")
            session.steps.append((typed, f"{shown}{line}\n" if line else shown))
    return session


class Terminal:
    """An interactive shell at a terminal of its own, with `mdg` on its path."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        flags = termios.tcgetattr(slave)
        flags[3] &= ~termios.ECHO
        flags[1] &= ~termios.ONLCR
        termios.tcsetattr(slave, termios.TCSANOW, flags)
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=folder,
            env={**environment, "PS1": PROMPT, "PS2": "", "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 -- makes it the controlling one
        )
        os.close(slave)
        self._kept = ""
        self.wait_for_prompt()

    def type(self, command: str) -> None:
        """Types one command, or `^C`."""
        os.write(self._master, b"\x03" if command == "^C" else command.replace("\n> ", "\n").encode() + b"\n")

    def wait_for_prompt(self, *, raw: bool = False) -> str:
        """What is shown until the command has ended; `raw` with the escape sequences of the terminal."""
        ends = time.monotonic() + LIMIT
        while PROMPT not in self._kept:
            assert self._read(ends - time.monotonic()), f"no end of:\n{self._kept}"
        shown, _, self._kept = self._kept.partition(PROMPT)
        return shown if raw else ESCAPES.sub("", shown)

    def wait_for_lines(self, count: int) -> str:
        """The first `count` lines that a command that goes on running shows."""
        ends = time.monotonic() + LIMIT
        while self._kept.count("\n") < count or UPDATE:
            assert PROMPT not in self._kept, f"it ended:\n{self._kept}"
            if not self._read(QUIET if UPDATE and self._kept else ends - time.monotonic()):
                assert UPDATE, f"not {count} lines:\n{self._kept}"
                count = self._kept.count("\n")
                break
        lines = self._kept.splitlines(keepends=True)
        self._kept = "".join(lines[count:])
        return ESCAPES.sub("", "".join(lines[:count]))

    def close(self) -> None:
        """Ends all commands that still run, as closing the window does."""
        self.type("^C")
        for _ in range(100):
            if PROMPT in self._kept:
                break
            self._read(0.1)
        self._shell.send_signal(signal.SIGHUP)
        os.close(self._master)
        self._shell.wait(10)

    def _read(self, seconds: float) -> bool:
        """Takes what is there, or comes within `seconds`; whether anything did."""
        if not select.select([self._master], [], [], max(seconds, 0))[0]:
            return False
        self._kept += os.read(self._master, 65536).decode(errors="replace")
        return True


@contextmanager
def desk(home: Path) -> Iterator[dict[str, str]]:
    """The environment of a reader whose home is the new folder `home`: nothing is set, and `mdg` is this one."""
    (home / "bin").mkdir(parents=True)
    mdg = home / "bin" / "mdg"
    mdg.write_text(f'#!/bin/sh\nexec {sys.executable} -m mdg.cli "$@"\n')
    mdg.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MDG_", "XDG_"))}
    yield {
        **kept,
        "PATH": f"{mdg.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "python"),
        "HOME": str(home),
    }


def follow(page: Page, home: Path, *, ports: Sequence[int] = (), only: Sequence[str] = ()) -> None:
    """Does what the page says from top to bottom and compares each session. `ports` are those that the page names; free
    ones are used. `only` names sessions, where the page has others that are no commands."""
    shutil.rmtree(home, ignore_errors=True)
    own = {str(port): str(free_port()) for port in ports}
    terminals: dict[str, Terminal] = {}
    with desk(home) as environment:
        try:
            for kind, name, words, body in BLOCK.findall(page.text):
                if kind == "file":
                    (home / name).write_text(_replaced(body, own), encoding="utf-8")
                    continue
                if only and name not in only:
                    continue
                session = _session(name, words, body)
                terminal = terminals.get(session.terminal) or Terminal(home, environment)
                terminals[session.terminal] = terminal
                there = Session(name, session.terminal, session.stays)
                for number, (typed, shown) in enumerate(session.steps, start=1):
                    if typed:
                        terminal.type(_replaced(typed, own))
                    last = session.stays and number == len(session.steps)
                    lines = _lines(terminal, typed, shown, last)
                    own |= dict(zip(OWN.findall(shown), OWN.findall(lines), strict=False))
                    there.steps.append((typed, _replaced(lines, {now: before for before, now in own.items()})))
                page.compare(name, str(there).replace(str(home), "/home/you"))
        finally:
            for terminal in terminals.values():
                terminal.close()


def _lines(terminal: Terminal, typed: str, shown: str, stays: bool) -> str:
    if stays:
        return terminal.wait_for_lines(shown.count("\n"))
    there = terminal.wait_for_prompt()
    return "" if typed == "^C" else there  # what a gateway logs while it runs and stops is no part of the page


def _replaced(text: str, own: Mapping[str, str]) -> str:
    for before, now in own.items():
        text = re.sub(rf"(?<![\w-]){re.escape(before)}(?![\w-])", now, text)
    return text
