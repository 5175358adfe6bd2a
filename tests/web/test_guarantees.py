"""Two promises, shown on the real thing: nothing without a decision, nothing before its record is durable."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.routing import Mount, Route
from tests.fhir.test_subscription import asked as asked_for

from mdg import _core
from mdg.access import decide
from mdg.app import create_admin, create_public
from mdg.model.event import Kind
from mdg.model.identity import Ihi
from mdg.model.request import Verdict
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, EXAMPLE_PROVIDER
from mdg.web.attempt import _ATTEMPTS, attempt

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
DISCOVERY = ("system/ImagingStudy.rs", "system/Endpoint.rs", "system/Patient.rs")
EVERYTHING = (*DISCOVERY, "system/Subscription.crud", "urn:ief:scope:imaging.retrieve")
PUBLIC = {
    "/",
    "/livez",
    "/readyz",
    "/fhir/metadata",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/fhir",
    "/.well-known/smart-configuration",
    "/fhir/.well-known/smart-configuration",
    "/ief-capability-statement",
    "/ief-capability-statement.json",
    "/ief-capability-statement.html",
    "/.well-known/ief-capability-statement",
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FHIR_JSON = {"Content-Type": "application/fhir+json"}
NOBODY = "http://127.0.0.1:1029"
"""An origin that nobody listens at."""
EVERY_DOOR: dict[str, Any] = {
    "capabilities": {"subscription": True},
    "subscribers": {EXAMPLE_CONSUMER: (NOBODY,)},
}
JOSE = {"Content-Type": "application/jose"}


def request_for(consumer: Any, study: str) -> bytes:
    """A signed retrieval request (seg/1 8.4)."""
    now = datetime.now(UTC)
    public = _core.X25519Key.generate().public
    content = {
        "typ": "ief-retrieval/1",
        "aud": EXAMPLE_PROVIDER.uri,
        "study": study,
        "requester": consumer.keyring.card.entity,
        "profile": "jmix-1.0",
        "key": {"suite": "HPKE-X25519-SHA256-AES256GCM", "public_key": base64.b64encode(public).decode()},
        "nonce": base64.b64encode(secrets.token_bytes(32)).decode(),
        "iat": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "exp": (now + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    signer: _core.Ed25519Key = consumer.keyring.ed25519
    return signer.sign_jws(json.dumps(content).encode(), "ief-retrieval+jws")


async def calls(gateway: Any) -> dict[str, tuple[str, str, dict[str, str], bytes]]:
    """For each method of each locked route, a call that gives something when nothing is in the way."""
    consumer = gateway.consumer
    study = (await consumer.search()).json()["entry"][0]["resource"]
    uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
    patient = study["subject"]["reference"]
    asked = {"scopes": EVERYTHING}
    granted = await consumer.ask(
        "POST", "/api/jmix/requests", headers=JOSE, content=request_for(consumer, study["id"]), **asked
    )
    ticket = granted.json()["url"].removeprefix(gateway.url)
    stored = await consumer.ask("GET", f"/api/jmix?studyInstanceUid={uid}", **asked)
    location = stored.headers["content-location"]
    form = f"patient.identifier=http://ns.electronichealth.net.au/id/hi/ihi/1.0|{EXAMPLE_IHI}".encode()
    subscription = asked_for("patient-imaging", f"patient:identifier={Ihi.system}|{EXAMPLE_IHI}")
    subscription["channel"]["endpoint"] = f"{NOBODY}/notified"
    made = await consumer.ask("POST", "/fhir/Subscription", json=subscription, **asked)
    own = f"/fhir/Subscription/{made.json()['id']}"
    read = f"/fhir/ImagingStudy/{study['id']}"
    return {
        "GET /fhir/ImagingStudy": ("GET", f"/fhir/ImagingStudy?patient={patient}", {}, b""),
        "POST /fhir/ImagingStudy/_search": ("POST", "/fhir/ImagingStudy/_search", FORM, form),
        "GET /fhir/ImagingStudy/{id}": ("GET", read, {}, b""),
        "GET /fhir/ImagingStudy/{id}/_history/{version}": ("GET", f"{read}/_history/1", {}, b""),
        "GET /fhir/Patient": ("GET", f"/fhir/Patient?_id={patient.partition('/')[2]}", {}, b""),
        "POST /fhir/Patient/_search": ("POST", "/fhir/Patient/_search", FORM, form.removeprefix(b"patient.")),
        "GET /fhir/Patient/{id}": ("GET", f"/fhir/{patient}", {}, b""),
        "GET /fhir/Endpoint/{id}": ("GET", f"/fhir/{study['endpoint'][0]['reference']}", {}, b""),
        "GET /api/jmix": ("GET", f"/api/jmix?studyInstanceUid={uid}", {}, b""),
        "POST /api/jmix/requests": ("POST", "/api/jmix/requests", JOSE, request_for(consumer, study["id"])),
        "GET /api/jmix/r/{recipe}": ("GET", ticket, {}, b""),
        "POST /api/jmix/r/{recipe}/renew": ("POST", f"{ticket.partition('?')[0]}/renew", {}, b""),
        "GET /api/jmix/{id}": ("GET", location, {}, b""),
        "GET /api/jmix/{id}/manifest": ("GET", f"{location}/manifest", {}, b""),
        "POST /fhir/Subscription": ("POST", "/fhir/Subscription", FHIR_JSON, json.dumps(subscription).encode()),
        "GET /fhir/Subscription/{id}": ("GET", own, {}, b""),
        "GET /fhir/Subscription/{id}/$status": ("GET", f"{own}/$status", {}, b""),
        "POST /fhir/Subscription/{id}/$status": ("POST", f"{own}/$status", {}, b""),
        "DELETE /fhir/Subscription/{id}": ("DELETE", own, {}, b""),
    }


async def make(gateway: Any, call: tuple[str, str, dict[str, str], bytes], **more: Any) -> Any:
    method, path, headers, content = call
    headers = headers | more.pop("headers", {})
    return await gateway.consumer.ask(method, path, scopes=EVERYTHING, headers=headers, content=content, **more)


def only_an_outcome(answer: Any) -> bool:
    body = answer.json()
    return bool(
        answer.headers["content-type"] == "application/fhir+json" and body["resourceType"] == "OperationOutcome"
    )


@pytest.mark.parametrize("which", ["every decision", "the decision on what is shown"])
async def test_every_locked_route_sends_nothing_when_the_decision_fails(start: Start, which: str) -> None:
    """A caller is decided on before anything is looked up, and again on what is found: each of the two is needed."""
    failing = anyio.Event()

    def decided(*args: Any, **rules: Any) -> Verdict:
        if failing.is_set() and (
            which == "every decision" or args[2].study or args[2].scope_type in ("Patient", "Subscription")
        ):
            raise RuntimeError("the decision is broken")
        return decide(*args, **rules)

    async with start(decide=decided, **EVERY_DOOR) as gateway:
        routes = create_public(gateway.rooms).routes
        locked = [route for route in routes if isinstance(route, Route) and route.path not in PUBLIC]
        walked = {f"{method} {route.path}" for route in locked for method in (route.methods or set()) - {"HEAD"}}
        assert [route.path for route in routes if isinstance(route, Mount)] == ["/sandbox"]
        assert all(isinstance(route, Route | Mount) for route in routes)
        known = await calls(gateway)
        assert set(known) == walked, "a route is new: say here how it is called"
        operations = {
            call
            for call in walked
            if attempt(call.partition(" ")[0], call.partition(" ")[2], 404, "") is Kind.OPERATION
        }
        assert operations == {"GET /fhir/Subscription/{id}/$status", "POST /fhir/Subscription/{id}/$status"}, (
            "a route is new: say in `mdg.web.attempt` what its refusal is recorded as"
        )
        for path, call in known.items():
            answer = await make(gateway, call)
            assert answer.status_code in (200, 201, 204), (path, answer.text)
            bare = await gateway.consumer.http.request(call[0], f"{gateway.url}{call[1]}", headers=call[2])
            assert bare.status_code == 401, path
            assert only_an_outcome(bare)
        known = await calls(gateway)
        failing.set()
        for path, call in known.items():
            answer = await make(gateway, call)
            assert answer.status_code >= 400, path
            assert only_an_outcome(answer), path


@pytest.mark.parametrize("how", ["read-only", "audit only"])
async def test_nothing_leaves_while_the_audit_cannot_be_written(start: Start, how: str) -> None:
    async def break_it(connection: AsyncConnection) -> None:
        """The whole database, or nothing but the insertion of records."""
        if how == "read-only":
            await connection.exec_driver_sql("PRAGMA query_only=ON")
        else:
            await connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END"
            )

    async with start(**EVERY_DOOR) as gateway:
        known = await calls(gateway)
        await gateway.rooms.store.write(break_it)
        before = await gateway.rooms.audit.count()
        for path, call in known.items():
            answer = await make(gateway, call)
            assert answer.status_code == 503, (path, answer.text)
            assert only_an_outcome(answer), path
            assert "retry-after" in answer.headers
        refused = await gateway.consumer.http.get(f"{gateway.url}/fhir/Patient/x")
        assert refused.status_code == 503, "a refusal that cannot be recorded is not given either"
        assert await gateway.rooms.audit.count() == before


SYSCALLS = "trace=fdatasync,fsync,pwrite64,sendto,sendmsg,write,writev"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_the_record_is_synced_before_the_first_byte_is_sent(tmp_path: Path, phantom: Path, start: Start) -> None:
    """The order of system calls of a real process: the page with the request's id is written to the log of the
    database and synced before the first send of the answer, for search, read and payload."""
    log = tmp_path / "strace"
    command = ["strace", "-f", "-yy", "-s", "5000", "-e", SYSCALLS, "-o", str(log), sys.executable, "-m", "mdg.cli"]
    command += [
        "serve",
        "--sandbox",
        "--folder",
        str(phantom),
        "--data",
        str(tmp_path / "data"),
        "--port",
        "0",
        "--json",
    ]
    served = await anyio.to_thread.run_sync(serving, command)
    assert served.stdout is not None
    try:
        ready = json.loads(await anyio.to_thread.run_sync(served.stdout.readline))
        ids = [str(uuid4()) for _ in range(3)]
        async with start(
            "asker",
            custodian="8003626566707032",
            issuers=({"iss": f"{ready['public']}/sandbox", "jwks_url": f"{ready['public']}/sandbox/jwks"},),
            allow=(ready["public"],),
        ) as asker:
            ihi = await first_ihi(tmp_path / "data")
            remote = type("Remote", (), {})()
            remote.url, remote.consumer = ready["public"], asker.consumer
            remote.consumer.url = ready["public"]
            form = f"patient.identifier=http://ns.electronichealth.net.au/id/hi/ihi/1.0|{ihi}".encode()
            found = await make(
                remote, ("POST", "/fhir/ImagingStudy/_search", FORM, form), ihi=ihi, headers={"X-Request-ID": ids[0]}
            )
            assert found.status_code == 200, found.text
            study = found.json()["entry"][0]["resource"]
            path = f"/fhir/ImagingStudy/{study['id']}"
            read = await make(remote, ("GET", path, {}, b""), ihi=ihi, headers={"X-Request-ID": ids[1]})
            assert read.status_code == 200
            jws = request_for(remote.consumer, study["id"])
            granted = await make(remote, ("POST", "/api/jmix/requests", JOSE, jws), ihi=ihi)
            assert granted.status_code == 201, granted.text
            ticket = granted.json()["url"].removeprefix(remote.url)
            payload = await make(remote, ("GET", ticket, {}, b""), ihi=ihi, headers={"X-Request-ID": ids[2]})
            assert payload.status_code == 200
    finally:
        os.kill(child_of(served.pid), signal.SIGTERM)
        await anyio.to_thread.run_sync(served.wait)
        served.stdout.close()
    lines = log.read_text(errors="replace").splitlines()
    for id_ in ids:
        happened = order(lines, id_)
        assert happened[:2] == ["written", "synced"], id_
        assert happened.index("synced") < happened.index("sent"), id_


def serving(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def first_ihi(data: Path) -> Any:
    """The made-up IHI of the only patient, read as an operator would."""
    import sqlite3

    from mdg.model.identity import Ihi

    with sqlite3.connect(f"file:{data / 'mdg.sqlite'}?mode=ro", uri=True) as database:
        return Ihi(database.execute("SELECT ihi FROM identities").fetchone()[0])


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def order(lines: list[str], request_id: str) -> list[str]:
    """What happened to one request: its record `written` to the write-ahead log, the log `synced` after that, its
    answer `sent`. A call that another thread interrupted ends on its `resumed` line."""
    events: list[str] = []
    unfinished: dict[str, str] = {}
    for line in lines:
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            unfinished[pid] = call.removesuffix("<unfinished ...>")
            if re.match(r"(sendto|sendmsg|write|writev)\(", call) and "TCP" in call and request_id in call:
                events.append("sent")  # it counts from where it began
            continue
        if call.startswith("<... "):
            call = unfinished.pop(pid, "") + call
        if call.startswith("pwrite64") and "-wal>" in call and request_id in call:
            events.append("written")
        elif re.match(r"(fdatasync|fsync)\(", call) and "-wal>" in call and call.rstrip().endswith("= 0"):
            if events and events[-1] == "written":
                events.append("synced")
        elif re.match(r"(sendto|sendmsg|write|writev)\(", call) and "TCP" in call and request_id in call:
            events.append("sent")
    return [event for event, before in zip(events, [None, *events], strict=False) if event != before]


async def test_the_kinds_of_refusals_are_those_of_addresses_that_are_there(start: Start) -> None:
    """Of the admin listener only reads of the audit have a kind of their own; a new address must be thought about."""
    async with start(**EVERY_DOOR) as gateway:
        public, admin = (
            {
                (method, one.path)
                for one in made(gateway.rooms).routes
                if isinstance(one, Route)
                for method in one.methods or ()
            }
            for made in (create_public, create_admin)
        )
    assert set(_ATTEMPTS) <= public | admin, "an address has gone"
    known = {path for method, path in admin if attempt(method, path, 403, "") is not Kind.OPERATION}
    assert known == {"/audit", "/audit/_search", "/audit/{request_id}"}
    probes = {"/", "/livez", "/readyz", "/health", "/version", "/metrics", "/openapi.json", "/configuration"}
    doors = {"/jobs", "/jobs/{id}", "/jobs/{id}/retry", "/jobs/{id}/cancel"}
    doors |= {"/problems", "/revocations", "/revocations/{id}", "/retrievals", "/consents", "/consents/_search"}
    assert {path for _, path in admin} - known == probes | doors | {"/consents/{id}"}, (
        "a route is new: say in `mdg.web.attempt` what its refusal is recorded as, or here that it is an operation"
    )
