"""The scenes of the demo, in order; each does what its line says, measures it, and raises `DemoFailed` when it does not
hold.

The consumer's part is played by the consumer gateway itself (`POST /retrievals` at its admin listener). This process
prepares folders, holds the wire between the two, and asks as a client where a refusal is to be shown.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx2
from anyio import to_thread

from mdg.access.jwt import UnverifiedToken
from mdg.cli.choice import Choice
from mdg.cli.picture import middle_of, write_png
from mdg.cli.serve import folder_source
from mdg.cli.stage import GatewayProcess, Stage, free_port
from mdg.cli.terminal import command, count, megabytes
from mdg.client import DISCOVERY, AccessToken, Gateway, Tokens
from mdg.errors import MdgError, Unsupported
from mdg.keys import Keyring
from mdg.model.identity import IHI_SYSTEM, HpiO, Ihi
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_CONSUMER, EXAMPLE_IHI, EXAMPLE_PROVIDER, made_up
from mdg.sandbox.phantom import ISSUER
from mdg.sandbox.wire import Wire
from mdg.sources.headers import read_header

ZONE = "Australia/Sydney"
EARLY = 4096  # bytes after which an answer to a retrieval is surely inside the envelope
TRANSFERRED = "110104"
"""DCM code of the record at the end of a transfer: DICOM Instances Transferred (PS3.16 CID 400)."""
RETRIEVAL_TIME = 300.0  # seconds that a retrieval may take


class DemoFailed(MdgError):
    """A scene went otherwise than it has to."""


@dataclass
class Scenes:
    """One performance: the cast, and what is known after each scene."""

    stage: Stage
    wire: Wire
    port: int
    """Where the provider listens; others reach it through the wire."""
    choice: Choice
    tell: Callable[[str], None]
    http: httpx2.AsyncClient
    provider: GatewayProcess = field(init=False)
    consumer: GatewayProcess = field(init=False)
    sandbox: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file at the provider by its SOPInstanceUID, written down before anything is sent."""
    asked: list[str] = field(default_factory=list)
    retrievals: list[str] = field(default_factory=list)
    """X-Request-ID of each request of this process, and of each retrieval of the consumer."""
    arrived: dict[str, int] = field(default_factory=dict)
    """The bytes of each transfer that arrived, by its X-Request-ID."""

    async def begin(self) -> None:
        """The provider has a study and knows whose it is; the consumer has nothing."""
        images = self.stage.root / "provider" / "images"
        self.digests = await to_thread.run_sync(_digests, images)
        identity = self.stage.root / "provider" / "identity.csv"
        patient = self.choice.patient
        with identity.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(("PatientID", "issuer", "IHI", "source", "date"))
            lines.writerow((patient.value, patient.issuer, EXAMPLE_IHI, "demo", f"{datetime.now(UTC):%Y-%m-%d}"))
        self.sandbox = await self.stage.sandbox()
        self.provider = await self.stage.gateway(
            "provider",
            self.port,
            self.wire.port,
            self._settings("Demo Provider", EXAMPLE_PROVIDER)
            | {"sources": folder_source([images]), "identity": identity},
        )
        port = free_port()
        self.consumer = await self.stage.gateway(
            "consumer",
            port,
            port,
            self._settings("Demo Consumer", EXAMPLE_CONSUMER) | {"allow": [self.provider.url]},
        )
        held = f"{count(self.provider.instances, 'instance')} of {count(self.provider.studies, 'study')}"
        if (self.provider.studies, self.provider.instances) != (1, self.choice.instances):
            raise DemoFailed(f"the provider indexed {held}, it has {count(self.choice.instances, 'instance')}")
        self.tell(f"provider: {held}, {megabytes(self.choice.bytes)}, indexed in place")
        self.tell(
            f"identity: patient {patient.value} of issuer {patient.issuer} -> IHI {EXAMPLE_IHI.masked} (identity.csv)"
        )

    async def exchange(self) -> None:
        """The consumer finds the study, asks for it, downloads, verifies and keeps it."""
        answer = await self._retrieve()
        if answer.status_code != 201:
            raise DemoFailed(_fault(answer))
        got = answer.json()
        way = "consumer -> provider  "
        found = f"{count(got['studies'], 'study')}, {count(got['endpoints'], 'JMIX endpoint')}"
        speed = f"{got['bytes'] / 1e6 / got['seconds']:,.0f} MB/s"
        self.tell(f"consumer -> token authority: {await self._token_in_words()}")
        self.tell(f"{way}POST /fhir/ImagingStudy/_search   200  {found:<36}{got['search_seconds'] * 1e3:5.0f} ms")
        asked = "signed request, fresh X25519 key"
        self.tell(f"{way}POST /api/jmix/requests           201  {asked:<36}{got['request_seconds'] * 1e3:5.0f} ms")
        came = f"{got['bytes']:,} bytes, length announced exactly"
        self.tell(f"{way}GET  /api/jmix/r/…                200  {came:<36} {speed}")
        self.arrived[self.retrievals[-1]] = got["bytes"]

    async def compare(self) -> None:
        """The provider's images are gone before a digest is compared, so nothing can come from there any more."""
        shutil.rmtree(self.stage.root / "provider" / "images")
        opened = await to_thread.run_sync(_digests, self.consumer.folder / "data" / "received")
        equal = sum(opened.get(uid) == digest for uid, digest in self.digests.items())
        if equal != len(self.digests) or len(opened) != equal:
            raise DemoFailed(f"{equal} of {len(self.digests)} SHA-256 equal, {len(opened)} files at the consumer")
        async with self._client(self.consumer) as asking:
            found = await asking.gateway.find(EXAMPLE_IHI, request_id=str(uuid4()))
        if [study.uid for study in found.studies] != [self.choice.uid]:
            raise DemoFailed("the study is stored but not discoverable at the consumer")
        self.tell(
            "opened: signature by the provider's key from the directory, "
            f"{equal} of {len(self.digests)} SHA-256 equal, stored, discoverable at the consumer"
        )

    async def draw(self, picture: Path) -> None:
        """The middle slice as the consumer has it."""

        def work() -> None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            write_png(middle_of(self.consumer.folder / "data" / "received"), picture)

        try:
            await to_thread.run_sync(work)
        except Unsupported as error:
            self.tell(f"picture: none, {error.why}")
        else:
            self.tell(f"picture: {picture}")

    async def refuse(self) -> str:
        """What must not work does not; returns the line that says so. It comes before `compare`, because the provider
        must still have the study."""
        search = f"{self.provider.url}/fhir/ImagingStudy/_search"
        requests = f"{self.provider.url}/api/jmix/requests"
        form = "application/x-www-form-urlencoded"
        own, others = (
            urlencode({"patient.identifier": f"{IHI_SYSTEM}|{who}"}).encode()
            for who in (EXAMPLE_IHI, made_up(Ihi, "somebody else"))
        )
        async with self._client(self.provider) as asking:
            none = await self._status(search, {"Content-Type": form}, own)
            token = await asking.tokens.token(asking.gateway.fhir, DISCOVERY, ihi=EXAMPLE_IHI)
            another = await self._status(search, {"Content-Type": form} | asking.proved(search, token), others)
            jose = {"Content-Type": "application/jose"} | asking.proved(requests, token)
            scope = await self._status(requests, jose, b"e30.e30.e30")
        if (none, another, scope) != (401, 403, 403):
            raise DemoFailed(f"no token {none}, another patient {another}, discovery-only token {scope}")
        code = await self.change_a_byte()
        return (
            f"refused: no token {none}; another patient {another}; discovery-only token for the payload {scope}; "
            f"a byte changed on the wire: {code}"
        )

    async def change_a_byte(self) -> str:
        """A retrieval whose envelope is changed by one bit in its middle; returns the code of the refusal."""
        before = self.wire.flipped
        self.wire.arm(max(self.choice.bytes // 2, EARLY))
        answer = await self._retrieve()
        self.wire.disarm()
        if self.wire.flipped != before + 1:
            raise DemoFailed("no byte was changed on the wire")
        if answer.status_code == 201:
            raise DemoFailed("a changed byte was not noticed")
        return _fault(answer)

    async def account(self) -> None:
        """Every request of this demo is in the records of the side that answered it, and of the side that asked; each
        transfer that arrived is recorded as one."""
        counts = []
        for side, requests in ((self.provider, self.asked + self.retrievals), (self.consumer, self.retrievals)):
            counts.append((await self.http.get(f"{side.admin}/health")).json()["audit_records"])
            for request_id in requests:
                answer = await self.http.get(f"{side.admin}/audit/{request_id}")
                if answer.status_code != 200:
                    raise DemoFailed(f"the {side.folder.name} has no record of request {request_id}")
                if side is self.provider and request_id in self.arrived:
                    check_transfer(answer.json()["of_callers"], self.arrived[request_id])
        self.tell(f"audit: provider {counts[0]} records, consumer {counts[1]} records, each request accounted for")

    def addresses(self) -> list[str]:
        """What `--keep` prints. The provider's images are gone by now; the consumer has the study and shows it."""
        curl = f"{command()} sandbox token --gateway {self.consumer.url} --curl"
        return [
            f"provider: {self.provider.url}   admin: {self.provider.admin}",
            f"consumer: {self.consumer.url}   admin: {self.consumer.admin}",
            f"sandbox:  {self.sandbox}",
            f"folders:  {self.stage.root}",
            "ask the consumer for the study that it received:",
            f"  echo {EXAMPLE_IHI} | {curl} | sh",
        ]

    def _settings(self, name: str, custodian: HpiO) -> dict[str, object]:
        return {
            "custodian": custodian,
            "name": name,
            "default_issuer": ISSUER,
            "time_zone": ZONE,
            "sandbox": True,
            "directory_url": self.sandbox,
            "token_url": f"{self.sandbox}/token",
            "issuers": [{"iss": self.sandbox, "jwks_url": f"{self.sandbox}/jwks"}],
        }

    async def _retrieve(self) -> httpx2.Response:
        """Has the consumer gateway retrieve the study from the provider."""
        answer = await self.http.post(
            f"{self.consumer.admin}/retrievals",
            json={"gateway": self.provider.url, "ihi": EXAMPLE_IHI, "study": self.choice.uid},
            timeout=RETRIEVAL_TIME,
        )
        self.retrievals.append(answer.headers["X-Request-ID"])
        return answer

    async def _token_in_words(self) -> str:
        """What the authority gives the consumer's keys: read from such a token, since no gateway shows its own."""
        async with self._client(self.provider) as asking:
            token = await asking.tokens.token(asking.gateway.fhir, DISCOVERY, ihi=EXAMPLE_IHI)
        read = UnverifiedToken.parse(token.value)
        match read.claims:
            case {"cnf": {"jkt": asking.keyring.dpop.jkt}, "extensions": {"ihe_iua": {"purpose_of_use": list(codes)}}}:
                purposes = " ".join(str(code["code"]) for code in codes)
                return f"{read.header['alg']} {read.header['typ']}, purpose {purposes}, bound to the consumer's key"
        raise DemoFailed("the token is not bound to the consumer's key, or has no purpose")

    async def _status(self, url: str, headers: dict[str, str], content: bytes) -> int:
        """The status of one request of this process."""
        answer = await self.http.post(url, content=content, headers=headers)
        self.asked.append(answer.headers["X-Request-ID"])
        return answer.status_code

    @asynccontextmanager
    async def _client(self, to: GatewayProcess) -> AsyncIterator[Asking]:
        """The consumer's organisation as a client of a gateway, with the consumer's own keys."""
        keyring = Keyring.open(self.consumer.folder / "data", id=EXAMPLE_CONSUMER.uri, name="Demo Consumer", contact="")
        async with Outbound([to.url, self.sandbox], sandbox=True) as outbound:
            tokens = Tokens(f"{self.sandbox}/token", outbound, keyring, EXAMPLE_CONSUMER)
            yield Asking(Gateway(to.url, outbound, keyring, tokens), tokens, keyring)


def check_transfer(events: Sequence[Mapping[str, Any]], arrived: int) -> None:
    """The provider's records of a transfer of `arrived` bytes say that it ended well. Raises: DemoFailed."""
    ends = [event for event in events if event["subtype"][0]["code"] == TRANSFERRED]
    if len(ends) != 1:
        raise DemoFailed(f"the provider has {count(len(ends), 'record')} of the end of a transfer that arrived")
    (end,) = ends
    details = {detail["type"]: detail for entity in end["entity"] for detail in entity.get("detail", ())}
    said = (end["outcome"], details.get("bytes", {}).get("valueString"))
    if said != ("0", str(arrived)):
        raise DemoFailed(
            f"the provider recorded a transfer of {arrived:,} bytes that arrived as outcome {said[0]} "
            f"({end.get('outcomeDesc', 'no reason')}), {said[1]} bytes"
        )


@dataclass(frozen=True, slots=True)
class Asking:
    """A client of one gateway, and what it holds to ask otherwise than it should."""

    gateway: Gateway
    tokens: Tokens
    keyring: Keyring

    def proved(self, url: str, token: AccessToken) -> dict[str, str]:
        """The headers of a POST that uses `token`."""
        proof = self.keyring.dpop.prove("POST", url, token.value)
        return {"Authorization": f"DPoP {token.value}", "DPoP": proof}


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each DICOM file below a folder, by its SOPInstanceUID."""
    found = {}
    for path in sorted(folder.rglob("*.dcm")):
        with path.open("rb") as file:
            found[str(read_header(path).SOPInstanceUID)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _fault(answer: httpx2.Response) -> str:
    """The code in a refusal of the consumer gateway, or what else it says."""
    try:
        said = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        said = ""
    code = re.search(r"E_[A-Z_]+", said)
    return code[0] if code else f"the consumer answered {answer.status_code}: {said or 'nothing'}"
