"""The audit's rows: durable when `record` returns, in order, salted, and an error when they cannot be written."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from hmac import HMAC
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.authority import CUSTODIAN, ORGANISATION

from mdg._core import canonical_json
from mdg.audit import Agent, Audit
from mdg.audit.record import AUDIT
from mdg.errors import Unavailable
from mdg.model.caller import Caller
from mdg.model.event import Event, Kind, Outcome
from mdg.store import Store

pytestmark = pytest.mark.anyio

AGENT = Agent("mdg", "0.1", "https://mdg.example.org")


def event(request_id: str = "req-1", kind: Kind = Kind.SEARCH) -> Event:
    return Event(kind, Outcome.SUCCESS, request_id)


async def test_a_record_is_there_for_others_when_it_returns(database: str) -> None:
    async with Store.open(database) as store:
        seq = await Audit(store, CUSTODIAN, AGENT).record(event())
        async with Store.open(database, read_only=True) as other, other.read() as connection:
            rows = (await connection.execute(select(AUDIT))).all()
    assert [(row.seq, row.custodian, row.request_id, len(row.salt)) for row in rows] == [(seq, CUSTODIAN, "req-1", 16)]


async def test_records_of_many_at_once_have_numbers_without_gaps_and_salts_of_their_own(database: str) -> None:
    seqs: list[int] = []
    async with Store.open(database) as store:
        audit = Audit(store, CUSTODIAN, AGENT)

        async def one(number: int) -> None:
            seqs.append(await audit.record(event(f"req-{number}")))

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(one, number)
        assert sorted(seqs) == list(range(1, 41))
        assert await audit.count() == 40
        async with store.read() as connection:
            salts = (await connection.execute(select(AUDIT.c.salt))).scalars().all()
        assert len(set(salts)) == 40


async def test_the_records_of_a_request_come_in_order_and_only_of_this_custodian(database: str) -> None:
    async with Store.open(database) as store:
        ours, theirs = Audit(store, CUSTODIAN, AGENT), Audit(store, ORGANISATION, AGENT)
        for kind in (Kind.GRANT, Kind.RELEASE, Kind.RELEASE_END):
            await ours.record(event(kind=kind))
        await ours.record(event("req-2"))
        await theirs.record(event())
        found = await ours.for_request("req-1")
        assert [resource["subtype"][0]["code"] for resource in found] == ["disclose", "110102", "110104"]  # type: ignore[index]  # JSON
        assert await ours.for_request("unknown") == []
        assert (await ours.count(), await theirs.count()) == (4, 1)


async def test_a_leaf_is_what_an_auditor_computes_from_the_row_and_no_other_text_has_it(database: str) -> None:
    hostile = (("nul", "\0"), ("letters", "é ß 𝄞 \x7f"), ("markup", '"</script>\\'))
    async with Store.open(database) as store:
        audit = Audit(store, CUSTODIAN, AGENT)
        await audit.record(event())
        await audit.record(Event(Kind.GRANT, Outcome.REFUSED, "req-2", details=hostile))
        async with store.read() as connection:
            rows = (await connection.execute(select(AUDIT).order_by(AUDIT.c.seq))).all()

    def expected(time: str, kind: str, salt: bytes, text: str) -> bytes:
        commitment = b64encode(HMAC(salt, text.encode(), "sha256").digest()).decode()
        line = f'{{"v":1,"time":"{time}","type":"{kind}","c":"{commitment}"}}'
        return sha256(b"\0" + line.encode()).digest()

    for row in rows:
        assert canonical_json(row.event.encode()).decode() == row.event
        time = json.loads(row.event)["recorded"]
        assert row.leaf == expected(time, row.kind, row.salt, row.event)
        assert row.leaf != expected(time, row.kind, row.salt, row.event.replace("req-", "Req-"))
        assert row.leaf != expected(time, row.kind, bytes(16), row.event)
    kept = {one["type"]: one["valueString"] for one in json.loads(rows[1].event)["entity"][-1]["detail"]}
    assert kept == dict(hostile)


async def test_without_a_database_that_writes_there_is_no_record(database: str) -> None:
    async with Store.open(database):
        pass
    async with Store.open(database, read_only=True) as store:
        with pytest.raises(Unavailable) as error:
            await Audit(store, CUSTODIAN, AGENT).record(event())
    assert error.value.reason == "audit"


async def test_a_refusal_costs_what_the_page_of_limits_says(tmp_path: Path) -> None:
    """docs/limits.md, "Availability": about 2.4 kB of the database."""
    file, sizes = tmp_path / "mdg.sqlite", []
    details = (("method", "GET"), ("door", "/fhir/Patient/{id}"), ("status", "401"))
    for _ in range(2):
        async with Store.open(str(file)) as store:
            audit = Audit(store, CUSTODIAN, AGENT)

            async def refusals(connection: AsyncConnection, audit: Audit = audit) -> None:
                for _ in range(1000):
                    who = Caller("192.0.2.1", None)
                    failed = Kind.AUTHENTICATION_FAILED
                    event = Event(failed, Outcome.REFUSED, str(uuid4()), reason="no-token", details=details, caller=who)
                    await audit.add(connection, event)

            await store.write(refusals)
        sizes.append(file.stat().st_size)
    assert 2200 < (sizes[1] - sizes[0]) / 1000 < 2600
