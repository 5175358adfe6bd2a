"""The rooms of one gateway: opened in the order of the floors, closed in the reverse.

Two listeners share one set of rooms, because exactly one connection may write to the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import anyio
from anyio import to_thread

from mdg import __version__
from mdg.access import (
    Clock,
    Gate,
    Issuer,
    Jwks,
    RecordedConsents,
    Replay,
    Revocations,
    SteadyClock,
    Tickets,
    decide,
    utc_now,
)
from mdg.app.services import directory_url, issuers, origins, registry_url, token_url
from mdg.app.sources import open_sources
from mdg.audit import Audit
from mdg.audit.event import Agent
from mdg.client import Gateway, Tokens
from mdg.config import Settings
from mdg.errors import MdgError
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.decision import Decide, Decisions
from mdg.exchange.discovery import Discovery
from mdg.exchange.envelopes import SWEEP, SWEEP_SPOOL, Envelopes
from mdg.exchange.making import AT_ONCE, MAKE_ENVELOPE, Making
from mdg.exchange.notification import FORGET, Notifications
from mdg.exchange.reception import Reception
from mdg.exchange.registration import Registrar
from mdg.exchange.retrieval import Retrieval
from mdg.exchange.subscription import Subscriptions
from mdg.fhir import subscription as fhir_subscription
from mdg.identity import Identities
from mdg.jobs import Jobs
from mdg.jobs import Kind as JobKind
from mdg.jobs.events import MATCH_SUBSCRIBERS, TELL_REGISTRY, identified
from mdg.keys import Directory, HttpDirectory, Keyring
from mdg.model.event import Event, Kind, Outcome
from mdg.model.local_numbers import LocalNumbers
from mdg.outbound import Outbound
from mdg.registry import Registrations, Registry
from mdg.sources.kinds import KINDS, SourceKind
from mdg.sources.source import Finds, Writes
from mdg.store import DataFolder, Store
from mdg.subscriptions.table import END, NOTIFY
from mdg.web.cursor import Cursors
from mdg.web.metrics import Metrics

AHEAD = 15
"""Short jobs of a kind that are claimed together with the one that is done."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """The open rooms of one gateway."""

    settings: Settings
    store: Store
    clock: SteadyClock
    keyring: Keyring
    outbound: Outbound
    directory: Directory
    directory_url: str
    identities: Identities
    sources: Sequence[Finds]
    received: Writes
    audit: Audit
    gate: Gate
    revocations: Revocations
    consents: RecordedConsents
    cursors: Cursors
    discovery: Discovery
    retrieval: Retrieval
    jobs: Jobs
    numbers: LocalNumbers
    envelopes: Envelopes
    making: Making
    reception: Reception
    subscriptions: Subscriptions
    metrics: Metrics
    stopping: anyio.Event


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    *,
    decide: Decide = decide,
    clock: Clock = utc_now,
    kinds: Mapping[str, SourceKind] = KINDS,
    trust_clock: bool = False,
) -> AsyncIterator[Rooms]:
    """Opens all rooms, and closes them in the reverse order. `decide`, `clock` and `kinds` are given by tests only.
    With `trust_clock` the time is what the clock says, though a later one was seen before."""
    async with AsyncExitStack() as stack:
        rooms = await _open(stack, settings, decide, clock, kinds, trust_clock=trust_clock)
        await rooms.audit.record(Event(Kind.START, Outcome.SUCCESS, "start", details=(("version", __version__),)))
        try:
            yield rooms
        finally:
            with anyio.move_on_after(5, shield=True):
                await _record_stop(rooms)


async def _open(
    stack: AsyncExitStack,
    settings: Settings,
    decide: Decide,
    machine_clock: Clock,
    kinds: Mapping[str, SourceKind],
    *,
    trust_clock: bool,
) -> Rooms:
    custodian = settings.custodian
    keyring = await to_thread.run_sync(
        partial(Keyring.open, settings.data, id=custodian.uri, name=settings.name, contact=settings.contact)
    )
    store = await stack.enter_async_context(Store.open(settings.store_url))
    data = await to_thread.run_sync(stack.enter_context, DataFolder(settings.data))
    clock = SteadyClock(store, custodian, machine_clock)
    await (clock.trust() if trust_clock else clock.load())
    await stack.enter_async_context(_running(clock.run))
    consents = RecordedConsents(store, custodian, clock)
    jobs = Jobs(store, custodian, machine_clock)
    decisions = Decisions(decide=decide, clock=clock)
    outbound = await stack.enter_async_context(Outbound(origins(settings), settings.sandbox))
    directory = HttpDirectory(directory_url(settings), outbound)
    audit = Audit(store, custodian, Agent("mdg", __version__, settings.public_url))
    identities = Identities(store, custodian, settings.default_issuer, identified)
    numbers = LocalNumbers(custodian, settings.name, settings.default_issuer, settings.canonical_base)
    sources = await open_sources(settings, store, kinds)
    received = next(source for source in sources if isinstance(source, Writes))
    catalogue = Catalogue(sources, identities, consents)
    replay = Replay(store, custodian, clock)
    cursors = Cursors(clock)
    envelopes = Envelopes(store, settings.data / "spool", custodian, keyring, timedelta(hours=settings.envelope_hours))
    making = Making(jobs)
    revocations = Revocations(store, custodian, clock)
    gate = Gate(
        [Issuer(one.iss, Jwks(one.jwks_url, outbound), one.algorithms, one.clients) for one in issuers(settings)],
        directory,
        replay,
        settings.public_url,
        revocations=revocations,
        clock=clock,
    )
    retrieval = Retrieval(
        catalogue,
        decisions,
        audit,
        envelopes,
        making=making,
        tickets=Tickets(keyring.ticket),
        replay=replay,
        directory=directory,
        standing=gate,
        custodian=custodian,
        numbers=numbers,
        minimum_level=settings.minimum_level,
    )
    tokens = Tokens(token_url(settings), outbound, keyring, custodian)

    def gateway_at(url: str) -> Gateway:
        outbound.check(url)  # before the token authority is told of whom we ask
        return Gateway(url, outbound, keyring, tokens)

    ways = {
        organisation: await stack.enter_async_context(Outbound(origins, settings.sandbox))
        for organisation, origins in settings.subscribers.items()
    }
    subscriptions = Subscriptions(store, decisions, audit, consents=consents, ways=ways, custodian=custodian)
    notifications = Notifications(
        store,
        catalogue,
        decisions,
        audit,
        standing=gate,
        ways=ways,
        custodian=custodian,
        message=partial(fhir_subscription.message, f"{settings.public_url}/fhir", settings.canonical_base),
    )
    if settings.capabilities.subscription:
        jobs.do(
            JobKind(MATCH_SUBSCRIBERS, notifications.match, ahead=AHEAD),
            # As many for each organisation as its client has connections.
            JobKind(NOTIFY, notifications.send, at_once=256, each=32),
            JobKind(END, notifications.end),
            JobKind("forget-events", notifications.forget, every=FORGET),
        )
    reception = Reception(gateway_at, directory, received, audit, settings.data.resolve() / "incoming")
    if data.alone:  # nothing is under way in the folder, so what a crash left can go
        await received.sweep()
        await reception.sweep()
        await envelopes.sweep(machine_clock(), starting=True)
    await to_thread.run_sync(data.share)
    jobs.do(
        JobKind(SWEEP_SPOOL, envelopes.swept, every=SWEEP),
        JobKind(MAKE_ENVELOPE, retrieval.make, at_once=AT_ONCE, tries=1),
    )
    if settings.capabilities.registration:
        registry = Registry(registry_url(settings), outbound, tokens, keyring.dpop)
        registrar = Registrar(
            store,
            registrations=Registrations(store, custodian),
            registry=registry,
            catalogue=catalogue,
            identities=identities,
            audit=audit,
            custodian=custodian,
            service_id=settings.service,
        )
        if settings.own_sandbox:  # its memory began with this process
            await registrar.begin_anew()
        jobs.do(JobKind(TELL_REGISTRY, registrar.look, ahead=AHEAD))
    await stack.enter_async_context(_running(jobs.run))
    return Rooms(
        settings=settings,
        store=store,
        clock=clock,
        keyring=keyring,
        outbound=outbound,
        directory=directory,
        directory_url=directory_url(settings),
        identities=identities,
        sources=sources,
        received=received,
        audit=audit,
        gate=gate,
        revocations=revocations,
        consents=consents,
        cursors=cursors,
        discovery=Discovery(catalogue, decisions, audit, retrievable=settings.capabilities.retrieval),
        retrieval=retrieval,
        jobs=jobs,
        numbers=numbers,
        envelopes=envelopes,
        making=making,
        reception=reception,
        subscriptions=subscriptions,
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


async def _record_stop(rooms: Rooms) -> None:
    try:
        await rooms.audit.record(Event(Kind.STOP, Outcome.SUCCESS, "stop"))
    except MdgError:
        return  # a store that is gone cannot say so in itself; the next start finds it unclean
