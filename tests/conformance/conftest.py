"""The gateways of the web tests, asked as the framework's clauses say."""

from __future__ import annotations

from tests.web.conftest import phantom, start

__all__ = ["phantom", "start"]
