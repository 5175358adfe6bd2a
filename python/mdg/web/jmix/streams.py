"""How many envelopes are sent at once: a number for all, and one for each organisation, so that neither a flood nor one
busy partner takes the memory and the connections of the rest (spec/hostile-input D8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from mdg.errors import Throttled
from mdg.model.identity import HpiO
from mdg.model.request import Requester

RETRY_AFTER = 5
"""Seconds after which one who found no place may ask again."""


class Streams:
    """The places of one gateway: `most` in all, `most_each` for one organisation, however many clients it has."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._taken: Counter[HpiO] = Counter()

    @contextmanager
    def place(self, requester: Requester) -> Iterator[None]:
        """A place until the end of the block; `Throttled` when there is none."""
        who = requester.organisation
        if self._taken.total() >= self._most or self._taken[who] >= self._most_each:
            raise Throttled(
                "as many envelopes as may be are being sent; try again later",
                reason="streams",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken -= Counter([who])  # drops who holds none any more
