"""The IEF Capability Statement: one document for people and machines, with its five items always."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from mdg.sandbox.identifiers import EXAMPLE_PROVIDER
from mdg.web.ief_statement import HEADINGS, LABELS
from mdg.web.page import POLICY

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
STATEMENT = "/ief-capability-statement"
ALL_ON = {"registration": True, "subscription": True}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_the_page_carries_the_document_and_says_each_item(start: Start) -> None:
    roadmap = {"discovery": "2027-06-30", "retrieval": "2028-06-30", "registration": "2027-03-31"}
    async with start(capabilities=ALL_ON, roadmap=roadmap, contact="<b>a@example.org</b>") as gateway:
        http = gateway.consumer.http
        document = (await http.get(f"{gateway.url}{STATEMENT}")).json()
        page = await http.get(f"{gateway.url}/.well-known{STATEMENT}", headers=BROWSER)
        registry = gateway.rooms.directory_url
    assert document["organisation"]["hpio"] == EXAMPLE_PROVIDER
    assert document["organisation"]["contact"] == "<b>a@example.org</b>"
    assert document["discovery"]["current"]["url"] == f"{gateway.url}/fhir"
    assert document["retrieval"]["automated_healthconnect_by"] == "2028-06-30"
    assert document["registration"] == {
        "registers_with_healthconnect": True,
        "registries": [registry],
        "healthconnect_by": "2027-03-31",
    }
    assert document["subscription"]["healthconnect_by"] is None
    embedded = re.search('<script type="application/json" id="ief">(.*?)</script>', page.text)
    assert embedded is not None
    assert json.loads(embedded[1]) == document
    assert re.findall('<h2 id="([a-z]+)">', page.text) == list(HEADINGS)
    assert f"<dt>Organisation number (HPI-O)</dt><dd>{EXAMPLE_PROVIDER}</dd>" in page.text
    assert f'<a href="{gateway.url}/fhir" rel="noreferrer">' in page.text
    assert "<dt>Through HealthConnect from</dt><dd>no date yet</dd>" in page.text
    assert "<b>" not in page.text
    for date in roadmap.values():
        assert f"<dd>{date}</dd>" in page.text
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["link"] == f'<{STATEMENT}.json>; rel="alternate"'


async def test_cap5_the_five_items_stay_when_a_capability_is_off_and_say_from_when_it_will_be_on(start: Start) -> None:
    """An organisation publishes the statement in its first year, before anything is switched on: that is its use."""
    roadmap = {"registration": "2027-03-31", "discovery": "2028-03-31", "retrieval": "2029-03-31"}
    off = dict.fromkeys(("discovery", "retrieval", "registration", "subscription"), False)
    async with start(capabilities=off, roadmap=roadmap) as gateway:
        document = (await gateway.consumer.http.get(f"{gateway.url}{STATEMENT}.json")).json()
        page = (await gateway.consumer.http.get(f"{gateway.url}{STATEMENT}.html")).text
    assert document["discovery"] == {"current": None, "automated_healthconnect_by": "2028-03-31"}
    assert document["retrieval"] == {"current": None, "automated_healthconnect_by": "2029-03-31"}
    assert document["registration"] == {
        "registers_with_healthconnect": False,
        "registries": [],
        "healthconnect_by": "2027-03-31",
    }
    assert document["subscription"] == {"url": None, "healthconnect_by": None}
    assert re.findall('<h2 id="([a-z]+)">', page) == list(HEADINGS)
    assert page.count("<dt>Now</dt><dd>not by this gateway</dd>") == 2
    assert page.count("not offered") == 1
    for date in roadmap.values():
        assert f"<dd>{date}</dd>" in page


@pytest.mark.parametrize("off", list(HEADINGS))
async def test_what_is_switched_off_has_no_address_in_it(start: Start, off: str) -> None:
    on = {"discovery": True, "retrieval": True} | ALL_ON | {off: False}
    if off == "discovery":  # whose studies the two others name
        on |= {"registration": False, "subscription": False}
    async with start(capabilities=on) as gateway:
        document = (await gateway.consumer.http.get(f"{gateway.url}{STATEMENT}.json")).json()
    addresses = {
        "discovery": document["discovery"]["current"],
        "retrieval": document["retrieval"]["current"],
        "registration": document["registration"]["registries"],
        "subscription": document["subscription"]["url"],
    }
    assert {item for item, address in addresses.items() if address} == {item for item, offered in on.items() if offered}


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json, text/html;q=0.1", False),
        ("text/html, application/json;q=0.9", True),
        ("text/html;q=0.1, */*;q=0.5", False),
        ("text/*, application/json;q=0.5", True),
        ("text/html, application/json", False),
        (BROWSER["Accept"], True),
    ],
)
async def test_the_weights_of_accept_say_whether_it_is_a_page(start: Start, accept: str, page: bool) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.get(f"{gateway.url}{STATEMENT}", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"].startswith("text/html")) == (200, page)


async def test_an_unchanged_statement_is_not_sent_again(start: Start) -> None:
    async with start() as gateway:
        address = f"{gateway.url}{STATEMENT}.json"
        first = await gateway.consumer.http.get(address)
        again = await gateway.consumer.http.get(address, headers={"If-None-Match": first.headers["etag"]})
        page = await gateway.consumer.http.get(address.replace("json", "html"))
        refused = await gateway.consumer.http.get(address, headers={"Accept": "image/png"})
    assert (again.status_code, again.content) == (304, b"")
    assert page.headers["etag"] != first.headers["etag"]
    assert refused.status_code == 406


async def test_each_name_of_the_document_has_words_for_people(start: Start) -> None:
    async with start(capabilities=ALL_ON) as gateway:
        page = (await gateway.consumer.http.get(f"{gateway.url}{STATEMENT}.html")).text
    shown = set(re.findall("<dt>(.*?)</dt>", page)) - {"FHIR CapabilityStatement"}
    assert shown == set(LABELS.values()) - {LABELS["current"]}, "that one stands where a mechanism does not"
    assert "<dt>Contact</dt><dd>none given</dd>" in page
