"""Loopback addresses, and the public address of a request behind proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
_FOLDERS = re.compile(r"(/[\w.~-]+)*/?", re.ASCII)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is a loopback address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("images.example")
        (True, True, False, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_root_path(path: str) -> bool:
    """Return whether a path is valid as a prefix of all paths of the service.

    Example:
        >>> is_root_path(""), is_root_path("/pneumoscope"), is_root_path("pneumoscope"), is_root_path("/a?b")
        (True, True, False, False)
    """
    return _FOLDERS.fullmatch(path) is not None


def served_under(headers: Mapping[str, str], scheme: str, root_path: str = "") -> str:
    """Return the URL under which a client sees the service, according to the proxies' headers.

    `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix` are used if they are well formed; if they have
    several values, the first one, which comes from the proxy nearest to the client.

    Args:
        headers: the headers of the request; a mapping that ignores case, or with names in lower case.
        scheme: the scheme of the request as it arrived, `http` or `https`.
        root_path: the configured path under which the service is served.

    Returns:
        A URL that ends in a slash.

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
