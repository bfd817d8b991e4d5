"""Logging and metrics of the node, without patients' data or the addresses of peers that send."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LOG = logging.getLogger("pneumoscope.dimse")

_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class Telemetry:
    """Prometheus counters of one node.

    Attributes:
        registry: the registry of the counters.

    Example:
        >>> telemetry = Telemetry()
        >>> telemetry.stored("accepted")
        >>> telemetry.registry.get_sample_value("pneumoscope_listen_stored_total", {"outcome": "accepted"})
        1.0
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._associations = Counter(
            "pneumoscope_listen_associations", "Associations requested.", ("outcome",), registry=registry
        )
        self._stored = Counter(
            "pneumoscope_listen_stored", "C-STORE requests, by outcome.", ("outcome",), registry=registry
        )
        self._predicted = Counter(
            "pneumoscope_listen_images",
            "Images predicted: NORMAL, PNEUMONIA or a kind of error.",
            ("outcome",),
            registry=registry,
        )
        self._seconds = Histogram(
            "pneumoscope_listen_image_seconds",
            "Time from accepting an image to its reports.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._sent = Counter(
            "pneumoscope_listen_reports",
            "Attempts to send a report, by outcome.",
            ("outcome",),
            registry=registry,
        )

    def watch(self, gauges: Iterable[tuple[str, str, Callable[[], float]]]) -> None:
        """Register gauges, each with its name, its meaning and a function that returns its value."""
        for name, meaning, value in gauges:
            Gauge(f"pneumoscope_listen_{name}", meaning, registry=self.registry).set_function(value)

    def association(self, outcome: str) -> None:
        """Count a requested association, and log it if it was rejected."""
        self._associations.labels(outcome).inc()
        if outcome != "accepted":
            LOG.warning("association rejected", extra={"facts": {"reason": outcome}})

    def stored(self, outcome: str) -> None:
        """Count a received image, and log it if it was not accepted."""
        self._stored.labels(outcome).inc()
        if outcome != "accepted":
            LOG.warning("image not accepted", extra={"facts": {"reason": outcome}})

    def predicted(self, outcome: str, seconds: float) -> None:
        """Count and log a predicted image."""
        self._predicted.labels(outcome).inc()
        self._seconds.observe(seconds)
        LOG.info("image", extra={"facts": {"outcome": outcome, "seconds": round(seconds, 3)}})

    def sent(self, outcome: str, destination: str, status: int | None = None) -> None:
        """Count and log an attempt to send a report; `destination` is what the log calls its destination."""
        self._sent.labels(outcome).inc()
        facts: dict[str, object] = {"destination": destination, "outcome": outcome}
        if status is not None:
            facts["status"] = f"{status:04X}"
        LOG.log(logging.INFO if outcome == "delivered" else logging.WARNING, "report", extra={"facts": facts})
