"""Another gateway, asked by its public address: capability, discovery, the signed retrieval, the envelope.

Follows spec/fhir 2 (search by POST, no identifier of a person in a URL), 4 (the JMIX Endpoint), 5 and
seg/1 8.4, 10.1. Each retrieval has an X25519 key pair of its own: the private half exists in this process only
and goes with it, so what was sent cannot be read later with any key that is kept. An answer to another request is
`E_REQ`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import anyio
from anyio import to_thread

from mdg import envelope
from mdg.client.answers import refusal, words
from mdg.client.tokens import DISCOVERY, RETRIEVAL, AccessToken, Tokens
from mdg.envelope.beside import beside
from mdg.errors import InputOutput, NotFound, Refused, Upstream
from mdg.fhir.imaging_study import UID, UID_SYSTEM
from mdg.keys import Card, Keyring, X25519Key
from mdg.model.identity import IHI_SYSTEM, HpiO, Ihi
from mdg.model.retrieval import JWS_TYPE, LIFE, NONCE, RetrievalRequest
from mdg.outbound import Downloaded, Outbound, Response
from mdg.store import has_room

PATIENCE = 45.0  # seconds for the answer to a signed request: the provider makes the envelope for up to 30 s first
RESUMES = 8  # times a broken download is taken up again
PAGES = 2000  # of one search that are read: 100,000 studies of a gateway that shows 50 on a page
LARGEST = 61 << 30  # bytes of an envelope: 60 GiB of content at most (seg/1 13.4) and what surrounds it

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """One ImagingStudy of an answer: its logical `id`, its StudyInstanceUID, and the address and the custodian of its
    JMIX Endpoint, None when it cannot be retrieved that way. `resource` is the resource as it came."""

    id: str
    uid: str
    address: str | None
    custodian: HpiO | None
    resource: dict[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a search: `studies` of all its pages in their order, and the seconds from the request to the last
    byte. `missing` has the gateway's own words for each thing that the answer lacks, such as the name of a source that
    did not answer; if it is empty, the answer is whole."""

    studies: tuple[FoundStudy, ...]
    missing: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted retrieval: where its bytes are, how many, and what only this consumer knows of it.

    `key` opens the envelope and `digest` is SHA-256 of the signed request, which the envelope must name. `url` holds
    the ticket, which goes with the access token `token`; `until` (UTC) ends it.
    """

    url: str = field(repr=False)
    length: int
    etag: str
    until: str
    key: X25519Key = field(repr=False)
    digest: bytes
    token: AccessToken = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified study on disk: `folder` as `envelope.open_` leaves it, its report, bytes of the envelope, seconds of
    the download and of the request before it."""

    folder: Path
    report: envelope.Report
    length: int
    seconds: float
    request_seconds: float


class Gateway:
    """The gateway whose base address (`public_url`) is `url`.

    Every call asks with a token of its own scopes and a fresh proof. `request_id` goes into `X-Request-ID`, so that the
    records of both sides can be put side by side. Errors: `Upstream` for a refusal, `InputOutput` when it cannot be
    reached, `Refused` for content that does not hold.
    """

    def __init__(self, url: str, outbound: Outbound, keyring: Keyring, tokens: Tokens) -> None:
        self._url = url.rstrip("/")
        self._outbound = outbound
        self._keyring = keyring
        self._tokens = tokens

    @property
    def fhir(self) -> str:
        """Its FHIR base, which is the audience of tokens for it."""
        return f"{self._url}/fhir"

    async def capability(self) -> dict[str, object]:
        """Its CapabilityStatement; needs no token."""
        answer = await self._outbound.get(f"{self.fhir}/metadata", {"Accept": "application/fhir+json"})
        return _resource(answer, "CapabilityStatement")

    async def find(self, ihi: Ihi, uid: str | None = None, *, request_id: str, purpose: str = "TREAT") -> Found:
        """The studies of one patient, or only the one with the StudyInstanceUID `uid`, with their Endpoints: all pages
        of the answer. `Upstream` when the pages do not end."""
        headers = {"Accept": "application/fhir+json"}
        posted = headers | {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self.fhir}/ImagingStudy/_search"
        began = time.perf_counter()
        token = await self._tokens.token(self.fhir, DISCOVERY, ihi=ihi, purpose=purpose)
        bundle = _resource(await self._post(url, search_for(ihi, uid), posted, token, request_id), "Bundle")
        studies, missing = list(_studies(bundle)), list(_missing(bundle))
        for _ in range(PAGES):
            following = _next(bundle)
            if following is None:
                return Found(tuple(studies), tuple(dict.fromkeys(missing)), time.perf_counter() - began)
            url = _same_origin(following, url)
            token = await self._tokens.token(self.fhir, DISCOVERY, ihi=ihi, purpose=purpose)
            proved = headers | self._proved("GET", url, token) | {"X-Request-ID": request_id}
            bundle = _resource(await self._outbound.get(url, proved), "Bundle")
            studies += _studies(bundle)
            missing += _missing(bundle)
        raise Upstream(f"the answer of the gateway has more than {PAGES} pages", answered=200, reason="pages")

    async def request(
        self, study: FoundStudy, ihi: Ihi, *, provider: Card, request_id: str, purpose: str = "TREAT"
    ) -> Grant:
        """Asks for the whole study as JMIX 1.0, sealed to a key pair made here and now. `provider` is the card of this
        gateway from the directory: the request is addressed to its id."""
        if study.address is None:
            raise NotFound(reason="no-jmix-endpoint")
        door = _same_origin(study.address.partition("?")[0], self._url) + "/requests"
        key = X25519Key.generate()
        jws = self._signed_request(study.id, provider.id, key)
        began = time.perf_counter()
        answer, token = await self._ask(door, jws, ihi, request_id, purpose)
        seconds = time.perf_counter() - began
        if answer.status != 201:
            raise refusal("the provider", answer)
        url, length, etag, until = self._told(answer, door)
        return Grant(url, length, etag, until, key, hashlib.sha256(jws).digest(), token, seconds)

    async def renew(self, grant: Grant, token: AccessToken, *, request_id: str) -> Grant:
        """The same grant under another token, of which the ticket in `grant.url` knows nothing (seg/1 10.1)."""
        door = grant.url.partition("?")[0] + "/renew"
        answer = await self._post(door, b"", {"Accept": "application/json"}, token, request_id)
        if answer.status != 200:
            raise refusal("the provider", answer)
        url, length, etag, until = self._told(answer, door)
        if (length, etag) != (grant.length, grant.etag):
            raise Upstream("the provider renewed another envelope than it granted", answered=200, reason="grant-form")
        return replace(grant, url=url, until=until, token=token)

    async def download(
        self,
        grant: Grant,
        ihi: Ihi,
        to: Path,
        *,
        request_id: str,
        purpose: str = "TREAT",
        progress: Progress | None = None,
    ) -> float:
        """The sealed envelope into the new private file `to`; returns the seconds it took. A broken connection is taken
        up where it stopped; a length other than the announced one is an error."""
        began = time.perf_counter()
        start = 0
        for last in (*(False,) * RESUMES, True):
            token = await self._tokens.token(self.fhir, RETRIEVAL, ihi=ihi, purpose=purpose)
            if token.value != grant.token.value:
                grant = await self.renew(grant, token, request_id=request_id)
            headers = {"Accept": "application/zip", "X-Request-ID": request_id, **self._proved("GET", grant.url, token)}
            try:
                answer = await self._outbound.download(
                    grant.url, headers, to, start=start, etag=grant.etag, limit=grant.length, progress=progress
                )
            except InputOutput:
                held = await to_thread.run_sync(_size, to)
                if last or held <= start:
                    raise
                start = held
                continue
            if not isinstance(answer, Downloaded):
                raise refusal("the provider", answer)
            start = answer.length
            if answer.complete:
                break
        if start != grant.length:
            raise InputOutput("envelope", f"{start} bytes came of the {grant.length} that were announced")
        return time.perf_counter() - began

    async def open(
        self, grant: Grant, file: Path, out: Path, *, provider: Card, progress: Progress | None = None
    ) -> envelope.Report:
        """Verifies the envelope against the provider's key and this request, and opens it into the new folder `out`.
        `Refused` with the first fault; then nothing of it is left in `out`."""
        trust = ((provider.id, provider.ed25519),)
        return await beside(
            lambda told: envelope.open_(
                file, trust=trust, key=grant.key, out=out, request_digest=grant.digest, progress=told
            ),
            progress,
        )

    async def fetch(
        self,
        study: FoundStudy,
        ihi: Ihi,
        out: Path,
        *,
        provider: Card,
        request_id: str,
        purpose: str = "TREAT",
        progress: Progress | None = None,
    ) -> Opened:
        """`request`, `download` and `open` of one study into the new folder `out`. The sealed file lies beside it while
        it arrives, and is removed at the end, also after a failure. What a killed process left beside the same `out` is
        removed first."""
        grant = await self.request(study, ihi, provider=provider, request_id=request_id, purpose=purpose)
        await to_thread.run_sync(envelope.remove_abandoned, out)
        if not await to_thread.run_sync(has_room, out.parent, 2 * grant.length):
            raise InputOutput(str(out.parent), f"it has no room for {grant.length} bytes, sealed and opened")
        sealed = out.parent / f".{out.name}.{secrets.token_hex(8)}.part"
        async with _private(sealed):
            seconds = await self.download(grant, ihi, sealed, request_id=request_id, purpose=purpose, progress=progress)
            report = await self.open(grant, sealed, out, provider=provider)
        return Opened(out, report, grant.length, seconds, grant.seconds)

    async def _ask(
        self, door: str, jws: bytes, ihi: Ihi, request_id: str, purpose: str
    ) -> tuple[Response, AccessToken]:
        """The answer to a signed request, and the token it was given under. A 503 leaves its nonce unused and the work
        goes on over there, so the very same request is sent again when the provider said so, for as long as it is
        fresh."""
        headers = {"Content-Type": "application/jose", "Accept": "application/json"}
        ends = time.monotonic() + LIFE.total_seconds() - PATIENCE
        while True:
            token = await self._tokens.token(self.fhir, RETRIEVAL, ihi=ihi, purpose=purpose)
            answer = await self._post(door, jws, headers, token, request_id, patience=PATIENCE)
            wait = answer.headers.get("retry-after", "")
            if answer.status != 503 or not wait.isascii() or not wait.isdigit() or len(wait) > 3:
                return answer, token
            seconds = max(1, int(wait))  # "at once" would be asked again without end
            if time.monotonic() + seconds > ends:
                return answer, token
            await anyio.sleep(seconds)

    def _signed_request(self, study_id: str, audience: str, key: X25519Key) -> bytes:
        """The JWS of seg/1 8.4."""
        now, card = datetime.now(UTC), self._keyring.card
        asked = RetrievalRequest(
            audience=audience,
            study=study_id,
            requester=card.id,
            entity=card.entity,
            public_key=key.public,
            nonce=secrets.token_bytes(NONCE),
            issued=now,
            expires=now + LIFE,
        )
        return self._keyring.ed25519.sign_jws(json.dumps(asked.to_claims()).encode(), JWS_TYPE)

    def _told(self, answer: Response, door: str) -> tuple[str, int, str, str]:
        """(url, length, etag, not_after) of a grant, all of them at this gateway."""
        match answer.json():
            case {"url": str(url), "length": int(length), "etag": str(etag), "not_after": str(until)} if length > 0:
                if length > LARGEST:
                    raise Refused("E_LIMIT", "grant", f"an envelope of {length} bytes is larger than any may be")
                return _same_origin(url, door), length, etag, until
        raise Upstream(
            "the provider granted a request without saying what", answered=answer.status, reason="grant-form"
        )

    async def _post(
        self,
        url: str,
        content: bytes,
        headers: dict[str, str],
        token: AccessToken,
        request_id: str,
        *,
        patience: float = 10.0,
    ) -> Response:
        proved = headers | self._proved("POST", url, token) | {"X-Request-ID": request_id}
        return await self._outbound.post(url, content, proved, patience=patience)

    def _proved(self, method: str, url: str, token: AccessToken) -> dict[str, str]:
        proof = self._keyring.dpop.prove(method, url, token.value)
        return {"Authorization": f"DPoP {token.value}", "DPoP": proof}


def search_for(ihi: Ihi, uid: str | None) -> bytes:
    """The body of the search for a patient's studies, or for one of them, with their Endpoints, as it is sent."""
    form = {"patient.identifier": f"{IHI_SYSTEM}|{ihi}", "_include": "ImagingStudy:endpoint"}
    if uid is not None:
        form["identifier"] = f"{UID_SYSTEM}|urn:oid:{uid}"
    return urlencode(form).encode()


@asynccontextmanager
async def _private(path: Path) -> AsyncIterator[None]:
    """A new file at `path` for this process, which is removed at the end. It is locked meanwhile, so that what a killed
    process left can be told from what another one is fetching."""
    descriptor = await to_thread.run_sync(_make_locked, path)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: path.unlink(missing_ok=True))
        os.close(descriptor)


def _make_locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: then nobody removes anything
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputOutput(str(path), error.strerror or "it cannot be written") from error
    return descriptor


def find_study(found: Found, uid: str) -> FoundStudy:
    """The study with this StudyInstanceUID. `NotFound` when the answer has none, `Upstream` when it may be in the part
    that the answer lacks."""
    for study in found.studies:
        if study.uid == uid:
            return study
    whole(found)
    raise NotFound(reason="study-not-found")


def whole(found: Found) -> None:
    """`Upstream` when the answer of a gateway lacks something, in its own words: then it does not say what is not
    there."""
    if found.missing:
        raise Upstream("the gateway's answer is not whole: " + "; ".join(found.missing), answered=200, reason="partial")


def _resource(answer: Response, kind: str) -> dict[str, object]:
    if answer.status != 200:
        raise refusal("the gateway", answer)
    value = answer.json()
    if not isinstance(value, dict) or value.get("resourceType") != kind:
        raise Upstream(f"the gateway answered with something else than a {kind}", answered=200, reason="resource-form")
    return value


def _studies(bundle: dict[str, object]) -> tuple[FoundStudy, ...]:
    """The studies of a searchset Bundle, each with its own JMIX Endpoint."""
    resources = [resource for entry in _entries(bundle) if isinstance(resource := entry.get("resource"), dict)]
    endpoints = {f"Endpoint/{r.get('id')}": r for r in resources if r.get("resourceType") == "Endpoint" and _is_jmix(r)}
    studies = []
    for resource in resources:
        match resource:
            case {"resourceType": "ImagingStudy", "id": str(logical), "identifier": list(identifiers)}:
                uid = next((uid for uid in map(_uid, identifiers) if uid), "")
                endpoint = next((endpoints[name] for name in _references(resource) if name in endpoints), {})
                address = endpoint.get("address")
                if uid:
                    studies.append(
                        FoundStudy(
                            logical, uid, address if isinstance(address, str) else None, _custodian(endpoint), resource
                        )
                    )
    return tuple(studies)


def _entries(bundle: dict[str, object]) -> list[dict[str, object]]:
    entries = bundle.get("entry")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _missing(bundle: dict[str, object]) -> list[str]:
    """What the OperationOutcome of a searchset says of its own answer: each issue that is more than information."""
    said = []
    for entry in _entries(bundle):
        match entry.get("resource"):
            case {"resourceType": "OperationOutcome", "issue": list(issues)}:
                said += [words(issue) for issue in issues if _severe(issue)]
    return said


def _severe(issue: object) -> bool:
    return isinstance(issue, dict) and issue.get("severity") != "information"


def _next(bundle: dict[str, object]) -> str | None:
    """The address of the next page."""
    links = bundle.get("link")
    for link in links if isinstance(links, list) else []:
        match link:
            case {"relation": "next", "url": str(url)}:
                return url
    return None


def _references(study: dict[str, object]) -> list[str]:
    references = study.get("endpoint")
    if not isinstance(references, list):
        return []
    return [str(reference.get("reference")) for reference in references if isinstance(reference, dict)]


def _custodian(endpoint: dict[str, object]) -> HpiO | None:
    match endpoint.get("managingOrganization"):
        case {"identifier": {"system": HpiO.system, "value": str(value)}}:
            with suppress(ValueError):
                return HpiO.parse(value)
    return None


def _is_jmix(endpoint: dict[str, object]) -> bool:
    match endpoint.get("connectionType"):
        case {"system": str(system), "code": "jmix"}:
            return system.endswith("/CodeSystem/connection-type")
    return False


def _uid(identifier: object) -> str:
    match identifier:
        case {"system": "urn:dicom:uid", "value": str(value)} if UID.match(uid := value.removeprefix("urn:oid:")):
            return uid
    return ""


def _same_origin(url: str, base: str) -> str:
    """`url`, resolved against `base`, when it is on the gateway that was asked: a token and its proof go to no other.
    `Upstream` otherwise."""
    try:
        whole = urljoin(base, url)
        one, other = urlsplit(whole), urlsplit(base)
    except ValueError:
        raise Upstream("the gateway names an address that is none", reason="address-form") from None
    if (one.scheme, one.netloc) != (other.scheme, other.netloc):
        raise Upstream("the gateway names an address on another host", reason="other-origin")
    return whole


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
