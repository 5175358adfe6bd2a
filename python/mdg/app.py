"""Composition: settings in, the public and the admin application out. The whole URL map is on this page.

Two listeners share one set of rooms, because exactly one connection may write to the database: `open_gateway` opens the
rooms once, `create_public` and `create_admin` hang doors on them. A route that is not under "public" below has the
lock of `web.authentication`; a test walks the table and tries each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from mdg import __version__
from mdg.access import Gate, Issuer, Jwks, Replay, Tickets, decide
from mdg.audit import Audit
from mdg.audit.event import Agent
from mdg.client import Gateway, Tokens
from mdg.config import IssuerSettings, Settings, is_loopback
from mdg.errors import MdgError
from mdg.exchange.courier import Courier
from mdg.exchange.cursor import Cursors
from mdg.exchange.delivery import Delivery
from mdg.exchange.discovery import Discovery
from mdg.exchange.envelopes import Envelopes
from mdg.exchange.holdings import Holdings
from mdg.exchange.judge import Clock, Decide, Judge, utc_now
from mdg.exchange.notification import Notification
from mdg.exchange.reception import Reception
from mdg.exchange.registration import Registrar
from mdg.exchange.retrieval import Retrieval
from mdg.exchange.workshop import Workshop
from mdg.fhir import Json
from mdg.fhir.capability_statement import capability_statement
from mdg.identity import Identities
from mdg.keys import Directory, HttpDirectory, Keyring
from mdg.model.event import Event, Kind, Outcome
from mdg.outbound import Outbound
from mdg.registry import Registrations, Registry
from mdg.sandbox import create_app as create_sandbox
from mdg.sources import FolderSource, ReceivedSource
from mdg.store import Store, outbox
from mdg.web.admin import AdminDoor, AdminLock
from mdg.web.authentication import Authentication
from mdg.web.edge import Edge
from mdg.web.fhir import FhirDoor
from mdg.web.health import HealthDoor
from mdg.web.ief_statement import IefStatementDoor, ief_statement
from mdg.web.jmix import JmixDoor
from mdg.web.metrics import Metrics
from mdg.web.openapi import openapi
from mdg.web.streams import Streams
from mdg.web.subscription import SubscriptionDoor
from mdg.web.wellknown import WellKnownDoor

STARTED = datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Rooms:
    """The open rooms of one gateway."""

    settings: Settings
    store: Store
    keyring: Keyring
    outbound: Outbound
    directory: Directory
    directory_url: str
    identities: Identities
    folder: FolderSource
    received: ReceivedSource
    audit: Audit
    gate: Gate
    cursors: Cursors
    discovery: Discovery
    retrieval: Retrieval
    envelopes: Envelopes
    workshop: Workshop
    reception: Reception
    notification: Notification
    metrics: Metrics
    stopping: anyio.Event


def create_public(rooms: Rooms) -> Starlette:
    """The public listener: FHIR and JMIX, and in a sandbox the stand-ins for the national services."""
    settings = rooms.settings
    return _application(rooms, _public(rooms), _hosts(settings.public_url, settings.bind))


def _public(rooms: Rooms) -> list[BaseRoute]:
    settings, on = rooms.settings, rooms.settings.capabilities
    fhir = FhirDoor(
        rooms.discovery,
        rooms.cursors,
        settings.time_zone,
        f"{settings.public_url}/fhir",
        lambda: _statement(rooms, routes),
    )
    streams = Streams(settings.streams, settings.streams_each)
    jmix = JmixDoor(rooms.retrieval, settings.public_url, rooms.metrics, streams)
    health = HealthDoor(partial(_ready, rooms))
    known = WellKnownDoor(
        settings.public_url,
        [issuer.iss for issuer in _issuers(rooms.settings)],
        _token_url(settings),
        {name for name, offered in on if offered},
    )
    statement = IefStatementDoor(
        ief_statement(
            on.model_dump(),
            settings.roadmap.model_dump(mode="json"),
            public_url=settings.public_url,
            hpio=settings.custodian,
            name=settings.name,
            contact=settings.contact,
            service_id=settings.service,
            registries=[_registry_url(settings)] if on.registration else [],
        )
    )
    locked = partial(Route, middleware=[Middleware(Authentication, gate=rooms.gate)])
    routes: list[BaseRoute] = [
        # public
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        Route("/fhir/metadata", fhir.metadata),
        Route("/.well-known/oauth-protected-resource", known.protected_resource),
        Route("/.well-known/smart-configuration", known.smart_configuration),
        Route("/fhir/.well-known/smart-configuration", known.smart_configuration),
        Route("/ief-capability-statement", statement.negotiated),
        Route("/ief-capability-statement.json", statement.as_json),
        Route("/ief-capability-statement.html", statement.as_html),
        Route("/.well-known/ief-capability-statement", statement.negotiated),
    ]
    if on.discovery:
        routes += [
            locked("/fhir/ImagingStudy", fhir.search_by_url),
            locked("/fhir/ImagingStudy/_search", fhir.search, methods=["POST"]),
            locked("/fhir/ImagingStudy/{id}", fhir.imaging_study),
            locked("/fhir/Patient/{id}", fhir.patient),
        ]
    if on.discovery and on.retrieval:
        routes += [locked("/fhir/Endpoint/{id}", fhir.endpoint)]
    if on.retrieval:
        routes += [
            locked("/api/jmix", jmix.by_study),
            locked("/api/jmix/requests", jmix.request, methods=["POST"]),
            locked("/api/jmix/r/{recipe}", jmix.download),
            locked("/api/jmix/r/{recipe}/renew", jmix.renew, methods=["POST"]),
            locked("/api/jmix/{id}", jmix.by_id),
            locked("/api/jmix/{id}/manifest", jmix.manifest),
        ]
    if on.subscription:
        subscription = SubscriptionDoor(rooms.notification, f"{settings.public_url}/fhir")
        routes += [
            locked("/fhir/Subscription", subscription.create, methods=["POST"]),
            locked("/fhir/Subscription/{id}", subscription.read),
            locked("/fhir/Subscription/{id}", subscription.delete, methods=["DELETE"]),
            locked("/fhir/Subscription/{id}/$status", subscription.status, methods=["GET", "POST"]),
        ]
    if settings.own_sandbox:
        routes += [Mount("/sandbox", create_sandbox(f"{settings.public_url}/sandbox"))]
    return routes


def create_admin(rooms: Rooms) -> Starlette:
    """The admin listener: numbers, records, and retrievals that this gateway makes as a consumer."""
    settings = rooms.settings
    admin = AdminDoor(
        rooms.metrics,
        rooms.audit,
        rooms.identities,
        rooms.reception,
        details=partial(_details, rooms),
        jobs=partial(_jobs, rooms),
        configuration=settings.model_dump(mode="json"),
        description=lambda: openapi({settings.public_url: _public(rooms), url: routes}, version=__version__),
    )
    url = f"http://{settings.admin_bind}"
    token = settings.admin_token.get_secret_value() if settings.admin_token else None
    locked = partial(Route, middleware=[Middleware(AdminLock, token=token)])
    routes: list[BaseRoute] = [
        locked("/health", admin.health),
        locked("/version", admin.version),
        locked("/configuration", admin.configuration),
        locked("/jobs", admin.jobs),
        locked("/openapi.json", admin.openapi),
        locked("/metrics", admin.metrics),
        locked("/audit", admin.audit_count),
        locked("/audit/{request_id}", admin.audit),
        locked("/problems", admin.problems),
        locked("/retrievals", admin.retrieve, methods=["POST"]),
    ]
    return _application(rooms, routes, _hosts(url, settings.admin_bind))


@asynccontextmanager
async def open_gateway(settings: Settings, *, decide: Decide = decide, clock: Clock = utc_now) -> AsyncIterator[Rooms]:
    """Opens all rooms, and closes them in the reverse order. `decide` and `clock` are given by tests only."""
    async with AsyncExitStack() as stack:
        rooms = await _open(stack, settings, Judge(decide=decide, clock=clock))
        await rooms.audit.record(Event(Kind.START, Outcome.SUCCESS, "start", details=(("version", __version__),)))
        try:
            yield rooms
        finally:
            with anyio.move_on_after(5, shield=True):
                await _record_stop(rooms)


async def _open(stack: AsyncExitStack, settings: Settings, judge: Judge) -> Rooms:
    custodian = settings.custodian
    keyring = await to_thread.run_sync(
        partial(Keyring.open, settings.data, id=custodian.uri, name=settings.name, contact=settings.contact)
    )
    store = await stack.enter_async_context(Store.open(settings.store_url))
    outbound = await stack.enter_async_context(Outbound(_origins(settings), settings.sandbox))
    directory = HttpDirectory(_directory_url(settings), outbound)
    audit = Audit(store, custodian, Agent("mdg", __version__, settings.public_url))
    identities = Identities(store, custodian)
    issuer, zone = settings.default_issuer, settings.time_zone
    folder = FolderSource(store, custodian, settings.folders, default_issuer=issuer, time_zone=zone)
    received = ReceivedSource(store, custodian, settings.data / "received", time_zone=zone)
    await received.sweep()
    holdings = Holdings([folder, received], identities)
    replay = Replay(store, custodian)
    cursors = Cursors(judge.clock)
    envelopes = Envelopes(store, settings.data / "spool", custodian, keyring, timedelta(hours=settings.envelope_hours))
    workshop = await stack.enter_async_context(Workshop(envelopes, judge.clock).working())
    retrieval = Retrieval(
        holdings,
        judge,
        audit,
        envelopes,
        workshop=workshop,
        tickets=Tickets(keyring.ticket),
        replay=replay,
        directory=directory,
        custodian=custodian,
        default_issuer=issuer,
        minimum_level=settings.minimum_level,
    )
    tokens = Tokens(_token_url(settings), outbound, keyring, custodian)

    def gateway_at(url: str) -> Gateway:
        outbound.check(url)  # before the token authority is told of whom we ask
        return Gateway(url, outbound, keyring, tokens)

    gate = Gate(
        [Issuer(one.iss, Jwks(one.jwks_url, outbound), one.algorithms, one.clients) for one in _issuers(settings)],
        directory,
        replay,
        settings.public_url,
        clock=judge.clock,
    )
    ways = {
        organisation: await stack.enter_async_context(Outbound(origins, settings.sandbox))
        for organisation, origins in settings.subscribers.items()
    }
    notification = Notification(
        store,
        judge,
        audit,
        ways=ways,
        custodian=custodian,
        public_url=settings.public_url,
        canonical_base=settings.canonical_base,
    )
    delivery = Delivery(
        store,
        holdings,
        judge,
        audit,
        standing=gate,
        ways=ways,
        custodian=custodian,
        public_url=settings.public_url,
        canonical_base=settings.canonical_base,
    )
    if settings.capabilities.subscription:
        courier = Courier(store, custodian, outbox.SUBSCRIBERS, delivery.match)
        await stack.enter_async_context(_running(courier.run, delivery.run))
    reception = Reception(gateway_at, directory, received, audit, settings.data / "incoming")
    await reception.sweep()
    if settings.capabilities.registration:
        registry = Registry(_registry_url(settings), outbound, tokens, keyring.dpop)
        registrar = Registrar(
            store,
            registrations=Registrations(store, custodian),
            registry=registry,
            holdings=holdings,
            identities=identities,
            audit=audit,
            custodian=custodian,
            service_id=settings.service,
        )
        if settings.own_sandbox:  # its memory began with this process
            await registrar.begin_anew()
        await stack.enter_async_context(_running(Courier(store, custodian, outbox.REGISTRY, registrar.deliver).run))
    return Rooms(
        settings=settings,
        store=store,
        keyring=keyring,
        outbound=outbound,
        directory=directory,
        directory_url=_directory_url(settings),
        identities=identities,
        folder=folder,
        received=received,
        audit=audit,
        gate=gate,
        cursors=cursors,
        discovery=Discovery(
            holdings,
            judge,
            audit,
            cursors,
            custodian=custodian,
            default_issuer=issuer,
            public_url=settings.public_url,
            canonical_base=settings.canonical_base,
            retrievable=settings.capabilities.retrieval,
        ),
        retrieval=retrieval,
        envelopes=envelopes,
        workshop=workshop,
        reception=reception,
        notification=notification,
        metrics=Metrics(),
        stopping=anyio.Event(),
    )


@asynccontextmanager
async def _running(*works: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Runs `works` until it is left."""
    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(work)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


def _application(rooms: Rooms, routes: Sequence[BaseRoute], hosts: frozenset[str]) -> Starlette:
    """Routes behind the edge. Errors pass through to the edge, which gives all of them one shape."""
    doors: dict[object, str] = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    fhir = f"{rooms.settings.public_url}/fhir"
    edge = Middleware(Edge, audit=rooms.audit, hosts=hosts, doors=doors, metrics=rooms.metrics, fhir=fhir)
    app = Starlette(routes=routes, middleware=[edge], exception_handlers={HTTPException: _pass_on})
    # Else a stranger's path with a slash more is answered by its echo in `Location`, query included and unrecorded.
    app.router.redirect_slashes = False
    return app


async def _pass_on(request: Request, error: Exception) -> Response:
    raise error


def _statement(rooms: Rooms, routes: Sequence[BaseRoute]) -> Json:
    """The CapabilityStatement, told from the routes of the listener that it is on."""
    settings = rooms.settings
    return capability_statement(
        [(route.path, frozenset(route.methods or ())) for route in routes if isinstance(route, Route)],
        fhir=f"{settings.public_url}/fhir",
        canonical_base=settings.canonical_base,
        version=__version__,
        published=STARTED,
        issuers=[issuer.iss for issuer in _issuers(settings)],
    )


async def _ready(rooms: Rooms) -> bool:
    """Whether the gateway can answer safely: it is not stopping, and its store answers."""
    if rooms.stopping.is_set():
        return False
    try:
        await rooms.audit.newest()  # strangers may ask, so it costs the same however many records there are
    except MdgError:
        return False
    return True


async def _details(rooms: Rooms) -> Mapping[str, object]:
    """Health for operators."""
    return {
        "ready": await _ready(rooms),
        "version": __version__,
        "started": STARTED.isoformat(timespec="seconds"),
        "audit_records": await rooms.audit.count(),
        "problems": len(await rooms.identities.problems()),
        "sandbox": rooms.settings.sandbox,
    }


async def _jobs(rooms: Rooms) -> Mapping[str, object]:
    """What goes on behind the answers, for operators."""
    async with rooms.store.read() as connection:
        owed = await outbox.counts(connection, rooms.settings.custodian)
    return {"scanning": rooms.folder.scanning, "envelopes": rooms.workshop.making, "owed": owed}


async def _record_stop(rooms: Rooms) -> None:
    try:
        await rooms.audit.record(Event(Kind.STOP, Outcome.SUCCESS, "stop"))
    except MdgError:
        return  # a store that is gone cannot say so in itself; the next start finds it unclean


def _issuers(settings: Settings) -> Sequence[IssuerSettings]:
    if not settings.own_sandbox:
        return settings.issuers
    return [IssuerSettings(iss=f"{settings.public_url}/sandbox", jwks_url=f"{settings.public_url}/sandbox/jwks")]


def _directory_url(settings: Settings) -> str:
    """In a sandbox the stand-in directory is where the stand-in authority is."""
    return settings.directory_url or _issuers(settings)[0].iss


def _registry_url(settings: Settings) -> str:
    """In a sandbox the stand-in locator is where the stand-in authority is."""
    return settings.registry_url or _issuers(settings)[0].iss


def _token_url(settings: Settings) -> str:
    issuers = _issuers(settings)
    return settings.token_url or (f"{issuers[0].iss}/token" if issuers else "")


def _origins(settings: Settings) -> list[str]:
    """Whom this gateway may ask: what its settings name, and nobody else."""
    urls = [*settings.allow, _directory_url(settings), _token_url(settings)]
    urls += [issuer.jwks_url for issuer in _issuers(settings)]
    if settings.capabilities.registration:
        urls.append(_registry_url(settings))
    return sorted({_origin(url) for url in urls if url})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _hosts(url: str, bind: str) -> frozenset[str]:
    """The values of `Host` that mean this listener; on the loopback also its other names."""
    parts = urlsplit(url)
    names = {parts.netloc}
    if is_loopback(parts.hostname):
        names |= {f"{name}:{bind.rpartition(':')[2]}" for name in ("127.0.0.1", "localhost", "[::1]")}
    return frozenset(names)
