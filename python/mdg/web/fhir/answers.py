"""How FHIR doors answer: with a resource, a refusal included."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.responses import Response

from mdg.fhir import FHIR_JSON, Json
from mdg.fhir.operation_outcome import operation_outcome
from mdg.web.standard import RefusalForm

OPERATION_OUTCOME = RefusalForm(FHIR_JSON, operation_outcome)


class FhirResponse(Response):
    """A FHIR resource."""

    media_type = FHIR_JSON

    def __init__(self, resource: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(resource), status, headers)
