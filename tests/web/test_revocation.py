"""The operator's door of revocations, over HTTP: what it refuses from now on, what it records, what it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from mdg.cli.serve import folder_source
from mdg.sandbox.phantom import write_phantom
from mdg.web.jmix import bulk

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
RETRIEVE = ("urn:ief:scope:imaging.retrieve",)


async def revoke(gateway: Any, kind: str, value: str) -> Any:
    return await gateway.consumer.http.post(f"{gateway.admin}/revocations", json={"kind": kind, "value": value})


async def test_a_revoked_organisation_is_refused_also_after_a_restart_until_the_revocation_is_ended(
    start: Start,
) -> None:
    async with start() as gateway:
        organisation = gateway.consumer.organisation
        assert (await gateway.consumer.search()).status_code == 200
        made = await revoke(gateway, "organisation", organisation)
        assert made.status_code == 201, made.text
        refused = await gateway.consumer.search()
        (record,) = await gateway.records(refused.headers["x-request-id"])
        assert (refused.status_code, record["outcomeDesc"]) == (401, "token-revoked")
    async with start() as gateway:
        assert (await gateway.consumer.search()).status_code == 401
        ended = await gateway.consumer.http.delete(f"{gateway.admin}/revocations/{made.json()['id']}")
        assert ended.status_code == 204
        assert (await gateway.consumer.search()).status_code == 200
        again = await gateway.consumer.http.delete(f"{gateway.admin}/revocations/{made.json()['id']}")
        assert again.status_code == 404


async def test_each_change_and_each_look_is_on_record(start: Start) -> None:
    async with start() as gateway:
        made = await revoke(gateway, "client", "client-4711")
        shown = await gateway.consumer.http.get(f"{gateway.admin}/revocations")
        ended = await gateway.consumer.http.delete(f"{gateway.admin}/revocations/{made.json()['id']}")
        records = [
            record
            for answer in (made, shown, ended)
            for record in await gateway.records(answer.headers["x-request-id"])
        ]
    assert shown.json() == {"revocations": [made.json()]}
    assert [(one["subtype"][0]["code"], one["outcome"]) for one in records] == [
        ("110129", "0"),
        ("read", "0"),
        ("110129", "0"),
    ]
    for record, change in ((records[0], "revoked"), (records[2], "ended")):
        details = {one["type"]: one["valueString"] for one in record["entity"][-1]["detail"]}
        assert details == {"change": change, "client": "client-4711", "revocation": made.json()["id"]}
        assert [agent["who"]["display"] for agent in record["agent"] if agent["requestor"]] == ["operator"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"kind": "client"}',
        b'{"kind": "client", "value": ""}',
        b'{"kind": "client", "value": 4711}',
        b'{"kind": "somebody", "value": "x"}',
        b'{"kind": "organisation", "value": "8003620833333333"}',
        b'{"kind": "practitioner", "value": "x"}',
        b'{"kind": "client", "value": "x", "until": "tomorrow"}',
        b'{"kind": "client", "value": "x", "value": "y"}',
    ],
)
async def test_what_no_token_can_have_is_not_revoked(start: Start, body: bytes) -> None:
    async with start() as gateway:
        answer = await gateway.consumer.http.post(
            f"{gateway.admin}/revocations", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert not await gateway.rooms.revocations.all()


@pytest.mark.parametrize("how", ["revoked", "suspended"])
async def test_a_running_download_ends_when_its_requester_no_longer_counts(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The envelope is larger than what the kernel holds for a reader that waits."""
    monkeypatch.setattr(bulk, "DECIDE_EVERY", 1 << 20)
    monkeypatch.setattr("mdg.access.requester.STILL", 0.0)
    write_phantom(tmp_path / "images" / "ct", slices=40)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        consumer, received = gateway.consumer, [0]
        found = (await consumer.search()).json()["entry"][0]["resource"]["identifier"][0]["value"]
        path = f"/api/jmix?studyInstanceUid={found.removeprefix('urn:oid:')}"
        headers = await consumer.credentials("GET", path, RETRIEVE)
        async with consumer.http.stream("GET", gateway.url + path, headers=headers) as answer:
            length = int(answer.headers["content-length"])
            pieces = answer.aiter_raw()
            received.append(len(await anext(pieces)))
            if how == "revoked":
                assert (await revoke(gateway, "organisation", consumer.organisation)).status_code == 201
            else:
                address = f"{gateway.rooms.directory_url}/organisations/{consumer.organisation}"
                suspended = await consumer.http.post(address, data={"status": "suspended"})
                assert suspended.status_code == 200, suspended.text
            with pytest.raises(httpx2.RemoteProtocolError):
                received += [len(piece) async for piece in pieces]
    async with start(
        sources=folder_source([tmp_path / "images"])
    ) as gateway:  # a stop ends after the records of what ran
        end = (await gateway.records(answer.headers["x-request-id"]))[-1]
    details = {one["type"]: one["valueString"] for one in end["entity"][-1]["detail"]}
    assert (end["outcome"], end["outcomeDesc"]) == ("8", "aborted-requester")
    assert sum(received) < length
    assert int(details["bytes"]) < length


async def test_the_download_of_a_reader_that_takes_next_to_nothing_ends_as_soon(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoked while the connection takes nothing of a piece: what of it was not yet in the kernel does not leave."""
    monkeypatch.setattr(bulk, "DECIDE_AFTER", 0.1)
    write_phantom(tmp_path / "images" / "ct", slices=40)
    async with start(sources=folder_source([tmp_path / "images"])) as gateway:
        consumer = gateway.consumer
        found = (await consumer.search()).json()["entry"][0]["resource"]["identifier"][0]["value"]
        path = f"/api/jmix?studyInstanceUid={found.removeprefix('urn:oid:')}"
        headers = await consumer.credentials("GET", path, RETRIEVE)
        host, port = gateway.url.removeprefix("http://").split(":")
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send("\r\n".join([*lines, "", ""]).encode())
            received = bytearray(await stream.receive(4096))
            head = bytes(received.partition(b"\r\n\r\n")[0]).decode().lower().split("\r\n")
            shown = dict(line.split(": ", 1) for line in head[1:])
            assert (await revoke(gateway, "organisation", consumer.organisation)).status_code == 201
            with anyio.fail_after(30):
                while (records := await gateway.records(shown["x-request-id"]))[-1]["outcome"] == "0":
                    received += await stream.receive(64)
                    await anyio.sleep(0.01)
                while piece := await _more(stream):
                    received += piece
    details = {one["type"]: one["valueString"] for one in records[-1]["entity"][-1]["detail"]}
    body = len(received.partition(b"\r\n\r\n")[2])
    assert (records[-1]["outcome"], records[-1]["outcomeDesc"]) == ("8", "aborted-requester")
    assert 0 < body < int(details["bytes"]) < int(shown["content-length"])


async def _more(stream: anyio.abc.ByteStream) -> bytes:
    """The next bytes, none at the end."""
    try:
        return await stream.receive(1 << 20)
    except anyio.EndOfStream:
        return b""
