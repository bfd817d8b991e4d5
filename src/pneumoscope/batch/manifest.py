"""Which images there are to score, on disk and not in memory, cut into shards that do not depend on their order."""

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
"""An image's name, as `storage.Reader.read` takes it, and its version: what the listing says of its size and its last
change; empty where it says nothing."""

IMAGES_A_SHARD = 128
"""At most so many on average, some seconds of work: what a worker that is lost has to do again."""

MOST_SHARDS = 4096
"""From half a million images on, shards grow instead: more and smaller files would be slow to list and to open."""

KEY_BITS = 32


class Listing:
    """Images to score, each once, in a file of its own.

    An image's shard follows from its name alone: whoever lists the same images, in whatever order, and with whatever
    others, finds each in the same shard.

    Args:
        folder: where the file goes.

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
        """Take images in; one that is named twice counts once."""
        rows = ((key(text(name)), name, version) for name, version in images)
        self._table.execute("BEGIN")
        self._table.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", rows)
        self._table.execute("COMMIT")

    @property
    def count(self) -> int:
        """How many images there are."""
        return int(self._table.execute("SELECT count(*) FROM images").fetchone()[0])

    def shard(self, number: int, shards: int) -> list[Listed]:
        """Give the images of a shard, sorted by key.

        Args:
            number: of the shard, from 0.
            shards: how many there are, a power of two.
        """
        width = 2**KEY_BITS // shards
        bounds = (number * width, (number + 1) * width)
        return self._table.execute("SELECT name, version FROM images WHERE key >= ? AND key < ?", bounds).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._table.close()


def text(name: bytes) -> str:
    r"""Give an image's name as it stands in the output; bytes that are no UTF-8 are escaped.

    Example:
        >>> text(b"/images/\xff.png")
        '/images/\\xff.png'
    """
    return name.decode("utf-8", "backslashreplace")


def key(path: str) -> int:
    """Give the number by which an image is assigned to a shard, spread evenly over `KEY_BITS` bits.

    Example:
        >>> key("/images/a.png")
        215851114
    """
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=KEY_BITS // 8).digest())


def shard_of(path: str, shards: int) -> int:
    """Say which of so many shards, a power of two, an image belongs to.

    Example:
        >>> shard_of("/images/a.png", 128)
        6
    """
    return key(path) * shards >> KEY_BITS


def shards_for(images: int) -> int:
    """Say into how many shards so many images are best cut: a power of two.

    Example:
        >>> shards_for(100), shards_for(12_000), shards_for(10_000_000)
        (1, 128, 4096)
    """
    return min(MOST_SHARDS, 1 << max(0, (-(-images // IMAGES_A_SHARD) - 1).bit_length()))


def images(place: Place) -> Iterator[Listed]:
    """List images, one after another.

    A folder of this machine, a manifest and a glob are streamed. The names below a prefix of a store are in memory
    together while they are listed, a few hundred bytes each: for tens of millions give a manifest.

    Args:
        place: a folder, with everything below it; an image; a glob, `**` for folders in between; or a Parquet file with
            a column `path` and perhaps `version`, by which a changed image is told.

    Raises:
        NotFoundError: there is nothing of that name.
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
            if "**" not in path or not Path(match).is_dir():  # what lies in it is matched too
                yield from map(_on_disk, radiograph.files(match))
    else:
        raise NotFoundError(f"Expected a folder, an image, a glob or a Parquet manifest, got nothing at '{path}'.")


def _on_disk(path: Path) -> Listed:
    version = ""
    with suppress(OSError, ValueError):  # reading it will tell why
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
    """Read a manifest some thousand rows at a time; paths in it are relative to it."""
    folder = os.path.dirname(place.path)  # noqa: PTH120 - the path may be one of a store
    reader, known = Reader(place), set[tuple[str, str]]()
    with place.telling(), place.filesystem().open_input_file(place.path) as file:
        try:
            table = parquet.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise DatasetError("Expected a Parquet manifest, got a file that is none, or is damaged.") from error
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
