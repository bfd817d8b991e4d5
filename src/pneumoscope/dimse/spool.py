"""A folder that keeps images until they are predicted and reports until they are delivered, even if killed."""

from __future__ import annotations

import fcntl
import itertools
import math
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from pneumoscope.dimse.addresses import Node, Sender
from pneumoscope.dimse.telemetry import LOG
from pneumoscope.errors import StorageError, UnsupportedError

LEAST_BYTES = 65_536
"""Bytes that each file counts as, even if it is smaller; otherwise tiny images would fill the spool by their number."""

_SUFFIX = ".dcm"
_KEY = "(?P<draft>[.]?)(?P<key>[0-9]{20}-[0-9]{6,})"
_IMAGE = re.compile(f"{_KEY} (?P<title>[^@]+)@(?P<address>[^@]+){re.escape(_SUFFIX)}")
_REPORT = re.compile(f"{_KEY}-[0-9]+{re.escape(_SUFFIX)}")


class SpoolFullError(Exception):
    """There is no room for this image at present."""


@dataclass(frozen=True)
class Waiting:
    """An image that is waiting to be predicted.

    Attributes:
        path: its DICOM file.
        sender: its sender.
    """

    path: Path
    sender: Sender

    @property
    def key(self) -> str:
        """The image's key in the spool; the names of its reports begin with it."""
        return self.path.name.partition(" ")[0]


@dataclass(frozen=True)
class Outgoing:
    """A report that is waiting to be delivered.

    Attributes:
        path: its DICOM file.
        destination: its destination.
    """

    path: Path
    destination: Node


class Spool:
    """A folder that holds accepted images until their reports are delivered.

    `images/` holds each image from before its acceptance is confirmed until its reports are in `outbox/`, which has a
    folder for each destination and holds each report until it is delivered. An image counts as answered when its file
    is removed from `images/`: reports of an image that is still there after a crash were never sent, and are deleted.
    Files are written atomically, and synced to disk before anything depends on them. Anything else in the folder is
    left alone.

    Args:
        folder: the folder, created if needed, with access for the owner only, because it holds patients' images.
        capacity: bytes above which images are rejected; reports on accepted images are always kept.

    Raises:
        StorageError: the folder cannot be used, or another process is using it.

    Example:
        >>> spool = Spool(Path("spool"), 4 * 10**9)
        >>> image = spool.accept(data, Sender("MODALITY", "10.0.0.7"))
        >>> len(spool.answer(image, [b"a report"], [Node("ARCHIVE", "10.0.0.8", 104)]))
        1
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self._images, self._outbox = folder / "images", folder / "outbox"
        self.capacity = capacity
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._sizes: dict[Path, int] = {}
        self._held = 0
        try:
            for place in (folder, self._images, self._outbox):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = (folder / "lock").open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._take_over()
        except BlockingIOError as error:
            raise StorageError(
                f"Expected an unused spool, but another process uses '{folder}': choose another with --spool."
            ) from error
        except OSError as error:
            raise StorageError(
                f"Expected a folder to keep images and reports in, got '{folder}' ({error.strerror}): choose another "
                "with --spool."
            ) from error

    @property
    def held(self) -> int:
        """The size of all images and reports in bytes, each counted as `LEAST_BYTES` at least."""
        return self._held

    def accept(self, data: bytes, sender: Sender) -> Waiting:
        """Accept an image, which is safely on disk when this returns.

        Raises:
            SpoolFullError: there is no room, in the spool or on the disk.
        """
        key = f"{time.time_ns():020d}-{next(self._numbers):06d}"
        name = f"{key} {quote(sender.title, safe='')}@{quote(sender.address, safe=':')}{_SUFFIX}"
        image = Waiting(self._images / name, sender)
        self._charge(image.path, len(data), self.capacity)
        try:
            _write(image.path, data)
            _sync(self._images)
        except Exception as error:
            with suppress(OSError):  # what cannot be removed is still held
                self._remove(image.path)
            if isinstance(error, OSError):
                raise SpoolFullError from error
            raise
        return image

    def waiting(self) -> list[Waiting]:
        """Return the waiting images, the oldest first."""
        return [
            Waiting(path, Sender(unquote(match["title"]), unquote(match["address"])))
            for path, match in _files(self._images, _IMAGE)
            if not match["draft"]
        ]

    def answer(self, image: Waiting, reports: Sequence[bytes], destinations: Iterable[Node]) -> list[Outgoing]:
        """Put an image's reports into the outbox for each destination, then remove the image.

        Raises:
            OSError: the disk is full; the image stays in the spool.
        """
        made = []
        for destination in destinations:
            folder = self._outbox / quote(str(destination), safe="@:[]")
            folder.mkdir(mode=0o700, exist_ok=True)
            for number, report in enumerate(reports):
                path = folder / f"{image.key}-{number}{_SUFFIX}"
                _write(path, report)
                self._charge(path, len(report))
                made.append(Outgoing(path, destination))
            _sync(folder)
        _sync(self._outbox)
        self._remove(image.path)
        with suppress(OSError):  # after a power cut the image might be back, and answered again under the same UIDs
            _sync(self._images)
        return made

    def outbox(self) -> list[Outgoing]:
        """Return the waiting reports, the oldest first."""
        found = [
            Outgoing(path, destination)
            for folder, destination in self._folders()
            for path, match in _files(folder, _REPORT)
            if not match["draft"]
        ]
        return sorted(found, key=lambda report: report.path.name)

    def delivered(self, report: Outgoing) -> None:
        """Remove a report that was delivered."""
        self._remove(report.path)

    def gone(self, image: Waiting) -> None:
        """Forget an image that someone has deleted."""
        self._remove(image.path)

    def close(self) -> None:
        """Release the folder for other processes."""
        self._file.close()

    def _take_over(self) -> None:
        """Count what is held, without drafts and reports of waiting images: those were never sent, and are removed."""
        waiting = {image.key for image in self.waiting()}
        folders = self._folders()
        others = len(list(self._outbox.iterdir())) - len(folders)
        for folder, names in ((self._images, _IMAGE), *((folder, _REPORT) for folder, _ in folders)):
            files = _files(folder, names)
            others += len(list(folder.iterdir())) - len(files)
            for path, match in files:
                if match["draft"] or (names is _REPORT and match["key"] in waiting):
                    path.unlink()
                else:
                    self._charge(path, path.stat().st_size)
        if others:
            LOG.warning("not the spool's own", extra={"facts": {"files": others}})

    def _folders(self) -> list[tuple[Path, Node]]:
        """Return the outbox's folders, each with its destination."""
        found = []
        with os.scandir(self._outbox) as entries:
            for entry in entries:
                with suppress(UnsupportedError):
                    destination = Node.parse(unquote(entry.name))
                    if entry.is_dir(follow_symlinks=False):
                        found.append((Path(entry), destination))
        return found

    def _charge(self, path: Path, n: int, capacity: float = math.inf) -> None:
        """Count a file as held, once however often it is written.

        Raises:
            SpoolFullError: more than the capacity would be held.
        """
        with self._lock:
            size = max(n, LEAST_BYTES)
            held = self._held + size - self._sizes.get(path, 0)
            if held > capacity:
                raise SpoolFullError
            self._held, self._sizes[path] = held, size

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with self._lock:
            self._held -= self._sizes.pop(path, 0)


def _files(folder: Path, names: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    """Return the regular files in a folder whose names match, each with its match, in the order of their names."""
    with os.scandir(folder) as entries:
        found = [
            (Path(entry), names.fullmatch(entry.name)) for entry in entries if entry.is_file(follow_symlinks=False)
        ]
    return sorted(((path, match) for path, match in found if match), key=lambda file: file[0].name)


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically and sync it to disk."""
    draft = path.with_name(f".{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Sync a folder's directory entries to disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
