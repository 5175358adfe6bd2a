"""A real gateway with real callers and a token authority that misbehaves on demand, for the rows of hostile inputs.

The gateway is the whole application in hypercorn on the loopback; requests are written to the socket byte by byte, so
that nothing between the row and the gateway tidies them up. The authority (keys, directory) is a second hypercorn.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx2
from anyio.abc import ByteStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.authority import ACT_REASON, CUSTODIAN, ORGANISATION, OTHER_PATIENT, PATIENT, Json
from tests.find import find
from tests.identities import write_identity_csv
from tests.negative.forgery import Forgery
from tests.statements import Costs

from mdg.app import Rooms, create_admin, create_public, open_gateway
from mdg.config import Capabilities, FolderSettings, IssuerSettings, Settings
from mdg.keys import Card, Ed25519Key, X25519Key
from mdg.sandbox.phantom import write_phantom
from mdg.sources import watcher
from mdg.web.server import listen

IHI_SYSTEM = "http://ns.electronichealth.net.au/id/hi/ihi/1.0"
FORM = "application/x-www-form-urlencoded"
SUITE = "HPKE-X25519-SHA256-AES256GCM"


@dataclass
class Answer:
    """What came back over the wire, and whether the server closed the connection then."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    closed: bool

    def header(self, name: str) -> str:
        return ", ".join(value for given, value in self.headers if given == name)

    @property
    def text(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.headers) + "\n\n" + self.body.decode("latin-1")


@dataclass
class Services:
    """The authority and the directory. Each issuer is a path, and some of them serve no key set at all."""

    url: str = ""
    keys: dict[str, list[Json]] = field(default_factory=dict)
    cards: list[Card] = field(default_factory=list)
    suspended: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/{issuer}/jwks", self.jwks),
                Route("/cards", self.card),
                Route("/organisations/{hpio}", self.organisation),
                Route("/{path:path}", self.other),
            ]
        )

    async def jwks(self, request: Request) -> Response:
        issuer = request.path_params["issuer"]
        self.asked.append(f"jwks {issuer}")
        match issuer:
            case "html":
                return Response("<html><body>maintenance</body></html>", media_type="text/html")
            case "large":
                return Response(b'{"keys":[' + b" " * 100_000_000 + b"]}", media_type="application/json")
            case "redirect":
                return RedirectResponse("file:///etc/passwd")
            case "error":
                return Response(status_code=500)
        return JSONResponse({"keys": self.keys.get(issuer, [])})

    async def card(self, request: Request) -> Response:
        for card in self.cards:
            if request.query_params.get("id") == card.id or request.query_params.get("kid") == card.kid:
                return JSONResponse({"card": card.to_json()})
        return Response(status_code=404)

    async def organisation(self, request: Request) -> Response:
        hpio = request.path_params["hpio"]
        return JSONResponse({"organisation": hpio, "status": "suspended" if hpio in self.suspended else "active"})

    async def other(self, request: Request) -> Response:
        self.asked.append(f"other {request.url.path}")
        return Response(status_code=404)


class World:
    """One gateway with the studies of two patients, and whatever a row needs to reach it."""

    def __init__(self, rooms: Rooms, services: Services, address: tuple[str, int]) -> None:
        self.rooms = rooms
        self.admin = f"http://{rooms.settings.admin_bind}"
        self.services = services
        self.address = address
        self.public_url = rooms.settings.public_url
        self.forgery = Forgery(services.url, self.public_url)
        self.signer = Ed25519Key.generate()
        self.card = Card.issue(
            id=ORGANISATION.uri, name="Consumer", contact="", x25519=X25519Key.generate().public, signer=self.signer
        )
        services.keys["main"] = self.forgery.authority.jwks()["keys"]
        services.keys["rsa"] = [self.forgery.rsa.as_dict(private=False)]
        services.cards.append(self.card)
        self.words = self.forgery.words
        self.words["address"] = f"{address[0]}:{address[1]}"
        self.costs = Costs()

    # --- requests ---

    async def send(self, raw: bytes) -> Answer:
        """Writes bytes and reads their answer; then asks another thing on the same connection, to see whether it is
        still open."""
        head = raw.startswith(b"HEAD ")
        probe = f"GET /livez HTTP/1.1\r\nHost: {self.words['address']}\r\n\r\n".encode()
        with anyio.fail_after(30):
            async with await anyio.connect_tcp(*self.address) as stream:
                received, closed = await _answer(stream, raw, head=head)
                if not closed:
                    more, closed = await _answer(stream, probe)
                    assert closed or more.startswith(b"HTTP/1.1 200 "), more[:300]
        return _parsed(received, closed=closed)

    async def grant(self, token: str) -> str:
        """Asks for the patient's study by a signed request; the path and query of the download."""
        now = datetime.now(UTC)
        content = {
            "typ": "ief-retrieval/1",
            "aud": CUSTODIAN.uri,
            "study": self.words["study"],
            "requester": self.card.entity,
            "profile": "jmix-1.0",
            "key": {"suite": SUITE, "public_key": base64.b64encode(X25519Key.generate().public).decode()},
            "nonce": base64.b64encode(secrets.token_bytes(32)).decode(),
            "iat": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "exp": (now + timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        jws = self.signer.sign_jws(json.dumps(content).encode(), "ief-retrieval+jws")
        answer = await self.call(token, "POST", "/api/jmix/requests", body=jws, content_type="application/jose")
        assert answer.status == 201, answer.text
        return str(json.loads(answer.body)["url"]).removeprefix(self.public_url)

    async def call(
        self, token: str, method: str, path: str, *, query: str = "", body: bytes = b"", content_type: str = FORM
    ) -> Answer:
        """A plain call that should succeed."""
        proof = self.forgery.proof(token, method, path, {})
        fields = [f"Authorization: DPoP {token}", f"DPoP: {proof}"]
        return await self.send(self.message(method, path + query, fields, body, content_type))

    @asynccontextmanager
    async def revoked(self, kind: str | None, token: str) -> AsyncGenerator[None]:
        """While it lasts the operator has revoked what `token` says of `kind`, by the door that operators have."""
        if kind is None:
            yield
            return
        claims = self.forgery.claims_of(token)
        iua = claims["extensions"]["ihe_iua"]
        value = {
            "token": claims["jti"],
            "client": claims["client_id"],
            "subject": claims["sub"],
            "practitioner": iua["national_provider_identifier"].rpartition("/")[2],
            "organisation": iua["subject_organization_id"].rpartition("/")[2],
        }[kind]
        async with httpx2.AsyncClient() as operator:
            made = await operator.post(f"{self.admin}/revocations", json={"kind": kind, "value": value})
            assert made.status_code == 201, made.text
            try:
                yield
            finally:
                ended = await operator.delete(f"{self.admin}/revocations/{made.json()['id']}")
                assert ended.status_code == 204, ended.text

    def message(
        self,
        method: str,
        target: str,
        fields: list[str],
        body: bytes,
        content_type: str = FORM,
        *,
        host: Sequence[str] | None = None,
        framing: Sequence[str] | None = None,
    ) -> bytes:
        """A request as it goes over the wire."""
        named = [f"Host: {self.words['address']}"] if host is None else host
        lines = [f"{method} {target} HTTP/1.1", *named, *fields]
        if method in ("POST", "PUT", "PATCH"):
            lines += [f"Content-Type: {content_type}", *(framing or [f"Content-Length: {len(body)}"])]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _answer(stream: ByteStream, asked: bytes, *, head: bool = False) -> tuple[bytes, bool]:
    """What comes back, and whether the connection ended instead of bringing a whole answer."""
    received = b""
    try:
        await stream.send(asked)
        while not _complete(received, head=head):
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received, True
    return received, False


def _complete(received: bytes, *, head: bool) -> bool:
    """Whether these bytes are a whole answer; one to HEAD has a length and no body."""
    fields, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    if head:
        return True
    for line in fields.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def _parsed(received: bytes, *, closed: bool) -> Answer:
    if not received:
        return Answer(0, [], b"", closed)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(first.split(" ")[1]), headers, body, closed)


def listening() -> socket.socket:
    """A listening socket on a free port of the loopback."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(128)
    made.setblocking(False)
    return made


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[World]:
    """The world, with its data under `folder`."""
    services, stop = Services(), anyio.Event()
    inner, outer, admin = listening(), listening(), listening()
    services.url = f"http://127.0.0.1:{inner.getsockname()[1]}"
    address = ("127.0.0.1", outer.getsockname()[1])
    admin_bind = f"127.0.0.1:{admin.getsockname()[1]}"
    settings = _settings(folder, services.url, f"http://{address[0]}:{address[1]}", admin_bind)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, services.app(), inner, stop.wait)
            async with open_gateway(settings) as rooms:
                world = World(rooms, services, address)
                await _fill(world, folder)
                tasks.start_soon(listen, world.costs.counted(create_public(rooms)), outer, stop.wait)
                tasks.start_soon(listen, create_admin(rooms), admin, stop.wait)
                await _seal_others(world)
                try:
                    yield world
                finally:
                    stop.set()
    finally:
        for taken in (inner, outer, admin):
            taken.detach()  # the server has closed what it was given


def _settings(folder: Path, services: str, public_url: str, admin_bind: str) -> Settings:
    issuers = [
        IssuerSettings(iss=f"{services}/{name}", jwks_url=f"{services}/{name}/jwks", algorithms=frozenset({algorithm}))
        for name, algorithm in (
            ("main", "ES256"),
            ("rsa", "PS256"),
            ("html", "ES256"),
            ("large", "ES256"),
            ("redirect", "ES256"),
            ("error", "ES256"),
        )
    ]
    down = IssuerSettings(iss=f"{services}/down", jwks_url="http://127.0.0.1:1029/jwks")
    return Settings(
        custodian=CUSTODIAN,
        public_url=public_url,
        admin_bind=admin_bind,
        data=folder / "data",
        sources=(FolderSettings(kind="folder", name="folder", path=(folder / "images",)),),
        default_issuer="DEMO",
        time_zone="Australia/Brisbane",  # type: ignore[arg-type]  # read by a validator
        issuers=(*issuers, down),
        directory_url=services,
        capabilities=Capabilities(subscription=True),
        subscribers={ORGANISATION: ("https://ris.example.org",)},
        sandbox=True,
    )


async def _fill(world: World, folder: Path) -> None:
    images = folder / "images"
    for seed, patient in ((1, "DEMO-0001"), (2, "DEMO-0002")):
        draw = partial(write_phantom, images / patient, seed=seed, slices=1, patient_id=patient)
        await anyio.to_thread.run_sync(draw)
    table = write_identity_csv(folder / "identity.csv", {"DEMO-0001": PATIENT, "DEMO-0002": OTHER_PATIENT})
    await world.rooms.identities.load_csv(table)
    await watcher.scan(world.rooms.sources)
    for word, ihi in (("", PATIENT), ("other_", OTHER_PATIENT)):
        local = await world.rooms.identities.local_ids(ihi)
        (study,) = await find(world.rooms.sources[0], local)
        world.words |= {f"{word}patient": str(ihi), f"{word}study": study.id, f"{word}uid": study.key.uid}
        world.words[f"{word}patient_id"] = study.patient_id
    world.words |= {
        "public_url": world.public_url,
        "fhir": f"{world.public_url}/fhir",
        "issuer": world.forgery.authority.issuer,
    }
    world.words |= {"unknown_patient": "8003608500035704", "services": world.services.url, "kid": "key-1"}
    world.words |= {
        "ISSUER": world.forgery.authority.issuer.upper(),
        "long": "k" * 10_000,
        "megabyte": "x" * 1_000_000,
        "deep": "[" * 8000 + "]" * 8000,
        "act_reason": ACT_REASON,
    }
    system = quote(IHI_SYSTEM, safe="")
    world.words |= {"ihi_system": system}
    for word in ("", "other_", "unknown_"):
        world.words[f"{word}ihi"] = f"{system}%7C{world.words[f'{word}patient']}"


async def _seal_others(world: World) -> None:
    """An envelope of the other patient for the very same client, which a token for the first must not find."""
    other = {"extensions": {"ihe_iua": {"person_id": OTHER_PATIENT.uri}}}
    query = f"?studyInstanceUid={world.words['other_uid']}"
    answer = await world.call(world.forgery.token({"claims": other}), "GET", "/api/jmix", query=query)
    assert answer.status == 200, answer.text[:2000]
    world.words["other_envelope"] = answer.header("content-location").removeprefix("/api/jmix/")
