"""A real gateway on the loopback, sandbox inside, and a consumer that talks to it with real tokens and proofs."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from tests.identities import write_identity_csv
from tests.statements import Costs

from mdg.app import Rooms, create_admin, create_public, open_gateway
from mdg.cli.serve import folder_source
from mdg.client import Tokens
from mdg.config import Settings
from mdg.keys import Keyring
from mdg.model.identity import HpiO, Ihi
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up
from mdg.sandbox.phantom import ISSUER, write_phantom
from mdg.sources import watcher
from mdg.web.server import listen

DISCOVERY = ("system/ImagingStudy.rs", "system/Endpoint.rs", "system/Patient.rs")
RETRIEVE = ("urn:ief:scope:imaging.retrieve",)
IHI_SYSTEM = Ihi.system
SLICES = 3


@dataclass
class Consumer:
    """An organisation with keys of its own, registered in the sandbox's directory."""

    url: str
    keyring: Keyring
    organisation: HpiO
    tokens: Tokens
    http: httpx2.AsyncClient = field(repr=False)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        scopes: tuple[str, ...] = DISCOVERY,
        ihi: Ihi | None = EXAMPLE_IHI,
        purpose: str = "TREAT",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        """One authenticated request; `path` may hold a query."""
        shown = await self.credentials(method, path, scopes, ihi, purpose)
        return await self.http.request(method, f"{self.url}{path}", headers=shown | (headers or {}), **more)

    async def credentials(
        self,
        method: str,
        path: str,
        scopes: tuple[str, ...] = DISCOVERY,
        ihi: Ihi | None = EXAMPLE_IHI,
        purpose: str = "TREAT",
    ) -> dict[str, str]:
        """The headers that say who asks, for one request."""
        token = await self.tokens.token(f"{self.url}/fhir", scopes, ihi=ihi, purpose=purpose)
        bare = f"{self.url}{path}".partition("?")[0]
        return {
            "Authorization": f"DPoP {token.value}",
            "DPoP": self.keyring.dpop.prove(method, bare, token.value),
        }

    async def search(self, ihi: Ihi = EXAMPLE_IHI, **more: str) -> httpx2.Response:
        """The search that most consumers make."""
        form = {"patient.identifier": f"{IHI_SYSTEM}|{ihi}", "_include": "ImagingStudy:endpoint", **more}
        return await self.ask("POST", "/fhir/ImagingStudy/_search", data=form)


async def register(http: httpx2.AsyncClient, sandbox: str, keyring: Keyring) -> None:
    """Puts a card into the sandbox's directory."""
    (await http.post(f"{sandbox}/cards", json=keyring.card.to_json())).raise_for_status()


async def known_consumer(
    url: str, sandbox: str, keyring: Keyring, *, outbound: Outbound, http: httpx2.AsyncClient
) -> Consumer:
    """A consumer of the gateway at `url`, whose card is in the directory. Its organisation is that of the card."""
    await register(http, sandbox, keyring)
    organisation = HpiO.from_uri(keyring.card.id)
    return Consumer(url, keyring, organisation, Tokens(f"{sandbox}/token", outbound, keyring, organisation), http)


@dataclass
class Running:
    """A gateway that answers at `url`, its operator's listener at `admin`, and a consumer."""

    url: str
    admin: str
    rooms: Rooms
    consumer: Consumer
    new_consumer: Callable[[str], Any]
    """(name) -> another organisation's Consumer, registered."""
    costs: Costs
    """The SQL statements of each request to the public listener."""

    async def records(self, request_id: str) -> list[dict[str, Any]]:
        """The AuditEvents of one request."""
        return list(await self.rooms.audit.for_request(request_id))


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def second_gateway(start: Start, provider: Running, **settings: Any) -> AsyncIterator[Running]:
    """Another organisation's gateway in the sandbox of `provider`, which it may ask. Each has a card there."""
    sandbox = provider.rooms.directory_url
    trust = {
        "issuers": ({"iss": sandbox, "jwks_url": f"{sandbox}/jwks"},),
        "directory_url": sandbox,
        "allow": (provider.url,),
    }
    async with start("second", custodian=made_up(HpiO, "second"), **(trust | settings)) as second:
        for one in (provider, second):
            await register(provider.consumer.http, sandbox, one.rooms.keyring)
        yield second


def folder_with_phantom(folder: Path) -> Path:
    write_phantom(folder / "phantom", slices=SLICES)
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with_phantom(tmp_path_factory.mktemp("images"))


@pytest.fixture
def start(tmp_path: Path, phantom: Path) -> Start:
    """Starts gateways: `async with start(**settings) as running`; `decide=`, `clock=`, `kinds=` and `trust_clock=` go
    to `open_gateway`."""

    @asynccontextmanager
    async def run(name: str = "provider", **given: Any) -> AsyncIterator[Running]:
        replaced = {what: given.pop(what) for what in ("decide", "clock", "kinds", "trust_clock") if what in given}
        public, admin = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        url, admin_url = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in (public, admin))
        csv = write_identity_csv(tmp_path / f"{name}.csv")
        values: dict[str, Any] = {
            "custodian": EXAMPLE_PROVIDER,
            "data": tmp_path / name,
            "sources": folder_source([phantom]),
            "identity": csv,
            "default_issuer": ISSUER,
            "time_zone": "Australia/Sydney",
            "sandbox": True,
            "public_url": url,
            "bind": url.removeprefix("http://"),
            "admin_bind": admin_url.removeprefix("http://"),
        }
        settings = Settings.load(**(values | given))
        async with open_gateway(settings, **replaced) as rooms, anyio.create_task_group() as tasks:
            costs = Costs()
            tasks.start_soon(listen, costs.counted(create_public(rooms)), public, rooms.stopping.wait)
            tasks.start_soon(listen, create_admin(rooms), admin, rooms.stopping.wait)
            try:
                if settings.identity:
                    await rooms.identities.load_csv(settings.identity)
                await watcher.scan(rooms.sources)
                sandbox = rooms.directory_url
                async with (
                    Outbound([url, sandbox.removesuffix("/sandbox")], True) as outbound,
                    httpx2.AsyncClient() as http,
                ):

                    async def consumer(who: str, organisation: HpiO | None = None) -> Consumer:
                        organisation = organisation or made_up(HpiO, who)
                        keyring = Keyring.open(tmp_path / f"keys-{who}", id=organisation.uri, name=who, contact="")
                        return await known_consumer(url, sandbox, keyring, outbound=outbound, http=http)

                    yield Running(url, admin_url, rooms, await consumer("consumer", EXAMPLE_CONSUMER), consumer, costs)
            finally:
                rooms.stopping.set()

    return run
