"""Runs the service on an address until a signal, and then answers all accepted images before stopping."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pneumoscope.errors import UnsupportedError
from pneumoscope.service import telemetry
from pneumoscope.service.addresses import is_root_path
from pneumoscope.service.app import create_app
from pneumoscope.service.security import Limits, check_address
from pneumoscope.service.worker import Worker

CONNECTIONS = 512
"""The most open connections; further ones are answered with 503."""

STOP_SECONDS = 60
"""How long to wait for clients to complete their requests when stopping."""


def serve(
    host: str,
    port: int,
    *,
    model: Path | None = None,
    prevalence: float | None = None,
    token: str | None = None,
    origins: Sequence[str] = (),
    limits: Limits | None = None,
    root_path: str = "",
    tell: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until a signal to stop, then answer all accepted images.

    Args:
        host: the address to bind to; any other than the loopback address requires a token.
        port: the port; 0 for any free port.
        model: a model file; by default the one that comes with Pneumoscope.
        prevalence: as in `Detector`.
        token: the token that clients must send.
        origins: other origins whose pages have access.
        limits: limits on requests.
        root_path: the path under which a proxy serves it, such as `/pneumoscope`.
        tell: called with the page's URL once the service is ready.

    Raises:
        UnsupportedError: the address requires a token or cannot be bound to, or the path is invalid.
        PneumoscopeError: the model cannot be loaded.

    Example:
        >>> serve("127.0.0.1", 8000)  # doctest: +SKIP
    """
    check_address(host, token)
    if not is_root_path(root_path):
        raise UnsupportedError(f"Expected a path such as /pneumoscope to be served under, got {root_path!r}.")
    bound = _bound(host, port)
    telemetry.log_to_stderr()
    worker = Worker(model, max_pixels=(limits or Limits()).pixels, prevalence=prevalence)
    try:
        worker.start()
        app = create_app(worker, limits=limits, token=token, origins=origins, root_path=root_path)
        address = f"[{host}]" if ":" in host else host
        tell(f"http://{address}:{bound.getsockname()[1]}/")
        uvicorn.Server(config(app, limits)).run(sockets=[bound])
    finally:
        worker.stop()
        bound.close()


def config(app: ASGIApp, limits: Limits | None = None) -> uvicorn.Config:
    """Return the configuration of Uvicorn.

    It always uses h11, which limits the size of a request's head; httptools does not.

    Example:
        >>> config(create_app(worker)).server_header  # doctest: +SKIP
        False
    """
    seconds = (limits or Limits()).idle_seconds

    class Protocol(H11Protocol):
        """Disconnects clients for which Uvicorn would wait forever.

        They take too long to send the head of a request, or do not read their answer, which would stay in memory.
        """

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(seconds, self._look, None, 0)

        def _look(self, cycle: object, unsent: int) -> None:
            """Compare the state with that of the last look."""
            stuck, now = self.cycle is cycle, self.transport.get_write_buffer_size()
            if stuck and now and now == unsent:
                self.transport.abort()
            elif not self.transport.is_closing() and stuck and self.conn.their_state is h11.IDLE:
                self.transport.close()
            if now or not self.transport.is_closing():  # a closing transport waits until all is sent
                self.loop.call_later(seconds, self._look, self.cycle, now)

    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise UnsupportedError(
            f"Expected an address and port to serve on, got {host}:{port} ({error.strerror}): choose others."
        ) from error
    return bound
