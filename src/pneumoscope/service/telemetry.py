"""Logging and metrics of the service: a log line per request, and counters, without names or addresses."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pneumoscope.service.worker import Row

LOG = logging.getLogger("pneumoscope.service")

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON: time, level, event, and the values given as `extra={"facts": {...}}`.

    The text of an exception is left out, because it may quote what a client has sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}"
        line = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()} | facts
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line)


def log_to_stderr() -> None:
    """Send the services' own records and their libraries' warnings to standard error, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (
        ("pneumoscope.service", logging.INFO),
        ("pneumoscope.dimse", logging.INFO),
        ("uvicorn", logging.WARNING),
        ("python_multipart", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class Telemetry:
    """Prometheus counters of one service.

    Args:
        accepted: returns the number of images accepted and not yet answered.
        starts: returns how often the worker was started.

    Example:
        >>> telemetry = Telemetry(lambda: 0, lambda: 1)
        >>> telemetry.request("/v1/predict", "POST", 200, 0.25)
        >>> 'pneumoscope_requests_total{method="POST",route="/v1/predict",status="200"} 1.0' in telemetry.text()
        True
    """

    def __init__(self, accepted: Callable[[], float], starts: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "pneumoscope_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "pneumoscope_request_seconds", "Time to answer a request.", ("route",), buckets=_SECONDS, registry=registry
        )
        self._images = Counter(
            "pneumoscope_images",
            "Images answered: NORMAL, PNEUMONIA or a kind of error.",
            ("outcome",),
            registry=registry,
        )
        self._image_seconds = Histogram(
            "pneumoscope_image_seconds",
            "Time from accepting an image to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "pneumoscope_batch_images",
            "Images in a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        Gauge("pneumoscope_images_accepted", "Images not yet answered.", registry=registry).set_function(accepted)
        Gauge("pneumoscope_worker_starts", "Starts of the detector's process.", registry=registry).set_function(starts)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def batch(self, waited: Sequence[float]) -> None:
        """Count the images of a batch, given the seconds that each has waited."""
        self._batches.observe(len(waited))
        for seconds in waited:
            self._image_seconds.observe(seconds)

    def answered(self, rows: Iterable[Row]) -> dict[str, int]:
        """Count answers, and return the number of each outcome."""
        outcomes = Tally(row["error"]["kind"] if row["error"] else row["finding"] for row in rows)
        for outcome, n in outcomes.items():
            self._images.labels(outcome).inc(n)
        return dict(outcomes)

    def text(self) -> str:
        """Return the counters in Prometheus's text format."""
        return generate_latest(self._registry).decode("utf-8")
