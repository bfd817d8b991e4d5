"""Fetches a public data set completely or not at all, by download or from an archive put there by hand."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pneumoscope.data import download, sources
from pneumoscope.data.download import Progress
from pneumoscope.data.sources import DataSource
from pneumoscope.errors import SourceError

_IMAGE_NAME = re.compile(r"\w[\w.-]*\.jpeg", re.ASCII)


def present(name: str, dest: str | Path | None = None) -> Path | None:
    """Find a data set that was fetched before.

    Args:
        name: a name in `sources.SOURCES`.
        dest: the folder that holds the data set; None for `sources.folder()`.

    Returns:
        Its path if it is there and complete, else None.

    Raises:
        NotFoundError: there is no such name.

    Example:
        >>> present("samples", "an-empty-folder") is None
        True
    """
    source = sources.find(name)
    ready = sources.folder(dest) / source.target
    try:
        _check(source, ready)
    except (SourceError, OSError):
        return None
    return ready


def fetch(name: str, dest: str | Path | None = None, progress: Progress = lambda done, total: None) -> Path:
    """Fetch a public data set, complete and verified, or leave nothing in its place.

    An interrupted download is continued, in this call or in the next one. An archive that was put into `dest` by hand
    (see `DataSource.steps`) is used instead of downloading, and is never deleted.

    Args:
        name: a name in `sources.SOURCES`.
        dest: the folder that will hold the data set; None for `sources.folder()`.
        progress: called now and then with the bytes downloaded and the total, which is None if unknown.

    Returns:
        The folder or `.npz` that `layouts.load` takes; immediately if it is already there and complete.

    Raises:
        NotFoundError: there is no such name.
        SourceError: there is no connection, the download fails verification, or `dest` cannot be written.

    Example:
        >>> fetch("samples", "data")  # doctest: +SKIP
        PosixPath('data/samples')
    """
    source = sources.find(name)
    folder = sources.folder(dest)
    ready = folder / source.target
    if present(name, folder):
        return ready
    if os.path.lexists(ready):
        raise SourceError(f"Expected '{name}' complete at '{ready}', but it is damaged: delete it and fetch again.")
    partial = folder / f".{name}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=partial) as work:
            whole = _bring(source, folder, partial, Path(work), progress)
            whole.replace(ready)
        shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if present(name, folder):  # another process was faster
            return ready
        raise SourceError(
            f"Expected to write '{name}' into '{folder}', got: {error.strerror or error}. "
            "Free some space there or choose another folder."
        ) from error
    finally:
        with suppress(OSError):
            partial.rmdir()  # only if it is empty: an interrupted download stays
    return ready


def _bring(source: DataSource, folder: Path, partial: Path, work: Path, progress: Progress) -> Path:
    """Get the archive, and unpack and verify the data set in `work`."""
    placed = folder / source.archive
    if placed.is_file():
        archive = placed
    elif source.package:
        archive = work / source.archive
        download.from_package(source.package, archive, source.bytes, progress)
    else:
        archive = partial / source.archive
        download.from_url(source.url, archive, progress)
    try:
        if source.checksum:
            _check_sum(archive, source.checksum)
        if source.target == source.archive:
            return archive
        _unpack(source, archive, work / "images")
        _check(source, work / "images")
    except SourceError as error:
        if archive == placed:
            raise SourceError(f"{error} Delete '{placed}' and download it again.") from error
        download.discard(archive)
        raise SourceError(f"{error} The bad download was deleted: fetch it again.") from error
    return work / "images"


def _check(source: DataSource, ready: Path) -> None:
    if source.target == source.archive and source.checksum:
        _check_sum(ready, source.checksum)
    elif source.sums:
        whole = sum(
            (ready / place).is_file() and _sum(ready / place, "sha256") == sha256
            for place, sha256 in source.sums.items()
        )
        if whole != len(source.sums):
            raise SourceError(f"Expected {len(source.sums)} images of '{source.name}', got {whole} that are intact.")
    else:
        counts = {place: len(list((ready / place).glob("*.jpeg"))) for place in source.counts}
        if counts != source.counts:
            raise SourceError(f"Expected {source.counts} images of '{source.name}', got {counts}.")


def _check_sum(file: Path, checksum: str) -> None:
    algorithm = checksum.partition(":")[0]
    got = f"{algorithm}:{_sum(file, algorithm)}"
    if got != checksum:
        raise SourceError(f"Expected {file.name} with {checksum}, got {got}.")


def _sum(file: Path, algorithm: str) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _unpack(source: DataSource, archive: Path, images: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            found = ((_place(source, member.filename), member) for member in opened.infolist())
            members = {place: member for place, member in found if place}
            size = sum(member.file_size for member in members.values())
            if size > 2 * archive.stat().st_size:  # zip hardly shrinks a JPEG: this is a decompression bomb
                raise SourceError(f"Expected JPEG images in {archive.name}, got {size:,} bytes of something else.")
            for place, member in members.items():
                (images / place).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, (images / place).open("wb") as image:
                    shutil.copyfileobj(packed, image)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise SourceError(f"Expected a complete zip archive, but {archive.name} is damaged ({error}).") from error


def _place(source: DataSource, member: str) -> str | None:
    """Return where a member of the archive is unpacked: only places in the table, so that none escapes the folder."""
    path = PurePosixPath(member)
    if source.sums:
        return next((place for place in source.sums if PurePosixPath(place).name == path.name), None)
    place = "/".join(path.parts[-3:-1])
    return f"{place}/{path.name}" if place in source.counts and _IMAGE_NAME.fullmatch(path.name) else None
