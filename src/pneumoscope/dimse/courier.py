"""Sends the reports in the outbox until their destinations have accepted them."""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections import deque

import pydicom
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association

from pneumoscope.dimse.addresses import Node
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.spool import Outgoing, Spool
from pneumoscope.dimse.telemetry import LOG, Telemetry
from pneumoscope.dimse.transport import guard

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before retrying a destination that did not respond; doubled each time, up to the second value, until it takes
a report."""

LONGEST_POSTPONEMENT = 3600.0
"""The most seconds before retrying a report that its destination rejected, or that could not be read."""

LINGER = 1.0
"""Seconds that an association stays open for further reports."""

TIMEOUT = 30.0
"""Seconds to wait for a destination's answer."""

DUPLICATE = 0x0111
"""The status if the destination already has the object (PS3.7, annex C)."""


class _UnavailableError(Exception):
    """The destination does not accept anything at present."""


class Courier:
    """Sends reports to one destination, in a thread of its own, in the order of their creation.

    If the destination does not respond or is out of resources, all reports wait, longer each time. If it rejects a
    report, or a report cannot be read, only that report waits.

    Args:
        title: the AE title of this node.
        destination: the destination of the reports.
        spool: the spool that holds them.
        telemetry: counts the attempts.
        tls: the encryption of the connection; None for none.
        first_pause: seconds before the second attempt.
        called: what the log calls the destination; by default "sender", whose address does not belong there.
    """

    def __init__(
        self,
        title: str,
        destination: Node,
        spool: Spool,
        telemetry: Telemetry,
        tls: ssl.SSLContext | None = None,
        first_pause: float = FIRST_PAUSE,
        called: str = "sender",
    ) -> None:
        self._destination, self._spool, self._telemetry, self._tls = destination, spool, telemetry, tls
        self._first_pause = self._pause = first_pause
        self._called = called
        self._entity = entity = AE(title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
        entity.connection_timeout = TIMEOUT
        plain = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        for sop_class, syntaxes in (
            (ComprehensiveSRStorage, plain),
            (SecondaryCaptureImageStorage, [JPEGBaseline8Bit]),
            (SecondaryCaptureImageStorage, plain),
        ):
            entity.add_requested_context(sop_class, syntaxes)
        self._reports: deque[Outgoing] = deque()
        self._postponed: dict[Outgoing, float] = {}  # with the time of the next attempt
        self._pauses: dict[Outgoing, float] = {}
        self._arrived = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sending", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of reports that are not delivered yet."""
        return len(self._reports) + len(self._postponed)

    def put(self, report: Outgoing) -> None:
        """Queue a report of the outbox for sending."""
        with self._arrived:
            self._reports.append(report)
            self._arrived.notify_all()

    def stop(self) -> None:
        """Stop sending; reports that are not delivered stay in the outbox."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify_all()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while self._wait(None):
            try:
                self._visit()
            except Exception as error:  # noqa: BLE001 - whatever it is, the reports are still in the outbox
                pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
                fact = {"destination": self._called, "again_in": pause}
                LOG.warning("destination unavailable", extra={"facts": fact}, exc_info=error)
                with self._arrived:
                    self._arrived.wait_for(lambda: self._stopping, timeout=pause)

    def _visit(self) -> None:
        """Associate, and send the waiting reports.

        Raises:
            _UnavailableError: the destination does not accept anything at present.
        """
        tls = (self._tls, self._destination.host) if self._tls else None
        node = self._destination
        association = self._entity.associate(
            node.host, node.port, ae_title=node.title, tls_args=tls, evt_handlers=[(evt.EVT_CONN_OPEN, _guard)]
        )
        if not association.is_established:
            self._telemetry.sent("association_rejected" if association.is_rejected else "unreachable", self._called)
            raise _UnavailableError
        try:
            while self._wait(LINGER):
                report = self._reports[0]
                self._send(association, report)
                self._reports.popleft()
        finally:
            if association.is_established:
                association.release()

    def _send(self, association: Association, report: Outgoing) -> None:
        try:
            made = fitting(association, pydicom.dcmread(report.path))
            if made is None:
                self._postpone(report, "not_accepted")
                return
            status = association.send_c_store(made).get("Status")
        except FileNotFoundError:  # someone has deleted it from the outbox
            self._telemetry.sent("gone", self._called)
            self._done(report)
            return
        except Exception as error:  # damage to a file shows in many ways
            if not association.is_established:  # the destination has hung up, and the file may be whole
                raise
            LOG.warning("report not read", exc_info=error)
            self._postpone(report, "unreadable")
            return
        if status is None:
            self._telemetry.sent("no_answer", self._called)
            raise _UnavailableError
        if status == 0x0000 or status == DUPLICATE or status >> 12 == 0xB:  # a warning means that it was stored
            self._telemetry.sent("delivered", self._called)
            self._done(report)
        elif status >> 8 == 0xA7:
            self._telemetry.sent("out_of_resources", self._called, status)
            raise _UnavailableError
        else:
            self._postpone(report, "rejected", status)

    def _done(self, report: Outgoing) -> None:
        self._pause = self._first_pause
        self._pauses.pop(report, None)
        try:
            self._spool.delivered(report)
        except OSError as error:  # it goes again after a restart, under the same UID
            LOG.warning("report not removed", exc_info=error)

    def _postpone(self, report: Outgoing, outcome: str, status: int | None = None) -> None:
        self._telemetry.sent(outcome, self._called, status)
        pause = self._pauses[report] = min(2 * self._pauses.get(report, self._first_pause / 2), LONGEST_POSTPONEMENT)
        self._postponed[report] = time.monotonic() + pause

    def _wait(self, seconds: float | None) -> bool:
        """Wait for a report to send; return False if there is none within `seconds`, or when stopping."""
        until = None if seconds is None else time.monotonic() + seconds
        with self._arrived:
            while not self._stopping:
                now = time.monotonic()
                for report in [report for report, due in self._postponed.items() if due <= now]:
                    del self._postponed[report]
                    self._reports.append(report)
                if self._reports:
                    return True
                if until is not None and until <= now:
                    return False
                moments = [*self._postponed.values(), *([] if until is None else [until])]
                self._arrived.wait(min(moments) - now if moments else None)
            return False


def _guard(event: evt.Event) -> None:
    limits = Limits(object_bytes=0, idle_seconds=TIMEOUT, pdu_seconds=TIMEOUT)  # answers have no objects
    guard(event.assoc, limits, weakref.WeakSet())


def fitting(association: Association, made: pydicom.Dataset) -> pydicom.Dataset | None:
    """Return an object in an accepted transfer syntax, decompressed if the destination does not accept JPEG.

    Args:
        association: the association with the destination.
        made: a report or a capture from the outbox.

    Returns:
        The object; None if the destination does not accept its SOP class.

    Example:
        >>> fitting(association, pydicom.dcmread("report.dcm"))  # doctest: +SKIP
    """
    agreed = {
        syntax
        for context in association.accepted_contexts
        if context.abstract_syntax == made.SOPClassUID
        for syntax in context.transfer_syntax
    }
    if not agreed:
        return None
    if made.file_meta.TransferSyntaxUID == JPEGBaseline8Bit and JPEGBaseline8Bit not in agreed:
        made.decompress(generate_instance_uid=False)
    return made
