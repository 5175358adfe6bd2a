"""Numbers for operators: counted by path template, method and status, so that no label can name anybody."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mdg.web.log import DROPPED

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """The metrics of one gateway, in a registry of its own so that two gateways fit into one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("door", "method", "status")
        self._requests = Counter("mdg_requests", "Answers.", labels, registry=self._registry)
        self._seconds = Histogram(
            "mdg_request_seconds", "Time to the last byte.", ("door",), buckets=SECONDS, registry=self._registry
        )
        self._sent = Counter("mdg_sent_bytes", "Bytes of bodies.", ("door",), registry=self._registry)
        self.streams = Gauge("mdg_streams", "Envelopes that are being sent now.", registry=self._registry)
        self._registry.register(DROPPED)

    def request(self, door: str, method: str, status: int, seconds: float, sent: int) -> None:
        """One answered request; `sent` in bytes of its body. `door` and `method` are of a few known ones."""
        self._requests.labels(door, method, status).inc()
        self._seconds.labels(door).observe(seconds)
        self._sent.labels(door).inc(sent)

    def text(self) -> bytes:
        """In the Prometheus text format."""
        return generate_latest(self._registry)
