"""Which addresses others can reach, and under which one a request came in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
_FOLDERS = re.compile(r"(/[\w.~-]+)*/?", re.ASCII)


def is_loopback(host: str) -> bool:
    """Say whether a host's name or address is this machine's own.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("images.example")
        (True, True, False, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_root_path(path: str) -> bool:
    """Say whether a path can stand before all paths of the service.

    Example:
        >>> is_root_path(""), is_root_path("/pneumoscope"), is_root_path("pneumoscope"), is_root_path("/a?b")
        (True, True, False, False)
    """
    return _FOLDERS.fullmatch(path) is not None


def served_under(headers: Mapping[str, str], scheme: str, root_path: str = "") -> str:
    """Tell the address under which a client sees the service, as the proxies before it say.

    `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix` count where they are there and well formed; of
    several, the first, which is of the proxy that the client spoke to.

    Args:
        headers: of the request, with names in any letter case or in small letters.
        scheme: of the request as it arrived, `http` or `https`.
        root_path: the path that the service was told to be below.

    Returns:
        An address that ends in a slash.

    Example:
        >>> served_under({"host": "127.0.0.1:8000"}, "http")
        'http://127.0.0.1:8000/'
        >>> forwarded = {"x-forwarded-proto": "https", "x-forwarded-prefix": "/pneumoscope"}
        >>> served_under({"host": "images.example"} | forwarded, "http")
        'https://images.example/pneumoscope/'
    """

    def forwarded(what: str) -> str:
        return headers.get(f"x-forwarded-{what}", "").partition(",")[0].strip()

    if forwarded("proto") in ("http", "https"):
        scheme = forwarded("proto")
    host = next((name for name in (forwarded("host"), headers.get("host", "")) if _HOST.fullmatch(name)), "localhost")
    prefix = forwarded("prefix")
    path = prefix if prefix and is_root_path(prefix) else root_path
    return f"{scheme}://{host}{path.rstrip('/')}/"
