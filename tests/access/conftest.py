"""A gate that trusts one authority, with a real store under it and a clock that tests may move."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.authority import CUSTODIAN, ISSUER, ORGANISATION, PUBLIC_URL, Authority

from mdg.access import Gate, Issuer, Jwks, Replay, Revocations, SteadyClock
from mdg.errors import InputOutput
from mdg.keys import LocalDirectory
from mdg.model.request import Requester
from mdg.store import Store

PATH = "/fhir/ImagingStudy/_search"


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Site:
    """One address on the network, as the outbound client sees it: `answer` None is a server that is down."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def get(self, url: str) -> Answer:
        self.asked.append(url)
        if self.answer is None:
            raise InputOutput("https://as.example.gov.au", "it is down")
        return self.answer


@dataclass
class World:
    """The gate and all that it depends on."""

    authority: Authority
    site: Site
    directory: LocalDirectory
    revocations: Revocations
    replay: Replay
    clock: Clock
    gate: Gate

    async def enter(self, token: str | None = None, proof: str | None = None, *, method: str = "POST") -> Requester:
        """One call with `token`, by default a good one, and a proof that fits it."""
        token = token if token is not None else self.authority.token(self.authority.claims(now=self.clock.now))
        proof = proof if proof is not None else self.prove(token, method)
        return await self.gate.authenticate([f"DPoP {token}"], [proof], method, PATH)

    def prove(self, token: str, method: str = "POST") -> str:
        return self.authority.proof.prove(method, f"{PUBLIC_URL}{PATH}", token, now=self.clock.now)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with Store.open(str(tmp_path / "mdg.db")) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(store: Store, clock: Clock) -> World:
    authority = Authority()
    site = Site(Answer(200, json.dumps(authority.jwks()).encode()))
    issuer = Issuer(ISSUER, Jwks(f"{ISSUER}/jwks", site, clock=clock.monotonic))
    directory = LocalDirectory([], [ORGANISATION])
    revocations = Revocations(store, CUSTODIAN, clock)
    replay = Replay(store, CUSTODIAN, SteadyClock(store, CUSTODIAN, clock))
    gate = Gate([issuer], directory, replay, PUBLIC_URL, revocations=revocations, clock=clock)
    return World(authority, site, directory, revocations, replay, clock, gate)
