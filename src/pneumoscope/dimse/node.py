"""The DICOM node: receives images, predicts them and sends reports, until a signal to stop."""

from __future__ import annotations

import logging
import signal
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import start_http_server

from pneumoscope.dimse.addresses import Allowed, Node, Sender, check_hosts
from pneumoscope.dimse.courier import FIRST_PAUSE, Courier
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.predictor import Predictor
from pneumoscope.dimse.receiver import Receiver
from pneumoscope.dimse.spool import Outgoing, Spool
from pneumoscope.dimse.telemetry import LOG, Telemetry
from pneumoscope.errors import UnsupportedError
from pneumoscope.reporting import structured_report
from pneumoscope.service.addresses import is_loopback
from pneumoscope.service.telemetry import log_to_stderr
from pneumoscope.service.worker import Worker

# Its messages quote what peers send, and their addresses.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Settings:
    """The settings of a node.

    Attributes:
        title: its AE title.
        host: the address to listen on; any other than the loopback address requires `allowed`.
        port: the port; 0 for any free port.
        destinations: where reports are sent; by default to the sender of the image.
        reply_port: the port where senders receive reports, on the host that they send from.
        allowed: the peers that may associate.
        incoming: the encryption of incoming connections; None for none.
        outgoing: the encryption of outgoing connections; None for none.
        evidence: whether to send the evidence map of a pneumonia with its report.
        evidence_of_normals: whether to send that of an image without pneumonia too.
        metrics: address and port of the counters; None for none.
        first_pause: seconds before retrying a destination that did not respond.
    """

    title: str = "PNEUMOSCOPE"
    host: str = "127.0.0.1"
    port: int = 11112
    destinations: Sequence[Node] = ()
    reply_port: int = 104
    allowed: Sequence[Allowed] = ()
    incoming: ssl.SSLContext | None = None
    outgoing: ssl.SSLContext | None = None
    evidence: bool = True
    evidence_of_normals: bool = False
    metrics: tuple[str, int] | None = None
    first_pause: float = FIRST_PAUSE


class Listener:
    """A node in the hospital's network that predicts the images sent to it.

    Args:
        settings: its settings.
        spool: the spool for images and reports.
        worker: a started worker.
        limits: limits on what peers may send.

    Attributes:
        port: the port that it listens on, once started.
        telemetry: its counters.

    Example:
        >>> listener = Listener(Settings(), spool, worker)  # doctest: +SKIP
        >>> listener.start()  # doctest: +SKIP
    """

    def __init__(self, settings: Settings, spool: Spool, worker: Worker, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._settings, self._spool = settings, spool
        self._couriers: dict[Node, Courier] = {}
        self._lock = threading.Lock()
        self.port = settings.port
        self.telemetry = Telemetry()
        self._predictor = Predictor(
            worker,
            spool,
            self._destinations,
            self._send,
            self.telemetry,
            seconds=limits.image_seconds,
            evidence=settings.evidence,
            evidence_of_normals=settings.evidence_of_normals,
        )
        self._receiver = Receiver(settings.title, spool, self._predictor.put, self.telemetry, limits, settings.allowed)
        self.telemetry.watch(
            (
                ("open_associations", "Open associations.", lambda: self._receiver.associations),
                ("waiting_images", "Images accepted and not yet predicted.", lambda: self._predictor.waiting),
                ("waiting_reports", "Reports not yet delivered.", self._outgoing),
                ("spool_bytes", "Size of the images and reports on disk, at least 64 KiB each.", lambda: spool.held),
                ("spool_capacity_bytes", "Size above which images are rejected.", lambda: spool.capacity),
                ("worker_starts", "Starts of the detector's process.", lambda: worker.starts),
            )
        )

    def start(self) -> None:
        """Start listening, and continue with the images and reports of an earlier run.

        Raises:
            UnsupportedError: the address cannot be bound to.
        """
        left, reports = self._spool.waiting(), self._spool.outbox()
        self.port = self._receiver.start(self._settings.host, self._settings.port, self._settings.incoming)
        for image in left:
            self._predictor.put(image)
        self._send(reports)
        LOG.info("listening", extra={"facts": {"images": len(left), "reports": len(reports)}})
        self._predictor.start()

    def stop(self) -> None:
        """Stop; unfinished images and reports stay in the spool."""
        self._receiver.stop()
        self._predictor.stop()
        with self._lock:
            couriers = list(self._couriers.values())
        for courier in couriers:
            courier.stop()
        self._spool.close()

    def _destinations(self, sender: Sender) -> Sequence[Node]:
        return self._settings.destinations or [Node(sender.title, sender.address, self._settings.reply_port)]

    def _send(self, reports: Iterable[Outgoing]) -> None:
        for report in reports:
            with self._lock:
                courier = self._couriers.get(report.destination)
                if courier is None:
                    settings = self._settings
                    courier = self._couriers[report.destination] = Courier(
                        settings.title,
                        report.destination,
                        self._spool,
                        self.telemetry,
                        settings.outgoing,
                        settings.first_pause,
                        str(report.destination) if report.destination in settings.destinations else "sender",
                    )
            courier.put(report)

    def _outgoing(self) -> int:
        with self._lock:
            return sum(courier.waiting for courier in self._couriers.values())


def listen(
    settings: Settings,
    spool: Path,
    *,
    model: Path | None = None,
    prevalence: float | None = None,
    limits: Limits | None = None,
    tell: Callable[[str], None] = lambda address: None,
) -> None:
    """Listen until a signal to stop.

    Args:
        settings: the settings of the node.
        spool: a folder for images and reports.
        model: a model file; by default the one that comes with Pneumoscope.
        prevalence: as in `Detector`.
        limits: limits on what peers may send.
        tell: called with title and address once the node is listening.

    Raises:
        UnsupportedError: the address requires an allow-list, or cannot be bound to.
        StorageError: the spool cannot be used.
        PneumoscopeError: the model cannot be loaded.

    Example:
        >>> listen(Settings(), Path("spool"))  # doctest: +SKIP
    """
    if not settings.allowed and not is_loopback(settings.host):
        raise UnsupportedError(
            f"Expected --allow for an address that others can reach, got none for {settings.host}: give --allow AET "
            "for each peer, or --allow '*', or listen on 127.0.0.1."
        )
    structured_report.check_installed()
    check_hosts(settings.allowed)
    limits = limits or Limits()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log_to_stderr()
    held = Spool(spool, limits.spool)
    worker = Worker(model, max_pixels=limits.pixels, prevalence=prevalence)
    with ExitStack() as stack:  # each is stopped even if stopping another fails
        stack.callback(held.close)
        worker.start()
        stack.callback(worker.stop)
        listener = Listener(settings, held, worker, limits)
        stack.callback(listener.stop)
        if settings.metrics:
            stack.callback(_counters(settings.metrics, listener.telemetry))
        stack.callback(LOG.info, "stopping")
        listener.start()
        tell(f"{settings.title}@{settings.host}:{listener.port}")
        stop.wait()


def _counters(address: tuple[str, int], telemetry: Telemetry) -> Callable[[], None]:
    host, port = address
    try:
        server, _ = start_http_server(port, host, telemetry.registry)
    except OSError as error:
        raise UnsupportedError(
            f"Expected an address and port for the counters, got {host}:{port} ({error.strerror}): choose others."
        ) from error

    def close() -> None:
        with suppress(OSError):
            server.shutdown()
            server.server_close()

    return close
