"""`mdg audit list`: who looked at whom, for a person at a terminal and for export."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.access.test_decide import SUBJECT
from tests.authority import CUSTODIAN, ORGANISATION, PATIENT
from tests.cli.conftest import Mdg

from mdg.audit import Agent, Audit
from mdg.audit.event import to_fhir
from mdg.cli.audit import _line
from mdg.model.caller import Caller
from mdg.model.event import Event, Kind, Outcome
from mdg.store import Store


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """The data folder of a gateway that has answered one search and refused another."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)

    async def fill() -> None:
        async with Store.open(str(data / "mdg.sqlite")) as store:
            audit = Audit(store, CUSTODIAN, Agent("mdg", "0.1", "https://mdg.example.org"))
            asked: dict[str, Any] = {"requester": SUBJECT, "patient": PATIENT, "caller": Caller("192.0.2.7", None)}
            await audit.record(Event(Kind.SEARCH, Outcome.SUCCESS, "req-1", query=b"x", **asked))
            await audit.record(Event(Kind.GRANT, Outcome.REFUSED, "req-2", study_uid="1.2.3", reason="hidden", **asked))
            await audit.record(
                Event(
                    Kind.AUTHENTICATION_FAILED,
                    Outcome.REFUSED,
                    "req-3",
                    reason="no-token",
                    caller=Caller("192.0.2.9", None),
                )
            )

    anyio.run(fill)
    return data


def test_records_are_listed_for_a_person_newest_first(mdg: Mdg, audited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PATIENT}\n"))
    shown = mdg("audit", "list", "--data", audited, "--ihi", "-")
    refused, search = shown.out.splitlines()
    assert re.sub(r"^[\d-]{10}T[\d:]{8}Z", "TIME", refused) == (
        f"TIME  refused  {ORGANISATION}  release granted  IHI …{str(PATIENT)[-4:]}             req-2 (hidden)"
    )
    assert re.search(rf"Z  success  {ORGANISATION}  search +IHI …\d{{4}} +req-1$", search)
    assert str(PATIENT) not in shown.out


def test_a_request_without_a_token_is_listed_by_its_address(mdg: Mdg, audited: Path) -> None:
    newest = mdg("audit", "list", "--data", audited, "--last", "1").out
    assert re.search(r"Z  refused  192\.0\.2\.9         login +req-3 \(no-token\)$", newest.rstrip())


def test_a_record_is_listed_wide_on_demand(mdg: Mdg, audited: Path) -> None:
    _, refused, search = mdg("audit", "list", "--data", audited, "--wide").out.splitlines()
    assert "Disclose Record Lifecycle Event: refused (hidden)" in refused
    assert refused.endswith("from 192.0.2.7  study 1.2.3")
    assert "search-type: success" in search
    assert f"by {SUBJECT.client_id}" in search
    assert str(PATIENT) not in search


def test_a_party_in_several_roles_is_named_once() -> None:
    """The client of a sandbox is an organisation that acts for itself."""
    alone = replace(SUBJECT, client_id=ORGANISATION.uri, subject=ORGANISATION.uri, practitioner=None)
    event = Event(Kind.SEARCH, Outcome.SUCCESS, "req-1", requester=alone)
    line = _line(to_fhir(event, CUSTODIAN, Agent("mdg", "0.1", "https://mdg.example.org"), datetime.now(UTC)))
    assert line.endswith(f"by {ORGANISATION}, at {CUSTODIAN}, purpose TREAT")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((), ["req-3", "req-2", "req-1"]),
        (("--requester", str(ORGANISATION)), ["req-2", "req-1"]),
        (("--requester", SUBJECT.client_id, "--outcome", "success"), ["req-1"]),
        (("--outcome", "refused", "--last", "1"), ["req-3"]),
        (("--since", "2020-01-01"), ["req-3", "req-2", "req-1"]),
    ],
)
def test_records_are_exported_one_a_line(mdg: Mdg, audited: Path, asked: tuple[str, ...], found: list[str]) -> None:
    shown = mdg("audit", "list", "--data", audited, "--json", *asked)
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [event["entity"][0]["what"]["identifier"]["value"] for event in events] == found


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("--until", "2020-01-01"), 1),
        (("--requester", "nobody"), 1),
        (("--since", "yesterday"), 2),
        (("--outcome", "fine"), 2),
        (("--ihi", "8003608000000001"), 2),
    ],
)
def test_no_record_and_no_question_have_exit_codes(mdg: Mdg, audited: Path, asked: tuple[str, ...], code: int) -> None:
    shown = mdg("audit", "list", "--data", audited, *asked)
    assert (shown.code, shown.out) == (code, "")


def test_a_database_of_another_version_is_called_that(mdg: Mdg, audited: Path) -> None:
    """The disk and the rights of the file are in order, and nobody shall look for a fault there."""
    with closing(sqlite3.connect(audited / "mdg.sqlite")) as database:
        database.execute("ALTER TABLE audit RENAME COLUMN event TO another")
    said = mdg("audit", "list", "--data", audited)
    assert said.code == 4
    assert f"{audited / 'mdg.sqlite'}: its tables are not those of this version of mdg" in said.err
    assert "rights" not in said.err
