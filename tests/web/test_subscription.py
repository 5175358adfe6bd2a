"""Subscriptions at the door of a real gateway, with a real receiver: from the request to the notification."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.fhir.test_subscription import asked
from tests.identities import write_identity_csv
from tests.receiver import event_of, parameters, receiving, until

from mdg.cli.serve import folder_source
from mdg.model.identity import HpiO, Ihi
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import ISSUER, PATIENT_ID, write_phantom
from mdg.sources import watcher

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
CRUD = ("system/Subscription.crud",)
ON = {"subscription": True}


async def subscribe(consumer: Any, endpoint: str, *, ihi: Ihi = EXAMPLE_IHI, **changed: Any) -> Any:
    resource = asked(criterion=f"patient:identifier={Ihi.system}|{EXAMPLE_IHI}") | changed
    resource["channel"]["endpoint"] = endpoint
    return await consumer.ask("POST", "/fhir/Subscription", scopes=CRUD, ihi=ihi, json=resource)


async def test_a_subscriber_is_told_of_a_new_study_and_can_read_it(start: Start, tmp_path: Path, phantom: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(phantom, images)
    async with (
        receiving() as receiver,
        start(
            sources=folder_source([images]), capabilities=ON, subscribers={EXAMPLE_CONSUMER: (receiver.origin,)}
        ) as gateway,
    ):
        consumer = gateway.consumer
        made = await subscribe(consumer, receiver.url)
        assert made.status_code == 201, made.text
        assert made.json()["status"] == "requested"
        own = made.headers["location"].removeprefix(gateway.url)
        await until(lambda: receiver.kinds == ["handshake"])
        await anyio.to_thread.run_sync(lambda: write_phantom(images / "new", seed=9, slices=1, patient_id=PATIENT_ID))
        await watcher.scan(gateway.rooms.sources)
        await until(lambda: len(receiver.taken) == 1)
        (focus,) = receiver.taken.values()
        assert focus is not None
        study = (await consumer.ask("GET", focus.removeprefix(gateway.url))).json()
        assert study["subject"]["identifier"]["value"] == EXAMPLE_IHI
        assert event_of(receiver.got[-1])
        for method in ("GET", "POST"):
            told = await consumer.ask(method, f"{own}/$status", scopes=CRUD)
            assert parameters(told.json())["events-since-subscription-start"] == "1"
        read = await consumer.ask("GET", own, scopes=CRUD)
        assert (read.status_code, read.json()["status"], "secret" in read.text) == (200, "active", False)
        gone = await consumer.ask("DELETE", own, scopes=CRUD)
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await consumer.ask("GET", own, scopes=CRUD)).status_code == 404
        assert ISSUER not in str(receiver.got)
        assert EXAMPLE_IHI not in str(receiver.got)


async def test_a_study_that_gets_its_patient_later_is_told_then(start: Start, tmp_path: Path, phantom: Path) -> None:
    images, confirmed = tmp_path / "images", tmp_path / "confirmed.csv"
    shutil.copytree(phantom, images)
    await anyio.to_thread.run_sync(lambda: write_phantom(images / "new", seed=9, slices=1, patient_id="NOBODY-YET"))
    write_identity_csv(confirmed, {PATIENT_ID: EXAMPLE_IHI, "NOBODY-YET": EXAMPLE_IHI})
    async with (
        receiving() as receiver,
        start(
            sources=folder_source([images]), capabilities=ON, subscribers={EXAMPLE_CONSUMER: (receiver.origin,)}
        ) as gateway,
    ):
        await subscribe(gateway.consumer, receiver.url)
        await until(lambda: receiver.kinds == ["handshake"])
        await gateway.rooms.identities.load_csv(confirmed)
        await until(lambda: len(receiver.taken) == 1)
        (focus,) = receiver.taken.values()
        assert focus is not None
        study = (await gateway.consumer.ask("GET", focus.removeprefix(gateway.url))).json()
        assert study["subject"]["identifier"]["value"] == EXAMPLE_IHI


async def test_anothers_subscription_is_answered_like_one_that_is_not_there(start: Start) -> None:
    async with receiving() as receiver:
        agreed = {EXAMPLE_CONSUMER: (receiver.origin,), made_up(HpiO, "other"): (receiver.origin,)}
        async with start(capabilities=ON, subscribers=agreed) as gateway:
            own = (await subscribe(gateway.consumer, receiver.url)).headers["location"].removeprefix(gateway.url)
            other = await gateway.new_consumer("other")
            for path in (own, "/fhir/Subscription/none", f"{own}/$status"):
                for method in ("GET", "DELETE") if "$" not in path else ("GET", "POST"):
                    answer = await other.ask(method, path, scopes=CRUD)
                    assert answer.status_code == 404, (method, path)
            again = await gateway.consumer.ask("GET", own, scopes=CRUD)
            assert again.status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"criteria": "https://w3id.org/mdg/SubscriptionTopic/study"}, 422, "subscription-filter"),
        ({"_criteria": None}, 422, "subscription-filter"),
        ({"end": "2020-01-01T00:00:00Z"}, 422, "subscription-end"),
    ],
)
async def test_what_is_not_offered_is_refused(start: Start, changed: dict[str, Any], status: int, reason: str) -> None:
    async with start(capabilities=ON, subscribers={EXAMPLE_CONSUMER: ("http://127.0.0.1:1029",)}) as gateway:
        answer = await subscribe(gateway.consumer, "http://127.0.0.1:1029/", **changed)
        assert answer.status_code == status
        (record,) = await gateway.records(answer.headers["x-request-id"])
        assert record["outcomeDesc"] == reason


async def test_a_body_that_is_no_json_object_is_invalid(start: Start) -> None:
    async with start(capabilities=ON) as gateway:
        for content, type_, status in (
            (b"[]", "application/fhir+json", 400),
            (b'{"a":1,"a":2}', "application/fhir+json", 400),
            (b"{}", "application/fhir+xml", 415),
            (b"{}" + b" " * 20_000, "application/fhir+json", 413),
        ):
            answer = await gateway.consumer.ask(
                "POST", "/fhir/Subscription", scopes=CRUD, headers={"Content-Type": type_}, content=content
            )
            assert answer.status_code == status, type_


async def test_the_statement_names_what_is_offered_and_nothing_when_it_is_off(start: Start) -> None:
    async with start(capabilities=ON) as gateway:
        statement = (await gateway.consumer.http.get(f"{gateway.url}/fhir/metadata")).json()
        (entry,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Subscription"]
        assert [one["code"] for one in entry["interaction"]] == ["create", "delete", "read"]
        assert [one["valueCanonical"].rpartition("/")[2] for one in entry["extension"]] == ["patient-imaging", "study"]
        assert entry["supportedProfile"][0].endswith("/backport-subscription")
        assert [one["name"] for one in entry["operation"]] == ["status"]


async def test_what_is_off_is_not_there(start: Start) -> None:
    async with start() as gateway:
        statement = await gateway.consumer.http.get(f"{gateway.url}/fhir/metadata")
        assert "Subscription" not in statement.text
        assert (await subscribe(gateway.consumer, "http://127.0.0.1:1029/")).status_code == 404
        assert (await gateway.consumer.ask("GET", "/fhir/Subscription/x", scopes=CRUD)).status_code == 404
