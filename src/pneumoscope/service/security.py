"""Access control and limits, which are checked before anything else in a request."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumoscope.errors import UnsupportedError
from pneumoscope.imaging.radiograph import MAX_PIXELS
from pneumoscope.service.addresses import is_loopback
from pneumoscope.service.telemetry import LOG, Telemetry

OPEN = ("/healthz", "/readyz", "/openapi.json")
"""Paths that need no token, like the files of the page: none of them reveals anything about images."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DRAINED_BYTES, _DRAINED_SECONDS = 16_000_000, 5.0


@dataclass(frozen=True)
class Limits:
    """Limits on requests.

    Attributes:
        body: bytes per request.
        held: bytes of all requests together that are waiting or being read.
        images: images per request.
        queue: images accepted and not yet answered.
        pixels: pixels per image.
        image_seconds: seconds to read an image.
        idle_seconds: seconds without receiving a byte of a request.
        body_seconds: seconds to send a request.
    """

    body: int = 128_000_000
    held: int = 512_000_000
    images: int = 64
    queue: int = 256
    pixels: int = MAX_PIXELS
    image_seconds: float = 20.0
    idle_seconds: float = 20.0
    body_seconds: float = 300.0


def check_address(host: str, token: str | None) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        UnsupportedError: the address is not a loopback address and there is no token, or the token is invalid.

    Example:
        >>> check_address("0.0.0.0", "a secret")
    """
    if token is not None and (not token or not token.isascii() or not token.isprintable()):
        raise UnsupportedError("Expected a token of printable ASCII characters, got one that cannot be sent.")
    if token is None and not is_loopback(host):
        raise UnsupportedError(
            f"Expected a token for an address that others can reach, got none for {host}: set PNEUMOSCOPE_TOKEN, or "
            "give --token, or serve on 127.0.0.1."
        )


class Refusal(HTTPException):
    """A refused request; `kind` is a stable identifier for programs."""

    def __init__(self, status: int, kind: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(status, message, None if retry_after is None else {"Retry-After": str(retry_after)})
        self.kind = kind

    def response(self) -> JSONResponse:
        """Return the error answer."""
        content = {"error": {"kind": self.kind, "message": self.detail}}
        return JSONResponse(content, self.status_code, dict(self.headers or {}))


class Guard:
    """ASGI middleware that checks token, host, origin and sizes, and adds headers, a request id and a log line.

    Args:
        app: the application to protect.
        telemetry: counts the requests.
        limits: limits on requests.
        token: the token that clients must send; None if only this machine has access.
        origins: other origins whose pages have access.
        open_paths: paths that need no token.
        root_path: the path under which the service is served, whether or not a proxy strips it.
    """

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        limits: Limits,
        token: str | None = None,
        origins: Sequence[str] = (),
        open_paths: Container[str] = OPEN,
        root_path: str = "",
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._limits = limits
        self._token = token
        self._origins = origins
        self._open_paths = open_paths
        self._root_path = root_path.rstrip("/")
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, request_id = time.monotonic(), uuid.uuid4().hex
        body = _Body(receive, self._limits, self._room)
        status = 0
        facts: dict[str, object] = {}
        if self._root_path:
            scope["root_path"] = self._root_path
        scope["state"] = {**scope.get("state", {}), "facts": facts}

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers["X-Request-Id"] = request_id
                if "Cache-Control" not in headers:
                    headers["Cache-Control"] = "no-store"
            elif not message.get("more_body", False) and not body.complete:
                # Closing a connection with unread bytes would reset it, and the client would lose the answer.
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            self._check(scope, body)
            await self._app(scope, body.receive, send_guarded)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send_guarded)
        except Exception as error:  # noqa: BLE001 - no error may end the service, or reach the log with its text
            LOG.error("fault", exc_info=error, extra={"facts": {"request": request_id}})
            if not status:
                failed = Refusal(500, "failed", "The service failed because of an internal error: see its log.")
                await failed.response()(scope, receive, send_guarded)
        finally:
            self._held -= body.bytes
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            seconds = time.monotonic() - began
            self._telemetry.request(route, method, status, seconds)
            line = {"request": request_id, "method": method, "route": route, "status": status}
            LOG.info("request", extra={"facts": line | {"seconds": round(seconds, 3)} | facts})

    def _check(self, scope: Scope, body: _Body) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._token is None and not is_loopback(_name(host)):
            # Otherwise a page elsewhere could gain access by DNS rebinding.
            raise Refusal(
                421,
                "host",
                "Expected this machine's own name as host, got another: start the service with a token (--token) to "
                "allow other names, such as a proxy's.",
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
            raise Refusal(
                403,
                "origin",
                "Expected a request from the service's own page, got one from another site: name it with "
                "--allow-origin, or let the proxy forward the browser's Host header.",
            )
        if self._token is not None and _path(scope) not in self._open_paths:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            shown = given.strip().encode("utf-8", "replace")
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown, self._token.encode("ascii")):
                refusal = Refusal(
                    401, "token", "Expected the service's token (--token) as 'Authorization: Bearer TOKEN'."
                )
                refusal.headers = {"WWW-Authenticate": "Bearer"}
                raise refusal
        body.announce(headers)

    def _room(self, n: int) -> None:
        if self._held + n > self._limits.held:
            raise Refusal(503, "busy", "The service is busy with other requests: try again.", retry_after=2)
        self._held += n


def _name(host: str) -> str:
    """Return the name in a host header, without its port.

    Example:
        >>> _name("[::1]:8000"), _name("localhost"), _name("[")
        ('::1', 'localhost', '')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _path(scope: Scope) -> str:
    """Return the path of a request relative to the service's root path.

    Example:
        >>> _path({"path": "/below/docs", "root_path": "/below"}), _path({"path": "/docs", "root_path": "/below"})
        ('/docs', '/docs')
    """
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return below if below.startswith("/") else path


class _Body:
    """The body of a request, whose size and time are limited while it arrives."""

    def __init__(self, receive: Receive, limits: Limits, take_room: Callable[[int], None]) -> None:
        self._receive = receive
        self._limits = limits
        self._take_room = take_room
        self._until = time.monotonic() + limits.body_seconds
        self.bytes = 0
        self.complete = False

    def announce(self, headers: Headers) -> None:
        """Refuse a body whose declared length is too large."""
        length = headers.get("content-length")
        self.complete = length is None and "transfer-encoding" not in headers
        if length is not None and length.isdecimal() and int(length) > self._limits.body:
            raise self._too_large()

    async def receive(self) -> Message:
        """Receive the next part of the body; when it is complete, wait for the client to disconnect."""
        if self.complete:
            return await self._receive()
        patience = min(self._limits.idle_seconds, self._until - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, patience)):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(408, "too_slow", "Expected the rest of the request, got none in time.") from None
        n = len(message.get("body", b""))
        if self.bytes + n > self._limits.body:
            raise self._too_large()
        self._take_room(n)
        self.bytes += n
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Discard the rest of the body, within limits."""
        drained = 0
        try:
            async with asyncio.timeout(_DRAINED_SECONDS):
                while not self.complete and drained < _DRAINED_BYTES:
                    message = await self._receive()
                    drained += len(message.get("body", b""))
                    self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        except TimeoutError:
            return

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"Expected at most {self._limits.body:,} bytes per request, got more.")
