"""A line of identity.csv is corrected from person A to person B: what was made for A is served to nobody, and B gets
what is sealed for B."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.identities import write_identity_csv
from tests.web.test_retrieval import RETRIEVE, get, granted, study_of

from mdg import _core, envelope
from mdg.access import utc_now
from mdg.app.services import issuers
from mdg.errors import NotFound
from mdg.exchange.release import Wanted
from mdg.model.identity import Ihi
from mdg.model.request import Requester
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import PATIENT_ID

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
A, B = EXAMPLE_IHI, made_up(Ihi, "the right person")


def confirm(path: Path, ihi: Ihi) -> Path:
    return write_identity_csv(path, {PATIENT_ID: ihi})


def person_in(sealed: bytes, gateway: Any, folder: Path) -> str:
    """The IHI in the metadata.json of an envelope for the consumer's directory key."""
    folder.mkdir()
    (folder / "sealed.zip").write_bytes(sealed)
    provider = gateway.rooms.keyring.card
    key: _core.X25519Key = gateway.consumer.keyring.x25519
    envelope.open_(folder / "sealed.zip", trust=[(provider.id, provider.ed25519)], key=key, out=folder / "open")
    patient = json.loads((folder / "open" / "metadata.json").read_text())["patient"]
    (ihi,) = (one["value"] for one in patient["identifiers"] if one["system"] == Ihi.system)
    return str(ihi)


@pytest.mark.parametrize("how", ["restart", "reload"])
async def test_a_corrected_identity_ends_the_envelopes_of_the_wrong_person(
    start: Start, tmp_path: Path, how: str
) -> None:
    table = confirm(tmp_path / "identity.csv", A)
    async with start(identity=table) as gateway:
        _, _, grant = await granted(gateway)
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        by_study = f"/api/jmix?studyInstanceUid={uid}"
        first = await get(gateway, by_study)
        assert person_in(first.content, gateway, tmp_path / "first") == A
        if how == "reload":
            confirm(table, B)
            await gateway.rooms.identities.load_csv(table)
            await nothing_of_the_wrong_person(gateway, by_study, grant["path"], first, tmp_path, ticket=404)
    if how == "restart":
        confirm(table, B)
        async with start(identity=table) as gateway:  # whose sandbox has forgotten the token of the ticket
            await nothing_of_the_wrong_person(gateway, by_study, grant["path"], first, tmp_path, ticket=403)


async def nothing_of_the_wrong_person(
    gateway: Any, by_study: str, granted: str, first: Any, tmp_path: Path, *, ticket: int
) -> None:
    """What was made for A is gone for A and for B, and B gets an envelope of B's own."""
    own = first.headers["content-location"]

    async def ask(path: str, ihi: Ihi, method: str = "GET") -> Any:
        return await gateway.consumer.ask(method, path, scopes=RETRIEVE, ihi=ihi)

    assert (await ask(by_study, A)).status_code == 404
    assert (await ask(granted, A)).status_code == ticket
    assert (await ask(granted, B)).status_code == 403  # a ticket is good with the token that it was issued for
    for ihi in (A, B):
        assert (await ask(f"{granted.partition('?')[0]}/renew", ihi, "POST")).status_code == 404
        assert (await ask(own, ihi)).status_code == 404
        assert (await ask(f"{own}/manifest", ihi)).status_code == 404
    theirs = await ask(by_study, B)
    assert theirs.status_code == 200, theirs.text
    assert theirs.headers["content-location"] != own
    assert person_in(theirs.content, gateway, tmp_path / "second") == B
    await gateway.rooms.envelopes.sweep(utc_now())
    (left,) = (gateway.rooms.settings.data / "spool").iterdir()
    assert left.read_bytes() == theirs.content


async def test_a_stream_that_runs_is_broken_off_when_its_study_is_somebody_elses(start: Start, tmp_path: Path) -> None:
    table = confirm(tmp_path / "identity.csv", A)
    async with start(identity=table) as gateway:
        requester = Requester(
            issuer=issuers(gateway.rooms.settings)[0].iss,
            subject="client",
            client_id="client",
            organisation=EXAMPLE_CONSUMER,
            practitioner=None,
            purposes=("TREAT",),
            patient=A,
            scopes=frozenset(RETRIEVE),
            jkt="key",
            token_id="token",
            expires=utc_now() + timedelta(minutes=5),
        )
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        release = await gateway.rooms.retrieval.fetch(requester, uid, Wanted("GET", None, None), "request")
        await release.again()
        confirm(table, B)
        await gateway.rooms.identities.load_csv(table)
        with pytest.raises(NotFound):
            await release.again()


async def test_an_envelope_ends_with_the_number_that_is_sealed_into_it(start: Start, tmp_path: Path) -> None:
    """The person stays, the custodian's number for the person becomes another system's: made again, not served."""
    table = confirm(tmp_path / "identity.csv", A)
    async with start(identity=table) as gateway:
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        first = await get(gateway, f"/api/jmix?studyInstanceUid={uid}")
    async with start(identity=table, default_issuer="ANOTHER") as gateway:
        assert (await get(gateway, first.headers["content-location"])).status_code == 404
        again = await get(gateway, f"/api/jmix?studyInstanceUid={uid}")
        assert again.status_code == 200
        assert again.headers["content-location"] != first.headers["content-location"]


async def test_until_a_new_table_is_in_force_nobody_is_looked_up_and_no_probe_calls_the_gateway_ready(
    start: Start, tmp_path: Path
) -> None:
    """An answer by the table of the last start would be believed, though a line of it has been corrected since."""
    table = confirm(tmp_path / "identity.csv", A)
    async with start(identity=table) as gateway:
        http, identities = gateway.consumer.http, gateway.rooms.identities
        uid = (await study_of(gateway))["identifier"][0]["value"].removeprefix("urn:oid:")
        await identities.expect(table)
        assert (await http.get(f"{gateway.url}/readyz")).status_code == 200, "the same table is in force"
        await identities.expect(confirm(table, B))
        search, fetched = await gateway.consumer.search(), await get(gateway, f"/api/jmix?studyInstanceUid={uid}")
        for answer in (search, fetched):
            assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (503, True)
        assert "identity.csv is being read" in search.text
        assert (await http.get(f"{gateway.url}/readyz")).status_code == 503
        assert (await http.get(f"{gateway.url}/livez")).status_code == 200
        assert (await http.get(f"{gateway.admin}/health")).json()["identities"] == "identity.csv is being read"
        await identities.load_csv(table)
        assert (await gateway.consumer.search()).json()["total"] == 0
        form = {"patient.identifier": f"{Ihi.system}|{B}"}
        found = await gateway.consumer.ask("POST", "/fhir/ImagingStudy/_search", data=form, ihi=B)
        assert found.json()["total"] == 1
        assert (await http.get(f"{gateway.url}/readyz")).status_code == 200
