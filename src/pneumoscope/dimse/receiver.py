"""The receiving side of the node: answers C-ECHO and C-STORE of allowed peers, within limits."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pneumoscope.dimse.addresses import Allowed, Sender, admits
from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.spool import Spool, SpoolFullError, Waiting
from pneumoscope.dimse.telemetry import LOG, Telemetry
from pneumoscope.dimse.transport import PDU_BYTES, Messages, Server
from pneumoscope.errors import UnsupportedError
from pneumoscope.imaging.dicom.header import is_radiography

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
]
"""The transfer syntaxes of images that can be read."""

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
"""Status of C-STORE (PS3.4, section B.2.3)."""

_PERMANENT, _TRANSIENT = 1, 2
_REJECTIONS = {
    "calling_title": (_PERMANENT, 1, 3),
    "called_title": (_PERMANENT, 1, 7),
    "too_many": (_TRANSIENT, 3, 2),
}
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8, section 9.3.4)."""


class Receiver:
    """Listens for associations.

    Args:
        title: the AE title of this node.
        spool: stores accepted images.
        accepted: called with each accepted image, from the thread of its association.
        telemetry: counts associations and images.
        limits: limits on what peers may send.
        allowed: the peers that may associate; everyone if it is empty.
    """

    def __init__(
        self,
        title: str,
        spool: Spool,
        accepted: Callable[[Waiting], None],
        telemetry: Telemetry,
        limits: Limits,
        allowed: Sequence[Allowed] = (),
    ) -> None:
        self._spool, self._accepted, self._telemetry = spool, accepted, telemetry
        self._limits, self._allowed = limits, allowed
        self._entity = entity = AE(title)
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = limits.idle_seconds
        entity.maximum_associations = 10**6  # limited in `_requested`, where idle connections do not count
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            if (kind := context.abstract_syntax) and is_radiography(kind):
                entity.add_supported_context(kind, SYNTAXES)
        self._server: Server | None = None

    def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Start listening, and return the port.

        Raises:
            UnsupportedError: the address cannot be bound to.
        """
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, lambda event: self._telemetry.association("accepted")),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, _forget),
        ]
        try:
            self._server = Server(self._entity, (host, port), handlers, self._limits, tls)
        except OSError as error:
            raise UnsupportedError(
                f"Expected an address and port to listen on, got {host}:{port} ({error.strerror}): choose others."
            ) from error
        self._entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop accepting connections, and abort the open ones, whose peers will resend unanswered images."""
        if self._server:
            left = self._server.active_associations
            self._server.shutdown()
            for association in left:
                association.abort(block=False)
            self._server = None

    @property
    def associations(self) -> int:
        """The number of established associations."""
        return sum(one.is_established for one in self._server.active_associations) if self._server else 0

    def _requested(self, event: evt.Event) -> None:
        association: Any = event.assoc
        request = association.requestor.primitive
        if not admits(self._allowed, _sender(event)):
            reason = "calling_title"
        elif request.called_ae_title.strip() != self._entity.ae_title:
            reason = "called_title"
        elif self.associations >= self._limits.associations:
            reason = "too_many"
        else:
            return
        self._telemetry.association(reason)
        association.acse.send_reject(*_REJECTIONS[reason])
        association.kill()

    def _store(self, event: evt.Event) -> Dataset:
        association: Any = event.assoc
        messages: Messages = association.dimse
        try:
            status, comment = self._taken(event, messages.excess)
        except Exception as error:  # noqa: BLE001 - the peer gets an answer, whatever it has sent
            LOG.error("fault", exc_info=error)
            status, comment = CANNOT_UNDERSTAND, "The object could not be accepted."
            self._telemetry.stored("fault")
        messages.held = 0
        answer = Dataset()
        answer.Status = status
        if comment:
            answer.ErrorComment = comment
        return answer

    def _taken(self, event: evt.Event, excess: str | None) -> tuple[int, str]:
        if excess == "too_large":
            self._telemetry.stored(excess)
            return CANNOT_UNDERSTAND, f"The object is over {self._limits.object_bytes // 10**6} MB."
        if excess == "no_room":
            self._telemetry.stored(excess)
            return OUT_OF_RESOURCES, "Too much data at once: send it again later."
        try:
            image = self._spool.accept(event.encoded_dataset(), _sender(event))
        except SpoolFullError:
            self._telemetry.stored("spool_full")
            return OUT_OF_RESOURCES, "The spool is full: send it again later."
        self._telemetry.stored("accepted")
        self._accepted(image)
        return SUCCESS, ""


def _sender(event: evt.Event) -> Sender:
    requestor: Any = event.assoc.requestor
    return Sender(requestor.primitive.calling_ae_title.strip(), requestor.address_info.address)


def _forget(event: evt.Event) -> None:
    association: Any = event.assoc
    association.dimse.held = 0
