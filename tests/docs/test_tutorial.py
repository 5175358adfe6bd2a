"""The tutorial and the how-to of subscriptions, typed from top to bottom: what they show is what is shown."""

from __future__ import annotations

from pathlib import Path

from tests.docs.sessions import REPOSITORY, Page, follow

DOCS = REPOSITORY / "docs"


def test_the_first_exchange_goes_as_the_tutorial_says(tmp_path: Path) -> None:
    follow(Page(DOCS / "tutorial" / "first-exchange.md"), tmp_path / "home", ports=[8080])


def test_a_partner_subscribes_and_is_told_as_the_page_says(tmp_path: Path) -> None:
    follow(Page(DOCS / "how-to" / "let-others-subscribe.md"), tmp_path / "home", ports=[8080, 9000])
