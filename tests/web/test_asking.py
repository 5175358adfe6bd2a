"""Who asks is known behind the lock only."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from mdg.web import asking


def test_a_route_without_the_lock_fails_in_place_of_being_open() -> None:
    request = Request({"type": "http", "headers": [], "state": {"request_id": "r"}})
    with pytest.raises(RuntimeError, match="without authentication"):
        asking.requester(request)
