"""What the demo makes of the records that it reads."""

from __future__ import annotations

from typing import Any

import pytest

from mdg.cli.scenes import DemoFailed, check_transfer


def ending(outcome: str, reason: str, size: int) -> dict[str, Any]:
    return {
        "subtype": [{"code": "110104"}],
        "outcome": outcome,
        "outcomeDesc": reason,
        "entity": [{"what": {}}, {"detail": [{"type": "bytes", "valueString": str(size)}]}],
    }


def test_a_transfer_that_is_recorded_whole_is_accounted_for() -> None:
    check_transfer([{"subtype": [{"code": "110102"}], "outcome": "0"}, ending("0", "complete", 10)], 10)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([ending("8", "disconnected", 10)], r"10 bytes that arrived as outcome 8 \(disconnected\), 10 bytes"),
        ([ending("0", "complete", 9)], "9 bytes"),
        ([], "0 records of the end"),
        ([ending("0", "complete", 10)] * 2, "2 records of the end"),
    ],
)
def test_a_transfer_that_arrived_and_is_recorded_otherwise_fails_the_demo(
    events: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(DemoFailed, match=said):
        check_transfer(events, 10)
