"""What leaves a gateway, by clause of docs/conformance.md: FHIR and JMIX only."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from tests.web.conftest import RETRIEVE

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
SEALED = {"manifest.json", "manifest.jws", "audit.json", "payload.encrypted"}
ASSOCIATION_ACCEPTED = b"\x02"


def association(called: bytes = b"MDG", calling: bytes = b"STRANGER") -> bytes:
    """A-ASSOCIATE-RQ for the Verification SOP class (PS3.8 9.3.2)."""

    def item(type_: int, content: bytes) -> bytes:
        return bytes((type_, 0)) + len(content).to_bytes(2) + content

    context = item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, bytes((0x51, 0, 0, 4)) + (16384).to_bytes(4))
    names = called.ljust(16) + calling.ljust(16) + bytes(32)
    body = b"\0\x01\0\0" + names + item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return b"\x01\0" + len(body).to_bytes(4) + body


async def test_i3_images_leave_as_jmix_and_in_no_other_format(start: Start, phantom: Path) -> None:
    """I3 and P3: no DICOMweb address is there, no Accept gives DICOM, no association is accepted; what is there gives
    one sealed envelope, in which no byte of an image can be read."""
    image = next(phantom.rglob("*.dcm")).read_bytes()
    async with start() as gateway:
        study, endpoint = (one["resource"] for one in (await gateway.consumer.search()).json()["entry"])
        uid = study["identifier"][0]["value"].removeprefix("urn:oid:")
        address = endpoint["address"].removeprefix(gateway.url)
        for path in (
            f"/studies/{uid}",
            f"/dicomweb/studies/{uid}",
            f"/fhir/studies/{uid}/series",
            f"/wado?requestType=WADO&studyUID={uid}&contentType=application%2Fdicom",
        ):
            assert (await gateway.consumer.ask("GET", path, scopes=RETRIEVE)).status_code == 404
        for accept in ("application/dicom", 'multipart/related; type="application/dicom"', "application/dicom+json"):
            for path, scopes in ((address, RETRIEVE), (f"/fhir/ImagingStudy/{study['id']}", None)):
                more = {"scopes": scopes} if scopes else {}
                answer = await gateway.consumer.ask("GET", path, headers={"Accept": accept}, **more)
                assert answer.status_code == 406, (path, accept)
        answer = await gateway.consumer.ask("GET", address, scopes=RETRIEVE)
        async with await anyio.connect_tcp("127.0.0.1", urlsplit(gateway.url).port or 0) as stream:
            await stream.send(association())
            try:
                with anyio.fail_after(30):
                    said = await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                said = b""
    assert not said.startswith(ASSOCIATION_ACCEPTED)
    assert answer.headers["content-type"] == "application/zip"
    assert set(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == SEALED
    for readable in (b"DICM", image[200:264], image[-64:]):
        assert readable in image
        assert readable not in answer.content


async def test_a1_1_4_an_answer_of_discovery_holds_no_pixel_and_no_token(start: Start, phantom: Path) -> None:
    """A1.1.4 and A1.1.9: metadata only, and an address that opens nothing by itself."""
    image = next(phantom.rglob("*.dcm")).read_bytes()
    async with start() as gateway:
        answer = await gateway.consumer.search()
        token = (await gateway.consumer.credentials("GET", "/fhir/ImagingStudy"))["Authorization"].split()[1]
        study, endpoint = (one["resource"] for one in answer.json()["entry"])
        alone = await gateway.consumer.http.get(endpoint["address"])
    assert {study["resourceType"], endpoint["resourceType"]} == {"ImagingStudy", "Endpoint"}
    assert sum(series["numberOfInstances"] for series in study["series"]) == study["numberOfInstances"]
    assert len(answer.content) < len(image) / 50, "three images are described in a fraction of the length of one"
    for secret in (token, *token.split(".")[1:]):
        assert secret not in answer.text
    assert urlsplit(endpoint["address"]).query.startswith("studyInstanceUid=")
    assert alone.status_code == 401
