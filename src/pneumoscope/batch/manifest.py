"""Lists the images to score, on disk instead of in memory, in shards that do not depend on their order."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from fsspec.utils import glob_translate
from pyarrow import fs, parquet

from pneumoscope.batch.storage import Place, Reader
from pneumoscope.errors import DatasetError, NotFoundError
from pneumoscope.imaging import radiograph

Listed = tuple[bytes, str]
"""An image's name for `storage.Reader.read`, and its version: size and time of modification according to the listing;
empty if unknown."""

IMAGES_A_SHARD = 128
"""The most images per shard on average: a few seconds of work, which have to be repeated if a worker is lost."""

MOST_SHARDS = 4096
"""The most shards: beyond half a million images shards grow instead, because more files would be slow to list."""

KEY_BITS = 32


class Listing:
    """The images to score, each once, in a database file.

    The name of an image alone determines its shard, whatever the order of the listing and the other images in it.

    Args:
        folder: the folder for the file.

    Example:
        >>> listing = Listing(Path())
        >>> listing.add(images(Place.of("our_clinic/")))
        >>> listing.count
        6
    """

    def __init__(self, folder: Path) -> None:
        self._table = sqlite3.connect(folder / "listing.sqlite", isolation_level=None)
        self._table.executescript(
            "PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -65536;"
            "CREATE TABLE images (key INTEGER, name BLOB, version TEXT, PRIMARY KEY (key, name)) WITHOUT ROWID;"
        )

    def add(self, images: Iterable[Listed]) -> None:
        """Add images; one that is listed twice counts once."""
        rows = ((key(text(name)), name, version) for name, version in images)
        self._table.execute("BEGIN")
        self._table.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", rows)
        self._table.execute("COMMIT")

    @property
    def count(self) -> int:
        """The number of images."""
        return int(self._table.execute("SELECT count(*) FROM images").fetchone()[0])

    def shard(self, number: int, shards: int) -> list[Listed]:
        """Return the images of a shard, sorted by key.

        Args:
            number: the number of the shard, from 0.
            shards: the number of shards, a power of two.
        """
        width = 2**KEY_BITS // shards
        bounds = (number * width, (number + 1) * width)
        return self._table.execute("SELECT name, version FROM images WHERE key >= ? AND key < ?", bounds).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._table.close()


def text(name: bytes) -> str:
    r"""Return an image's name as it is written in the output; bytes that are not UTF-8 are escaped.

    Example:
        >>> text(b"/images/\xff.png")
        '/images/\\xff.png'
    """
    return name.decode("utf-8", "backslashreplace")


def key(path: str) -> int:
    """Return the hash by which an image is assigned to a shard, `KEY_BITS` bits.

    Example:
        >>> key("/images/a.png")
        215851114
    """
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=KEY_BITS // 8).digest())


def shard_of(path: str, shards: int) -> int:
    """Return the shard of an image, given the number of shards, a power of two.

    Example:
        >>> shard_of("/images/a.png", 128)
        6
    """
    return key(path) * shards >> KEY_BITS


def shards_for(images: int) -> int:
    """Return the best number of shards for a number of images, a power of two.

    Example:
        >>> shards_for(100), shards_for(12_000), shards_for(10_000_000)
        (1, 128, 4096)
    """
    return min(MOST_SHARDS, 1 << max(0, (-(-images // IMAGES_A_SHARD) - 1).bit_length()))


def images(place: Place) -> Iterator[Listed]:
    """List the images at a place, one after another.

    A local folder, a manifest and a glob are streamed. The names below a prefix of a store are held in memory while
    they are listed, a few hundred bytes each: for tens of millions of images give a manifest.

    Args:
        place: a folder, with everything below it; an image; a glob, with `**` for any folders; or a Parquet file with a
            column `path` and optionally `version`, which tells whether an image has changed.

    Raises:
        NotFoundError: there is nothing at the place.
        DatasetError: the Parquet file has no column `path`.
        StorageError: the store cannot be read.

    Example:
        >>> for name, version in images(Place.of("**/*.dcm")):
        ...     print(name)
        b'.../image.dcm'
        b'.../images/b.dcm'
    """
    yield from _local(place) if place.scheme == "file" else _stored(place)


def _local(place: Place) -> Iterator[Listed]:
    path = place.path
    if path.endswith(".parquet") and Path(path).is_file():
        yield from _manifest(place)
    elif os.path.lexists(path):
        yield from map(_on_disk, radiograph.files(path))
    elif glob.has_magic(path):
        for match in glob.iglob(path, recursive=True):  # noqa: PTH207 - an absolute pattern
            if "**" not in path or not Path(match).is_dir():  # its files are matched as well
                yield from map(_on_disk, radiograph.files(match))
    else:
        raise NotFoundError(f"Expected a folder, an image, a glob or a Parquet manifest, got nothing at '{path}'.")


def _on_disk(path: Path) -> Listed:
    version = ""
    with suppress(OSError, ValueError):  # reading the file will raise the reason
        status = path.stat()
        version = f"{status.st_size}-{status.st_mtime_ns}"
    return os.fsencode(path), version


def _stored(place: Place) -> Iterator[Listed]:
    pattern = None
    start = place.path
    if found := re.search(r"[*\[]", place.path):
        pattern = re.compile(glob_translate(place.path))
        start = place.path[: found.start()].rpartition("/")[0]
    with place.telling():
        store = place.filesystem()
        (top,) = store.get_file_info([start])
        if top.type == fs.FileType.NotFound:
            raise NotFoundError(f"Expected images below '{place.address(start)}', got nothing of that name.")
        infos = (
            store.get_file_info(fs.FileSelector(start, recursive=True)) if top.type == fs.FileType.Directory else [top]
        )
    if top.type == fs.FileType.File and start.endswith(".parquet"):
        yield from _manifest(place)
        return
    for info in infos:
        below = info.path[len(start) :].lstrip("/").split("/")
        if info.type == fs.FileType.File and (pattern is None or pattern.match(info.path)):
            hidden = any(part.startswith((".", "__MACOSX")) for part in below[:-1])
            if info is top or not (hidden or radiograph.is_passed_over(info.base_name)):
                yield os.fsencode(place.address(info.path)), f"{info.size}-{info.mtime_ns}"


def _manifest(place: Place) -> Iterator[Listed]:
    """Read a manifest in batches of rows; paths in it are relative to its folder."""
    folder = os.path.dirname(place.path)  # noqa: PTH120 - the path may be one of a store
    reader, known = Reader(place), set[tuple[str, str]]()
    with place.telling(), place.filesystem().open_input_file(place.path) as file:
        try:
            table = parquet.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise DatasetError("Expected a Parquet manifest, got another or a damaged file.") from error
        if "path" not in table.schema_arrow.names:
            raise DatasetError(
                f"Expected a manifest with a column 'path', got one with {', '.join(table.schema_arrow.names)}."
            )
        columns = [name for name in ("path", "version") if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=columns):
            versions = batch["version"].cast(pa.string()).to_pylist() if "version" in columns else [""] * len(batch)
            for path, version in zip(batch["path"].cast(pa.string()).to_pylist(), versions, strict=True):
                if not path:
                    raise DatasetError("Expected a path in each row of the manifest, got a row without one.")
                if "://" in path:
                    store = reader.place(os.fsencode(path))
                    if (store.scheme, store.bucket) not in known:
                        known.add((store.scheme, store.bucket))
                        store.check()
                    yield os.fsencode(path), version or ""
                elif place.scheme == "file":
                    image = _on_disk(Path(os.path.abspath(os.path.join(folder, path))))  # noqa: PTH100, PTH118
                    yield image[0], version or image[1]
                else:
                    yield os.fsencode(place.address(f"{folder}/{path}")), version or ""
