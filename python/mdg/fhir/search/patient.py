"""The search parameters of Patient: as whom the token's person is known here. Demographics are not searched: across a
gateway that would find people by guessing."""

from __future__ import annotations

from mdg.fhir.search import values
from mdg.fhir.search.engine import Parameter, Search, Table, person
from mdg.fhir.search.values import Terms
from mdg.model.query import Field


def _id(search: Search, value: str, _terms: Terms) -> Search:
    return search.also(values.logical_ids(value, Field.PATIENT_ID))


PATIENT = Table(
    "Patient",
    patient="_id",
    patient_form="{id}",
    example="identifier=<system>|<value>",
    own={
        "_id": Parameter("token", "Logical id; within the token's patient.", _id, whose=True),
        "identifier": Parameter(
            "token", "The IHI, system and value; body of a POST only.", person, person=True, whose=True
        ),
    },
)
