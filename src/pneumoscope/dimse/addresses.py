"""Addresses of DICOM nodes: application entity titles, hosts and ports."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pneumoscope.errors import UnsupportedError

LONGEST_TITLE = 16
"""The most characters of an AE title (PS3.5, section 6.2)."""


@dataclass(frozen=True)
class Node:
    """An application entity that receives reports.

    Attributes:
        title: its AE title.
        host: its name or address.
        port: its port.
    """

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Node:
        """Read `AET@HOST:PORT`.

        Raises:
            UnsupportedError: it is none.

        Example:
            >>> Node.parse("ARCHIVE@pacs.example:104")
            Node(title='ARCHIVE', host='pacs.example', port=104)
        """
        title, _, address = text.rpartition("@")
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise UnsupportedError(f"Expected AET@HOST:PORT, such as ARCHIVE@pacs.example:104, got '{text}'.")
        return cls(check_title(title), host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


@dataclass(frozen=True)
class Sender:
    """The sender of an image.

    Attributes:
        title: its AE title.
        address: its IP address.
    """

    title: str
    address: str


@dataclass(frozen=True)
class Allowed:
    """A peer that may associate.

    Attributes:
        title: its AE title; `*` for any.
        host: its host name or address; None for any.
    """

    title: str
    host: str | None = None

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """Parse `AET`, `AET@HOST` or `*`.

        Raises:
            UnsupportedError: the text is none of these.

        Example:
            >>> Allowed.parse("MODALITY@10.0.0.7")
            Allowed(title='MODALITY', host='10.0.0.7')
        """
        title, at, host = text.partition("@")
        if at and not host:
            raise UnsupportedError(f"Expected AET, AET@HOST or *, got '{text}'.")
        return cls(check_title(title), host or None)

    def admits(self, sender: Sender) -> bool:
        """Return whether the title matches the sender's, and the host, if given, its address."""
        return self.title in ("*", sender.title) and (self.host is None or sender.address in _addresses(self.host))


def admits(allowed: Sequence[Allowed], sender: Sender) -> bool:
    """Return whether a sender may associate; everyone may if the list is empty.

    Example:
        >>> admits([Allowed("MODALITY")], Sender("OTHER", "10.0.0.7"))
        False
    """
    return not allowed or any(one.admits(sender) for one in allowed)


def check_title(title: str) -> str:
    """Check an AE title, and return it without leading and trailing spaces, which are not significant.

    Raises:
        UnsupportedError: it is empty, too long, or has characters that are not allowed.

    Example:
        >>> check_title(" ARCHIVE ")
        'ARCHIVE'
    """
    stripped = title.strip(" ")
    fits = stripped.isascii() and stripped.isprintable() and "\\" not in stripped
    if not 0 < len(stripped) <= LONGEST_TITLE or not fits:
        raise UnsupportedError(
            f"Expected an AE title of 1 to {LONGEST_TITLE} printable ASCII characters without backslash, got '{title}'."
        )
    return stripped


@cache
def _addresses(host: str) -> frozenset[str]:
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None))
    except OSError as error:
        raise UnsupportedError(f"Expected a host that can be resolved, got '{host}' ({error.strerror}).") from error


def check_hosts(allowed: Sequence[Allowed]) -> None:
    """Check that each host of an allow-list can be resolved.

    Raises:
        UnsupportedError: a host cannot be resolved.

    Example:
        >>> check_hosts([Allowed("MODALITY", "127.0.0.1")])
    """
    for one in allowed:
        if one.host is not None:
            _addresses(one.host)
