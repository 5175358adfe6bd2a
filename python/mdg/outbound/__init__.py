"""The one HTTP client: allow-listed origins, checked addresses, no redirects, hard limits, its own credentials only."""

from mdg.outbound.client import Downloaded, Outbound, Response

__all__ = ["Downloaded", "Outbound", "Response"]
