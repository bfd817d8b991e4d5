"""Reads multipart bodies (RFC 2046) part by part as they arrive, within limits."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import ClientDisconnect, Request

from pneumoscope.service.security import Refusal

_EXTENDED = re.compile(r"""(?:^|;)\s*filename\*\s*=\s*"?([^'";]*)'[^'";]*'([^";\s]*)""", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """A part of a body.

    Attributes:
        headers: the headers, with names in lower case.
        data: the content.
    """

    headers: dict[str, str]
    data: bytes


async def parts(request: Request, most: int) -> AsyncIterator[Part]:
    """Yield each part of a request's body as soon as it is complete.

    The parser limits the size of a part's headers, and the `Guard` that of the body.

    Args:
        request: the request, whose body is read.
        most: the most parts allowed.

    Raises:
        Refusal: the body is damaged or ends too early, or has too many parts.

    Example:
        >>> async for part in parts(request, most=64):  # doctest: +SKIP
        ...     print(part.headers["content-type"], len(part.data))
    """
    collected = _Collector()
    n = 0
    try:
        boundary = options(request.headers.get("content-type", ""))[1]["boundary"]
        parser = MultipartParser(boundary, collected.callbacks())  # type: ignore[arg-type]
        async for chunk in request.stream():
            parser.write(chunk)
            n += len(collected.complete)
            if n > most:
                raise Refusal(413, "too_large", f"Expected at most {most} parts per request, got more.")
            while collected.complete:
                yield collected.complete.pop(0)
    except (FormParserError, KeyError, UnicodeError, ClientDisconnect):
        raise _damaged() from None
    if parser.state != MultipartState.END:
        raise _damaged()


def options(header: str) -> tuple[str, dict[str, str]]:
    """Split a header such as `Content-Type` or `Content-Disposition` into its value and options.

    Example:
        >>> options('multipart/related; type="application/dicom"; boundary=x')
        ('multipart/related', {'type': 'application/dicom', 'boundary': 'x'})
    """
    value, given = parse_options_header(header)
    return value.decode("latin-1"), {key.decode("latin-1"): text.decode("latin-1") for key, text in given.items()}


def extended_filename(header: str) -> str | None:
    """Read `filename*` (RFC 5987) from a `Content-Disposition`; None if it has none.

    Undecodable bytes become replacement characters, because the part is a file in any case.

    Example:
        >>> extended_filename("form-data; name=images; filename*=UTF-8''na%C3%AFve.png")
        'naïve.png'
    """
    found = _EXTENDED.search(header)
    if found is None:
        return None
    charset, text = found.groups()
    known = charset if charset.lower() in ("utf-8", "iso-8859-1") else "utf-8"
    return unquote_to_bytes(text).decode(known, "replace")


def _damaged() -> Refusal:
    return Refusal(400, "request", "Expected a multipart request, got a damaged one.")


@dataclass
class _Collector:
    """Assembles parts from the parser's callbacks."""

    complete: list[Part] = field(default_factory=list)
    _headers: dict[str, str] = field(default_factory=dict)
    _pieces: list[bytes] = field(default_factory=list)
    _name: bytes = b""
    _value: bytes = b""

    def callbacks(self) -> dict[str, object]:
        names = ("part_begin", "header_field", "header_value", "header_end", "part_data", "part_end")
        return {f"on_{name}": getattr(self, name) for name in names}

    def part_begin(self) -> None:
        self._headers, self._pieces = {}, []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def part_end(self) -> None:
        self.complete.append(Part(self._headers, b"".join(self._pieces)))
        self._pieces = []
