"""Downloads as a hospital would look at them afterwards: the bytes that arrived, and what the record says of each.

The gateway is `mdg serve` as its own process. The readers write HTTP by hand on plain sockets, so that each keeps the
pace, the version of HTTP and the connection that it is meant to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from tests.identities import write_identity_csv
from tests.journeys.conftest import MDG
from tests.web.conftest import known_consumer

from mdg.keys import Keyring
from mdg.model.identity import HpiO
from mdg.outbound import Outbound
from mdg.sandbox.identifiers import EXAMPLE_IHI, made_up
from mdg.sandbox.phantom import write_phantom

pytestmark = pytest.mark.anyio

SLICES = 40
"""About 21 MB: more than the kernel holds of one connection of the loopback."""
RETRIEVE = ("urn:ief:scope:imaging.retrieve",)
FAST = float("inf")
STEP = 64 * 1024
PATIENCE = 60.0  # seconds for one `recv`, and for a record to be written: a test that hangs ends


@dataclass(frozen=True)
class Way:
    """How a reader asks: lines of the request, and the bytes a second that it takes."""

    version: str = "1.1"
    fields: tuple[str, ...] = ()
    pace: float = FAST
    leaves_after: int | None = None


@dataclass(frozen=True)
class Arrived:
    """What a reader has in the end."""

    request_id: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def announced(self) -> int:
        return int(self.headers["content-length"])


@dataclass
class Provider:
    """A gateway that serves one study, and a consumer with a token for it."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    uid: str
    keyring: Keyring
    token: str = field(repr=False)
    operator: httpx2.Client = field(default_factory=httpx2.Client, repr=False)

    @contextmanager
    def connection(self, buffer: int | None = None) -> Iterator[socket.socket]:
        """A connection to the gateway; `buffer` bounds the bytes that the reader's kernel takes ahead of the reader."""
        address = urlsplit(self.url)
        with socket.socket() as opened:
            opened.settimeout(PATIENCE)
            if buffer is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            opened.connect((address.hostname, address.port))
            yield opened

    def ask(self, connection: socket.socket, way: Way) -> None:
        """Sends one request for the study."""
        path = "/api/jmix"
        proof = self.keyring.dpop.prove("GET", f"{self.url}{path}", self.token)
        lines = [
            f"GET {path}?studyInstanceUid={self.uid} HTTP/{way.version}",
            f"Host: {urlsplit(self.url).netloc}",
            f"Authorization: DPoP {self.token}",
            f"DPoP: {proof}",
            *way.fields,
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())

    def read(self, connection: socket.socket, way: Way) -> Arrived:
        """One whole answer at the reader's pace, or as much of it as the reader stays for."""
        self.ask(connection, way)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += connection.recv(STEP)
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body, began = bytearray(rest), time.monotonic()
        wanted = int(headers["content-length"])
        if way.leaves_after is not None:
            wanted = min(wanted, way.leaves_after)
        while len(body) < wanted and (piece := connection.recv(STEP)):
            body += piece
            time.sleep(max(0.0, began + len(body) / way.pace - time.monotonic()))
        return Arrived(headers["x-request-id"], int(first.split(" ")[1]), headers, bytes(body))

    def download(self, way: Way) -> Arrived:
        """One answer on a connection of its own. If it asked for the close, the gateway closes after the last byte."""
        with self.connection(None if way.pace == FAST else 4 * STEP) as connection:
            arrived = self.read(connection, way)
            if "Connection: close" in way.fields or way.version == "1.0":
                assert connection.recv(1) == b"", "bytes after the end"
        return arrived

    def end_of(self, request_id: str) -> Ending:
        """The record of the end of a release: an operator waits for it as long as it takes."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            with suppress(httpx2.HTTPStatusError):
                answer = self.operator.get(f"{self.admin}/audit/{request_id}").raise_for_status()
                for event in answer.json()["events"]:
                    if event["subtype"][0]["code"] == "110104":  # DICOM Instances Transferred
                        return Ending(event["outcome"], event["outcomeDesc"], _bytes(event))
            time.sleep(0.05)
        raise AssertionError(f"no record of the end of {request_id}")


@dataclass(frozen=True)
class Ending:
    """What the record says of the end of one release."""

    outcome: str
    reason: str
    bytes: int


def _bytes(event: dict[str, Any]) -> int:
    details = [detail for entity in event["entity"] for detail in entity.get("detail", ())]
    (value,) = (detail["valueString"] for detail in details if detail["type"] == "bytes")
    return int(value)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def provider(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    root = tmp_path_factory.mktemp("downloads")
    await anyio.to_thread.run_sync(lambda: write_phantom(root / "images" / "study", slices=SLICES))
    csv = write_identity_csv(root / "identity.csv")
    folders = ("--folder", str(root / "images"), "--data", str(root / "data"), "--identity", str(csv))
    process = subprocess.Popen(  # noqa: ASYNC220 -- it outlives this call, and nothing else runs yet
        [*MDG, "serve", "--json", "--sandbox", "--port", "0", *folders],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"MDG_STREAMS_EACH": "128"},
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await anyio.to_thread.run_sync(process.stdout.readline))
        organisation = made_up(HpiO, "a reader")
        keyring = Keyring.open(root / "keys", id=organisation.uri, name="Reader", contact="")
        sandbox = f"{ready['public']}/sandbox"
        async with Outbound([ready["public"]], sandbox=True) as outbound, httpx2.AsyncClient() as http:
            reader = await known_consumer(ready["public"], sandbox, keyring, outbound=outbound, http=http)
            token = (await reader.tokens.token(f"{ready['public']}/fhir", RETRIEVE, ihi=EXAMPLE_IHI)).value
        made = Provider(process, ready["public"], ready["admin"], _uid(root / "images"), keyring, token)
        with made.operator:
            yield made
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _uid(images: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(next(images.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


CLOSE = ("Connection: close",)
PART = ("Range: bytes=1000-1500000",)
WAYS = {
    "fast, keep-alive": (Way(), 16),
    "fast, closing": (Way(fields=CLOSE), 16),
    "fast, by a proxy of HTTP/1.0": (Way("1.0", CLOSE), 8),
    "a part, keep-alive": (Way(fields=PART), 40),
    "a part, closing": (Way(fields=PART + CLOSE), 40),
    "3 MB/s, closing": (Way(fields=CLOSE, pace=3e6), 6),
    "5 MB/s, closing": (Way(fields=CLOSE, pace=5e6), 8),
    "8 MB/s, closing": (Way(fields=CLOSE, pace=8e6), 8),
    "5 MB/s, by a proxy of HTTP/1.0": (Way("1.0", CLOSE, pace=5e6), 4),
    "5 MB/s, keep-alive": (Way(pace=5e6), 4),
}


async def test_each_of_150_downloads_arrives_whole_and_is_recorded_as_complete(provider: Provider) -> None:
    whole = await anyio.to_thread.run_sync(provider.download, Way())
    digest = hashlib.sha256(whole.body).hexdigest()
    assert (whole.status, zipfile.ZipFile(io.BytesIO(whole.body)).testzip()) == (200, None)
    assert len(whole.body) > 20_000_000
    slow, fast = ThreadPoolExecutor(16), ThreadPoolExecutor(4)

    def all_of_them() -> dict[str, list[Arrived]]:
        with slow, fast:
            running = {
                name: [(fast if way.pace == FAST else slow).submit(provider.download, way) for _ in range(number)]
                for name, (way, number) in sorted(WAYS.items(), key=lambda item: item[1][0].pace)
            }
            return {name: [one.result() for one in ones] for name, ones in running.items()}

    arrived = await anyio.to_thread.run_sync(all_of_them)
    assert sum(len(ones) for ones in arrived.values()) == 150
    short = Counter(name for name, ones in arrived.items() for one in ones if len(one.body) != one.announced)
    assert not short, "downloads that lost their end"
    for name, ones in arrived.items():
        for one in ones:
            if PART[0] in WAYS[name][0].fields:
                assert (one.status, one.body) == (206, whole.body[1000:1_500_001])
            else:
                assert (one.status, hashlib.sha256(one.body).hexdigest()) == (200, digest)

    def endings() -> list[tuple[Ending, Ending]]:
        return [
            (provider.end_of(one.request_id), Ending("0", "complete", one.announced))
            for ones in arrived.values()
            for one in ones
        ]

    wrong = Counter(found for found, wanted in await anyio.to_thread.run_sync(endings) if found != wanted)
    assert not wrong, "records that do not say what happened"


async def test_downloads_that_follow_each_other_on_one_connection_are_complete_each(provider: Provider) -> None:
    def three() -> list[Arrived]:
        with provider.connection() as connection:
            return [provider.read(connection, way) for way in (Way(), Way(fields=PART), Way(fields=CLOSE))]

    for one in await anyio.to_thread.run_sync(three):
        assert provider.end_of(one.request_id) == Ending("0", "complete", one.announced)


@pytest.mark.parametrize("after", [1, 5_000_000])
async def test_a_reader_that_leaves_is_recorded_with_no_less_than_it_received(provider: Provider, after: int) -> None:
    arrived = await anyio.to_thread.run_sync(provider.download, Way(pace=8e6, leaves_after=after))
    end = await anyio.to_thread.run_sync(provider.end_of, arrived.request_id)
    assert (end.outcome, end.reason) == ("8", "disconnected")
    assert len(arrived.body) <= end.bytes < arrived.announced


def resident(pid: int) -> float:
    """MiB of memory that the process holds."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
async def test_a_stream_that_is_hardly_read_costs_at_most_3_mib(provider: Provider) -> None:
    """64 readers that take nothing more. The figures of a quiet machine stand in `docs/reference/settings.md`."""
    readers = 64

    def measure() -> float:
        provider.download(Way())
        before = resident(provider.process.pid)
        opened = []
        try:
            for _ in range(readers):
                connection = socket.socket()
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect((urlsplit(provider.url).hostname, urlsplit(provider.url).port))
                opened.append(connection)
                provider.ask(connection, Way())
            for connection in opened:
                assert connection.recv(16).startswith(b"HTTP/1.1 200")
            most = 0.0
            for _ in range(20):  # the most of some seconds: the kernel's buffers fill first
                time.sleep(0.5)
                most = max(most, resident(provider.process.pid))
            assert f"mdg_streams {float(readers)}" in provider.operator.get(f"{provider.admin}/metrics").text
        finally:
            for connection in opened:
                connection.close()
        return (most - before) / readers

    each = await anyio.to_thread.run_sync(measure)
    assert each <= 3.0, f"{each:.2f} MiB for each stream"
