"""Retrievals that the operator has this gateway make from another one."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from mdg.access.jwt import Malformed, strict_object
from mdg.errors import Forbidden, InputOutput, Invalid, MdgError, Problem, Refused, Upstream
from mdg.exchange.reception import Reception
from mdg.fhir.imaging_study import UID
from mdg.model.identity import HpiO, Ihi
from mdg.web.answers import JsonResponse
from mdg.web.asking import body, media_type, request_id

BODY_LIMIT = 4096
ORIGIN_NOT_ALLOWED = "origin-not-allowed"
"""The reason of a refusal by `mdg.outbound`."""
FIELDS = {"gateway", "provider", "ihi", "study", "purpose"}


class UpstreamRefused(Problem):
    """What another gateway sent does not hold; `reason` is the code of the fault."""

    status = 502
    issue = "security"


class OriginNotNamed(Problem):
    """The settings do not let this gateway ask that origin. The operator may be told so."""

    status = 403
    issue = "forbidden"


class RetrievalDoor:
    """Has `reception` fetch, verify and keep studies."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    async def retrieve(self, request: Request) -> Response:
        """`POST /retrievals`: fetch a study from another gateway, verify and keep it.

        JSON `{"gateway": URL, "ihi": "16 digits"}` and, optionally, `study` (StudyInstanceUID), `provider` (HPI-O of
        the organisation that must have signed) and `purpose`. 201 with what came in; 502 with the code of the first
        fault.
        """
        media_type(request, ("application/json",))
        asked = _asked(await body(request, BODY_LIMIT))
        try:
            provider = HpiO.parse(asked["provider"]) if "provider" in asked else None
            ihi = Ihi.parse(asked["ihi"])
        except (KeyError, ValueError):
            raise Invalid("ihi is a valid IHI, provider a valid HPI-O") from None
        study = asked.get("study")
        if study is not None and not UID.match(study):
            raise Invalid("study is a DICOM UID")
        try:
            received = await self._reception.receive(
                asked.get("gateway", ""),
                ihi,
                study,
                provider=provider,
                request_id=request_id(request),
                purpose=asked.get("purpose", "TREAT"),
            )
        except Refused as error:
            raise UpstreamRefused(f"what came does not hold: {error.code}: {error.why}", reason=error.code) from error
        except Forbidden as error:
            if error.reason != ORIGIN_NOT_ALLOWED:
                raise
            parts = urlsplit(asked.get("gateway", ""))
            how = f"name {parts.scheme}://{parts.netloc} under allow in the settings, then start the gateway again"
            raise OriginNotNamed(f"this gateway may not ask that one: {how}", reason=error.reason) from error
        except Problem:
            raise
        except MdgError as error:
            # The operator has no other place to see who is not reached, and why. A file of this gateway is not named.
            asked_of = isinstance(error, InputOutput) and error.part.startswith(("https://", "http://"))
            why = f"could not ask {error}" if asked_of else "what came could not be kept"
            raise Upstream(why, reason=type(error).__name__) from error
        return JsonResponse({**asdict(received), "request_id": request_id(request)}, 201)


def _asked(raw: bytes) -> dict[str, str]:
    try:
        given = strict_object(raw)
        asked = {name: value for name, value in given.items() if isinstance(value, str)}
        if FIELDS.issuperset(given) and len(asked) == len(given):
            return asked
    except Malformed:
        pass
    raise Invalid("the body is a JSON object of text, each member once: " + ", ".join(sorted(FIELDS)))
