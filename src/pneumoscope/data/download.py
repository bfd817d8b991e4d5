"""Downloads files, continuing interrupted downloads and never taking a partial file for a complete one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pneumoscope.errors import SourceError

Progress = Callable[[int, int | None], object]

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""

_BLOCK = 1 << 20


def from_package(requirement: str, wheel: Path, total: int, progress: Progress) -> None:
    """Download a wheel with the user's own pip and its settings, without installing anything.

    Args:
        requirement: the package and its exact version.
        wheel: the path to download to, with the wheel's own name; its folder must hold nothing else.
        total: the approximate size of the wheel.
        progress: called with the bytes downloaded and `total`.

    Raises:
        SourceError: there is no pip or no connection, or no such wheel.

    Example:
        >>> from_package("six==1.16.0", Path("six-1.16.0-py2.py3-none-any.whl"), 11_000, print)  # doctest: +SKIP
    """
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip") or ""]
    if not pip[0]:
        raise SourceError("Expected pip beside this Python or on PATH, got none: run `python -m ensurepip`.")
    # Nothing in the wheel is run, so the Python version that it requires does not matter.
    options = "--no-deps --only-binary :all: --ignore-requires-python --no-cache-dir --quiet --retries 1"
    folder, log = wheel.parent, wheel.with_suffix(".log")
    command = [*pip, "download", *options.split(), "--dest", str(folder), requirement]
    scratch = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=scratch) as process,  # noqa: S603
    ):
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
                progress(_largest_file(folder), total)
        finally:
            process.kill()
    if process.returncode or not wheel.is_file():
        said = log.read_text(errors="replace")
        if "connection" in said.lower():
            raise _no_connection("the package index", "pip could not reach it")
        errors = [line for line in said.splitlines() if line.startswith("ERROR: ")] or ["no such wheel"]
        raise SourceError(f"Expected {requirement} from pip, got '{errors[-1]}': follow the manual steps.")


def _largest_file(folder: Path) -> int:
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip may have moved the file in the meantime
                largest = max(largest, Path(root, name).stat().st_size)
    return largest


def from_url(url: str, part: Path, progress: Progress) -> None:
    """Download a file over HTTP, retrying as long as each attempt gets further than the last.

    Args:
        url: the file.
        part: where it goes; a partial file from an earlier call is continued.
        progress: called with the bytes downloaded and the total, which is None if unknown.

    Raises:
        SourceError: there is no connection, or the server has no such file.

    Example:
        >>> from_url("https://example.org/images.zip", Path("images.zip"), print)  # doctest: +SKIP
    """
    longest = 0
    while not _continue(url, part, progress):
        got = part.stat().st_size
        if got <= longest:
            raise _no_connection(urlsplit(url).netloc, f"it breaks after {got:,} bytes")
        longest = got


def discard(part: Path) -> None:
    """Remove a download and its stored validator."""
    part.unlink()
    _validator(part).unlink(missing_ok=True)


def _continue(url: str, part: Path, progress: Progress) -> bool:
    """Request the missing bytes of `part` (RFC 9110, sections 13.1.5 and 14); return whether it is now complete."""
    host = urlsplit(url).netloc
    validator = _validator(part)
    here = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "pneumoscope", "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
        if version := validator.read_text() if validator.is_file() else "":
            headers["If-Range"] = version
    try:
        reply = urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310  an address of the table
    except HTTPError as error:
        if error.code == 416 and here:
            if error.headers["Content-Range"] == f"bytes */{here}":
                return True
            part.unlink()  # it belongs to another version of the file
            return _continue(url, part, progress)
        raise SourceError(f"Expected a file from {host}, got '{error}': follow the manual steps.") from error
    except (OSError, HTTPException) as error:
        raise _no_connection(host, str(getattr(error, "reason", error))) from error
    with reply:
        if url.startswith("https:") and not reply.url.startswith("https:"):
            raise SourceError(f"Expected HTTPS, but was redirected to {reply.url}: follow the manual steps.")
        if reply.status != 206:
            here = 0
        total = None if reply.length is None else here + reply.length
        with part.open("ab" if here else "wb") as file:
            if not here:
                etag = reply.headers["ETag"] or "W/"
                validator.write_text(reply.headers["Last-Modified"] or "" if etag.startswith("W/") else etag)
            while True:
                try:
                    block = reply.read(_BLOCK)
                except (OSError, HTTPException):
                    return False
                if not block:
                    return total is None or here >= total
                file.write(block)
                here += len(block)
                progress(here, total)


def _validator(part: Path) -> Path:
    """Return where the server's validator (ETag or date) of a partial file is kept."""
    return part.with_suffix(".validator")


def _no_connection(host: str, reason: str) -> SourceError:
    return SourceError(f"No connection to {host} ({reason}): fetch again later, or follow the manual steps.")
