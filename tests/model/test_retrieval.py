"""A retrieval request means the same to who signs it and to who reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mdg.model.retrieval import NONCE, RetrievalRequest, WrongMember

NOW = datetime(2026, 5, 2, 1, 0, tzinfo=UTC)
REQUEST = RetrievalRequest(
    audience="https://provider.example",
    study="01JV3W8ZC0D2E4F6G8H0J2K4M6",
    requester="https://consumer.example",
    entity={"id": "https://consumer.example", "name": "Consumer"},
    public_key=bytes(range(32)),
    nonce=bytes(NONCE),
    issued=NOW,
    expires=NOW + timedelta(seconds=300),
)


def test_what_one_side_writes_the_other_side_reads() -> None:
    assert RetrievalRequest.from_claims(json.loads(json.dumps(REQUEST.to_claims()))) == REQUEST


@pytest.mark.parametrize("member", ["typ", "aud", "study", "requester", "key", "nonce", "iat", "exp"])
def test_a_missing_member_is_named(member: str) -> None:
    claims = REQUEST.to_claims()
    del claims[member]
    with pytest.raises(WrongMember) as wrong:
        RetrievalRequest.from_claims(claims)
    assert wrong.value.member == {"key": "suite"}.get(member, member)


def test_a_request_without_a_profile_means_the_segmented_one() -> None:
    claims = REQUEST.to_claims()
    del claims["profile"]
    assert RetrievalRequest.from_claims(claims) == replace(REQUEST, profile="seg/1")
