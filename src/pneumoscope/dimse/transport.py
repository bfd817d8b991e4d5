"""pynetdicom's server and associations, with limits on connections, sizes and times."""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from io import BytesIO
from socket import socket
from typing import Any

from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import DimsePrimitiveType
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from pneumoscope.dimse.limits import Limits
from pneumoscope.dimse.telemetry import LOG

PDU_BYTES = 131_072
"""The announced maximum size of a protocol data unit that carries data."""

_MOST_PDU_BYTES = 1_048_576
"""The maximum accepted size of any protocol data unit; association requests may have many contexts."""

_COMMAND_BYTES = 65_536
_COUNTED = 1_000_000
"""Bytes after which an association checks again how much all associations hold."""

_INVALID = "Evt19"
"""The event of an invalid protocol data unit, which aborts the association (PS3.8, section 9.2)."""

_Request = socket | tuple[bytes, socket]
_Address = tuple[str, int] | str
"""A connection and its address, as `socketserver` declares them."""

# Logs and exception texts would otherwise contain data sets, and thus patients' data.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


class Messages(DIMSEServiceProvider):
    """The messages of one association; an object beyond the limits is discarded as it arrives.

    A peer that sends a message before the last one is answered is aborted. The standard allows this only where it was
    negotiated (PS3.7, annex D.3.3.3), and the attributes are those of one message.

    Attributes:
        held: bytes of the message that is being received or answered.
        excess: why the object of the last message was discarded: `too_large`, `no_room`, or None if it was not.
    """

    def __init__(self, association: Association, limits: Limits, others: weakref.WeakSet[Messages]) -> None:
        super().__init__(association)
        self._limits = limits
        self._others = others
        self._looked = 0
        self._answered = True
        self.held = 0
        self.excess: str | None = None
        others.add(self)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Receive a part of a message; anything invalid ends the association."""
        try:
            if self.message is None:
                self._check(self._answered)
                self._answered = False
                self.held, self._looked, self.excess = 0, 0, None
            parts: list[Any] = [
                [number, self._bounded(part)] for number, part in primitive.presentation_data_value_list
            ]
            primitive.presentation_data_value_list = parts
            super().receive_primitive(primitive)
            self._check(self.message is None or self.message.encoded_command_set.tell() <= _COMMAND_BYTES)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must end only this association
            LOG.warning("invalid message", exc_info=error)
            self.dul.event_queue.put(_INVALID)

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Send a message, after which the peer may send its next one."""
        self._answered = True
        super().send_msg(primitive, context_id)

    def _check(self, within: bool) -> None:
        if not within:
            raise ValueError("Expected one message at a time, with a command of ordinary length, got too much at once.")

    def _bounded(self, part: bytes) -> bytes:
        """Return a fragment, or a stub of it if the object is discarded."""
        if part[0] & 1:  # part of the command
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
    """A connection that limits the memory and time that its peer can take."""

    limits: Limits

    def recv(self, nr_bytes: int) -> bytearray:
        """Receive a number of bytes, in larger pieces than pynetdicom does.

        Raises:
            OSError: the number exceeds any protocol data unit, or the bytes do not arrive in time; the connection is
                closed.
        """
        if nr_bytes > _MOST_PDU_BYTES:
            raise OSError("Expected a protocol data unit of ordinary size, got a larger one.")
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


def guard(association: Association, limits: Limits, others: weakref.WeakSet[Messages]) -> None:
    """Limit what the peer of a new connection can take.

    Args:
        association: an association whose connection is open.
        limits: the limits.
        others: the messages of the associations that share the limit on all of them.

    Example:
        >>> guard(association, Limits(), weakref.WeakSet())  # doctest: +SKIP
    """
    connection: socket = association.dul.socket.socket  # type: ignore[assignment, union-attr]
    connection.settimeout(limits.idle_seconds)
    limited = _Socket(association, client_socket=connection)
    limited.limits = limits
    association.dul.event_queue.get_nowait()  # `_Socket` has queued a connection, which is not a new one
    association.dul.socket = limited
    association.dimse = Messages(association, limits, others)


class _Handler(RequestHandler):
    """Turns a connection into an association."""

    server: Server

    def handle(self) -> None:
        """Perform the TLS handshake if connections are encrypted, then associate."""
        server = self.server
        self.request.settimeout(server.limits.idle_seconds)  # for the handshake as a whole, then for each reception
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
        guard(association, self.server.limits, self.server.messages)
        association.daemon = association.dul.daemon = True  # so that they end with the program
        return association


class Server(ThreadedAssociationServer):
    """Accepts connections.

    Unlike pynetdicom's own server it never waits for a single peer: the handshake is done in the connection's own
    thread, connections far beyond the limit are closed immediately, and a failure is logged and ends only its
    connection.

    Attributes:
        opening: the number of connections that are not associations yet, because of a handshake.
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
        self.opening = 0
        self._lock = threading.Lock()
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
        """Return whether a connection is accepted; a few beyond the limit are, to be told why they are rejected."""
        return len(self.active_associations) + self.opening < 2 * self.limits.associations + 16

    def process_request(self, request: _Request, client_address: _Address) -> None:
        """Open a connection in a thread of its own."""
        self._count(1)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread, which would have counted it off
            self._count(-1)
            raise

    def process_request_thread(self, request: _Request, client_address: _Address) -> None:
        """Open a connection, which is an association from then on."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._count(-1)

    def _count(self, n: int) -> None:
        with self._lock:
            self.opening += n

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a failure without the address."""
        LOG.warning("connection failed", exc_info=True)

    def rejected(self, reason: str, error: BaseException) -> None:
        """Log a rejected connection."""
        LOG.warning("connection rejected", extra={"facts": {"reason": reason}}, exc_info=error)
