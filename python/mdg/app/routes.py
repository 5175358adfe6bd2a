"""The whole URL map of both listeners. A route that is not under "public" below has the lock of `web.authentication`; a
test walks the table and tries each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from mdg import __version__
from mdg.app.rooms import Rooms
from mdg.app.services import issuers, registry_url, token_url
from mdg.app.state import STARTED, details, problems, ready
from mdg.config import is_loopback, port_of
from mdg.exchange.refusal import whose
from mdg.fhir import Json
from mdg.fhir.capability_statement import capability_statement
from mdg.fhir.found import Server, patient_bundle, study_bundle
from mdg.fhir.search import IMAGING_STUDY, PATIENT, Terms
from mdg.sandbox import create_app as create_sandbox
from mdg.web.admin.audit import AuditDoor
from mdg.web.admin.consent import ConsentDoor
from mdg.web.admin.jobs import JobsDoor
from mdg.web.admin.lock import AdminLock
from mdg.web.admin.openapi import openapi
from mdg.web.admin.retrieval import RetrievalDoor
from mdg.web.admin.revocation import RevocationDoor
from mdg.web.admin.state import StateDoor
from mdg.web.authentication import Authentication
from mdg.web.edge import Edge
from mdg.web.fhir.answers import OPERATION_OUTCOME
from mdg.web.fhir.read import ReadDoor
from mdg.web.fhir.search import SearchDoor
from mdg.web.fhir.subscription import SubscriptionDoor
from mdg.web.health import HealthDoor
from mdg.web.home import HomeDoor
from mdg.web.ief_statement import IefStatementDoor, ief_statement
from mdg.web.jmix.retrieval import JmixDoor
from mdg.web.jmix.streams import Streams
from mdg.web.standard import PROBLEM_DOCUMENT, Standard, routes_of
from mdg.web.wellknown import WellKnownDoor

_PORT = re.compile(":[0-9]+$")


def create_public(rooms: Rooms) -> Starlette:
    """The public listener: FHIR and JMIX, and in a sandbox the stand-ins for the national services."""
    settings, standards = rooms.settings, _public(rooms)
    if settings.own_sandbox:
        sandbox = Mount("/sandbox", create_sandbox(f"{settings.public_url}/sandbox"))
        standards.insert(0, Standard("/sandbox", OPERATION_OUTCOME, [sandbox]))
    return _application(rooms, standards, _hosts(settings.public_url, settings.bind))


def _public(rooms: Rooms) -> list[Standard]:
    """The doors of the gateway itself, by standard. Consumers come to the JMIX doors from a FHIR Endpoint, and the
    specification of JMIX leaves the form of a refusal open: they get OperationOutcomes there too."""
    settings, on = rooms.settings, rooms.settings.capabilities
    server = Server(settings.public_url, settings.canonical_base, rooms.numbers)
    terms = Terms(settings.time_zone, server.fhir, rooms.numbers)
    discovery, cursors = rooms.discovery, rooms.cursors
    studies = SearchDoor(IMAGING_STUDY, discovery.search, study_bundle, server, terms, cursors)
    patients = SearchDoor(PATIENT, discovery.search_patients, patient_bundle, server, terms, cursors)
    fhir = ReadDoor(discovery, server, lambda: _statement(rooms, routes_of(standards)))
    streams = Streams(settings.streams, settings.streams_each)
    jmix = JmixDoor(rooms.retrieval, settings.public_url, rooms.metrics, streams)
    health = HealthDoor(partial(ready, rooms))
    known = WellKnownDoor(
        settings.public_url,
        [issuer.iss for issuer in issuers(rooms.settings)],
        token_url(settings),
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
            registries=[registry_url(settings)] if on.registration else [],
        ),
        sandbox=settings.sandbox,
    )
    home = HomeDoor(
        f"{settings.name}: imaging gateway",
        "Other gateways find and fetch imaging here, each with its own token. There is nothing to sign in to: people "
        "use their own viewer, whose gateway asks this one.",
        {
            "What this service offers (IEF)": "/ief-capability-statement.html",
            "FHIR CapabilityStatement": "/fhir/metadata",
            "Where tokens come from": "/.well-known/smart-configuration",
            "Readiness, for probes": "/readyz",
        },
        ready=partial(ready, rooms),
        sandbox=settings.sandbox,
    )
    locked = partial(Route, middleware=[Middleware(Authentication, gate=rooms.gate)])
    pages: list[BaseRoute] = [
        # public
        Route("/", home.home),
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        Route("/.well-known/oauth-protected-resource/fhir", known.protected_resource),
        Route("/.well-known/oauth-protected-resource", known.protected_resource),
        Route("/.well-known/smart-configuration", known.smart_configuration),
        Route("/ief-capability-statement", statement.negotiated),
        Route("/ief-capability-statement.json", statement.as_json),
        Route("/ief-capability-statement.html", statement.as_html),
        Route("/.well-known/ief-capability-statement", statement.negotiated),
    ]
    of_fhir: list[BaseRoute] = [
        # public
        Route("/fhir/metadata", fhir.metadata),
        Route("/fhir/.well-known/smart-configuration", known.smart_configuration),
    ]
    of_jmix: list[BaseRoute] = []
    if on.discovery:
        of_fhir += [
            locked("/fhir/ImagingStudy", studies.get),
            locked("/fhir/ImagingStudy/_search", studies.post, methods=["POST"]),
            locked("/fhir/ImagingStudy/{id}", fhir.imaging_study),
            locked("/fhir/ImagingStudy/{id}/_history/{version}", fhir.imaging_study_version),
            locked("/fhir/Patient", patients.get),
            locked("/fhir/Patient/_search", patients.post, methods=["POST"]),
            locked("/fhir/Patient/{id}", fhir.patient),
        ]
    if on.discovery and on.retrieval:
        of_fhir += [locked("/fhir/Endpoint/{id}", fhir.endpoint)]
    if on.retrieval:
        of_jmix += [
            locked("/api/jmix", jmix.by_study),
            locked("/api/jmix/requests", jmix.request, methods=["POST"]),
            locked("/api/jmix/r/{recipe}", jmix.download),
            locked("/api/jmix/r/{recipe}/renew", jmix.renew, methods=["POST"]),
            locked("/api/jmix/{id}", jmix.by_id),
            locked("/api/jmix/{id}/manifest", jmix.manifest),
        ]
    if on.subscription:
        subscription = SubscriptionDoor(rooms.subscriptions, server)
        of_fhir += [
            locked("/fhir/Subscription", subscription.create, methods=["POST"]),
            locked("/fhir/Subscription/{id}", subscription.read),
            locked("/fhir/Subscription/{id}", subscription.delete, methods=["DELETE"]),
            locked("/fhir/Subscription/{id}/$status", subscription.status, methods=["GET", "POST"]),
        ]
    standards = [
        Standard("/fhir", OPERATION_OUTCOME, of_fhir),
        Standard("/api/jmix", OPERATION_OUTCOME, of_jmix),
        Standard("", OPERATION_OUTCOME, pages),
    ]
    return standards


def create_admin(rooms: Rooms) -> Starlette:
    """The admin listener: numbers, records, and retrievals that this gateway makes as a consumer."""
    settings = rooms.settings
    state = StateDoor(
        rooms.metrics,
        rooms.audit,
        details=partial(details, rooms),
        problems=partial(problems, rooms),
        configuration=settings.model_dump(mode="json"),
        description=cache(lambda: openapi({settings.public_url: _public(rooms), url: standards}, version=__version__)),
    )
    jobs = JobsDoor(rooms.jobs, rooms.audit)
    audit, retrieval = AuditDoor(rooms.audit), RetrievalDoor(rooms.reception)
    revocation = RevocationDoor(rooms.revocations, rooms.audit)
    consent = ConsentDoor(rooms.consents, rooms.audit)
    url = f"http://{settings.admin_bind}"
    token = settings.admin_token.get_secret_value() if settings.admin_token else None
    home = HomeDoor(
        f"{settings.name}: for operators",
        f"What the gateway at {settings.public_url} is doing. Keep this listener away from every public network.",
        {
            "Health": "/health",
            "Studies and files that are not shown": "/problems",
            "Work that is still to be done": "/jobs",
            "Records of the audit": "/audit",
            "Settings, without secrets": "/configuration",
            "Metrics": "/metrics",
            "All addresses (OpenAPI)": "/openapi.json",
        },
        ready=partial(ready, rooms),
        sandbox=settings.sandbox,
    )
    health = HealthDoor(partial(ready, rooms))
    locked = partial(Route, middleware=[Middleware(AdminLock, token=token)])
    routes: list[BaseRoute] = [
        # public
        Route("/livez", health.livez),
        Route("/readyz", health.readyz),
        locked("/", home.home),
        locked("/health", state.health),
        locked("/version", state.version),
        locked("/configuration", state.configuration),
        locked("/jobs", jobs.list),
        locked("/jobs/{id}", jobs.show),
        locked("/jobs/{id}/retry", jobs.retry, methods=["POST"]),
        locked("/jobs/{id}/cancel", jobs.cancel, methods=["POST"]),
        locked("/openapi.json", state.openapi),
        locked("/metrics", state.metrics),
        locked("/audit", audit.list),
        locked("/audit/_search", audit.search, methods=["POST"]),
        locked("/audit/{request_id}", audit.of_request),
        locked("/problems", state.problems),
        locked("/revocations", revocation.revoke, methods=["POST"]),
        locked("/revocations", revocation.list),
        locked("/revocations/{id}", revocation.end, methods=["DELETE"]),
        locked("/consents", consent.record, methods=["POST"]),
        locked("/consents/_search", consent.search, methods=["POST"]),
        locked("/consents/{id}", consent.replace, methods=["PUT"]),
        locked("/consents/{id}", consent.end, methods=["DELETE"]),
        locked("/retrievals", retrieval.retrieve, methods=["POST"]),
    ]
    standards = [Standard("", PROBLEM_DOCUMENT, routes)]
    return _application(rooms, standards, _hosts(url, settings.admin_bind))


def _application(rooms: Rooms, standards: Sequence[Standard], hosts: frozenset[str]) -> Starlette:
    """Routes behind the edge. Errors pass through to the edge, which renders them in the form of the standard."""
    fhir = f"{rooms.settings.public_url}/fhir"
    edge = Middleware(
        Edge,
        audit=rooms.audit,
        hosts=hosts,
        standards=standards,
        metrics=rooms.metrics,
        fhir=fhir,
        whose=partial(whose, rooms.identities),
        proxies=rooms.settings.trusted_proxies,
        proxy_header=rooms.settings.proxy_header,
    )
    app = Starlette(routes=routes_of(standards), middleware=[edge], exception_handlers={HTTPException: _pass_on})
    # Starlette would answer a path with a slash more by a redirect to the same path and query, without any record.
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
        issuers=[issuer.iss for issuer in issuers(settings)],
    )


def _hosts(url: str, bind: str) -> frozenset[str]:
    """The values of `Host` that mean this listener; on the loopback also its other names. The port that belongs to the
    scheme may stand there or not (RFC 9110 4.2.3)."""
    parts = urlsplit(url)
    names = {parts.netloc}
    if is_loopback(parts.hostname):
        names |= {f"{name}:{port_of(bind)}" for name in ("127.0.0.1", "localhost", "[::1]")}
    usual = {"http": ":80", "https": ":443"}[parts.scheme]
    with_port = {name if _PORT.search(name) else name + usual for name in names}
    return frozenset(names | with_port | {name.removesuffix(usual) for name in with_port})
