"""What a person at a terminal sees of the log while a gateway starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.docs.sessions import Terminal

START = """
import time, structlog
from mdg.cli.terminal import progress
from mdg.web.log import configure
configure()
log = structlog.get_logger()
with progress("indexing") as show:
    show(1, 0)
    time.sleep(0.3)  # the bar is drawn
    log.info("one-line")
    time.sleep(0.3)  # and drawn again
"""


def test_a_line_of_the_log_stands_above_the_progress_bar_and_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(START)
    terminal = Terminal(tmp_path, os.environ)
    try:
        terminal.type(f"TERM=xterm COLUMNS=100 {sys.executable} start.py")
        shown = terminal.wait_for_prompt(raw=True)
    finally:
        terminal.close()
    assert "indexing" in shown
    (line,) = (line for line in shown.splitlines() if "one-line" in line)
    seen = line.rpartition("\x1b[2K")[2]  # what follows the last erasing of the line
    assert "one-line" in seen
    assert "indexing" not in seen.partition("one-line")[0]
