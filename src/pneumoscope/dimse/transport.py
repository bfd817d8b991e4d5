"""pynetdicom's server with bounds: on connections, on the size of what arrives, on the time that it takes."""

from __future__ import annotations

import ssl
import time
import weakref
from io import BytesIO
from socket import socket
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.telemetry import LOG

PDU_BYTES = 131_072
"""Of a protocol data unit that carries data: what peers are told to keep to."""

_MOST_PDU_BYTES = 1_048_576
"""Of any protocol data unit: requests to associate may have many contexts."""

_COMMAND_BYTES = 65_536
_QUEUED = 2
"""Messages that a peer may send before earlier ones are answered: more than the standard's default of one."""

_COUNTED = 1_000_000
"""Bytes after which an association looks again how much all of them hold."""

_INVALID = "Evt19"
"""The event of PS3.8, section 9.2, upon which the association is aborted: an invalid protocol data unit."""

# Both would tell of patients: data sets in logs, and in the text of exceptions.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


class Messages(DIMSEServiceProvider):
    """The messages of one association: an object beyond the limits is thrown away as it comes.

    Attributes:
        held: bytes of the message that is being received or answered.
        excess: why the object of the last message was thrown away: `too_large`, `no_room`, or None where it was not.
    """

    def __init__(self, association: Association, limits: Limits, others: weakref.WeakSet[Messages]) -> None:
        super().__init__(association)
        self._limits = limits
        self._others = others
        self._looked = 0
        self.held = 0
        self.excess: str | None = None
        others.add(self)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in a part of a message; what is no part of one ends the association."""
        try:
            self._check(self.msg_queue.qsize() < _QUEUED)
            if self.message is None:
                self.held, self._looked, self.excess = 0, 0, None
            parts: list[Any] = [
                [number, self._bounded(part)] for number, part in primitive.presentation_data_value_list
            ]
            primitive.presentation_data_value_list = parts
            super().receive_primitive(primitive)
            self._check(self.message is None or self.message.encoded_command_set.tell() <= _COMMAND_BYTES)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must end this association and no more
            LOG.warning("invalid message", exc_info=error)
            self.dul.event_queue.put(_INVALID)

    def _check(self, within: bool) -> None:
        if not within:
            raise ValueError("Expected one message after the other, of a usual length; got too much at once.")

    def _bounded(self, part: bytes) -> bytes:
        """Give a fragment as it came, or its first two bytes where the object is thrown away."""
        if part[0] & 1:  # of the command
            return part
        if self.excess is None:
            self.held += len(part) - 1
            if self.held > self._limits.object_bytes:
                self.excess = "too_large"
            elif self.held - self._looked > _COUNTED:
                self._looked = self.held
                if sum(one.held for one in list(self._others)) > self._limits.held:
                    self.excess = "no_room"
            if self.excess is not None:
                self.held = 0
                if self.message is not None:
                    self.message.data_set = BytesIO()
        return part if self.excess is None else part[:1] + b"\0"


class _Socket(AssociationSocket):
    """A connection whose peer cannot ask for any amount of memory, or for ever."""

    limits: Limits

    def recv(self, nr_bytes: int) -> bytearray:
        """Receive a number of bytes, in larger pieces than pynetdicom does.

        Raises:
            ValueError: more than any protocol data unit has; the association is aborted.
            TimeoutError: they do not come in time.
        """
        if nr_bytes > _MOST_PDU_BYTES:
            raise ValueError("Expected a protocol data unit of a usual size, got a larger one.")
        until = time.monotonic() + self.limits.pdu_seconds
        received = bytearray()
        connection: socket = self.socket  # type: ignore[assignment]
        while len(received) < nr_bytes:
            piece = connection.recv(min(65_536, nr_bytes - len(received)))
            if not piece:
                break
            received += piece
            if time.monotonic() > until:
                raise TimeoutError
        return received


class _Handler(RequestHandler):
    """Makes an association of a connection."""

    server: Server

    def handle(self) -> None:
        """Shake hands where the connection is to be encrypted, then associate."""
        server = self.server
        self.request.settimeout(server.limits.idle_seconds)
        if server.tls:
            try:
                self.request = server.tls.wrap_socket(self.request, server_side=True)
            except OSError as error:
                server.rejected("tls", error)
                self.server.shutdown_request(self.request)
                return
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        connection = _Socket(association, client_socket=self.request)
        connection.limits = self.server.limits
        association.dul.event_queue.get_nowait()  # the first socket has told of the connection, too
        association.dul.socket = connection
        association.dimse = Messages(association, self.server.limits, self.server.messages)
        association.daemon = association.dul.daemon = True  # so that none outlives the program
        return association


class Server(ThreadedAssociationServer):
    """Takes connections in.

    Unlike pynetdicom's own it never waits for one peer: a handshake is done in the connection's own thread, connections
    far beyond the limit are closed at once, and what fails on one is told in a word and ends it alone.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        entity: AE,
        address: tuple[str, int],
        handlers: list[EventHandlerType],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits, self.tls = limits, tls
        self.messages: weakref.WeakSet[Messages] = weakref.WeakSet()
        super().__init__(
            entity,
            address,
            entity.ae_title,
            entity.supported_contexts,
            evt_handlers=handlers,
            request_handler=_Handler,
        )

    def verify_request(self, request: object, client_address: object) -> bool:
        """Say whether a connection is dealt with at all; a few beyond the limit are told why not."""
        return len(self.active_associations) < 2 * self.limits.associations + 16

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of a failure without an address."""
        LOG.warning("connection failed", exc_info=True)

    def rejected(self, reason: str, error: BaseException) -> None:
        """Tell of a connection that came to nothing."""
        LOG.warning("connection rejected", extra={"facts": {"reason": reason}}, exc_info=error)
