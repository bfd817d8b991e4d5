"""Parquet files with the findings on many images, each image exactly once, even if runs are killed."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs, parquet

from pneumoscope.atomic import check_folder, replacing
from pneumoscope.batch.manifest import Listed, Listing, shard_of, text
from pneumoscope.batch.storage import Place
from pneumoscope.errors import StorageError

FORMAT = 1
SETTINGS = "_pneumoscope.json"
"""The file with the settings of an output; readers of Parquet folders ignore names with a leading underscore."""

_COLUMNS: dict[str, pa.DataType] = {
    "path": pa.string(),
    "sha256": pa.string(),
    "probability": pa.float64(),
    "finding": pa.string(),
    "uncertain": pa.bool_(),
    "threshold": pa.float64(),
    "warnings": pa.list_(pa.string()),
    "error_kind": pa.string(),
    "error_message": pa.string(),
    "model": pa.string(),
    "version": pa.string(),
}

SCHEMA = pa.schema(_COLUMNS)
"""One row per image: `sha256` of its bytes, null if they could not be read; `model`, the sha256 of the model file;
`version`, the image's size and time of modification according to the listing."""

_PART = re.compile(r"part-[0-9a-f]{4}-of-[0-9a-f]{4}\.parquet")

LOST = "failed"
"""The kind of error of an image that crashed the process."""

Row = dict[str, Any]


class Archive:
    """An output: one Parquet file per shard, which is replaced atomically.

    The name of an image determines its shard, a shard is one file, and each image has one row in it. So each image is
    there once at any time, however often a shard is processed, and by whom.

    Args:
        place: a folder, which is created when the first file is written, or a prefix in a bucket.

    Attributes:
        shards: the number of shards, a power of two, from the output's settings.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.shards = 1

    def check(self) -> dict[str, Any] | None:
        """Check that findings can be written, and return the settings of the output; None if there is none yet.

        Raises:
            NotFoundError, StorageError, UnsupportedError: the place cannot be used, or holds something else.
        """
        self.place.check()
        if self.place.scheme == "file":
            check_folder(Path(self.place.path))
        if settings := self.settings():
            return settings
        with self.place.telling():
            there = self.place.filesystem().get_file_info(fs.FileSelector(self.place.path, allow_not_found=True))
        if others := sum(not info.base_name.startswith(".") for info in there):
            raise StorageError(
                f"Expected an empty place or earlier findings at '{self.place.address(self.place.path)}', got "
                f"{others} other files: choose another place."
            )
        return None

    def settings(self) -> dict[str, Any] | None:
        """Read the settings of the output; None if there is none."""
        with self.place.telling():
            try:
                with self.place.filesystem().open_input_file(self._path(SETTINGS)) as file:
                    settings: dict[str, Any] = json.loads(file.read())
                    return settings
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise StorageError(f"Expected the settings of an output in '{SETTINGS}', got invalid JSON.") from error

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of the output, including `shards`, before its first shard."""
        self._write(SETTINGS, json.dumps(settings, indent=2).encode())
        self.shards = int(settings["shards"])

    def tidy(self) -> None:
        """Remove files of another number of shards, left by a finished or interrupted `recut`."""
        with self.place.telling():
            store = self.place.filesystem()
            for info in store.get_file_info(fs.FileSelector(self.place.path, allow_not_found=True)):
                if _PART.fullmatch(info.base_name) and not info.base_name.endswith(f"-of-{self.shards:04x}.parquet"):
                    store.delete_file(info.path)

    def recut(self, settings: Mapping[str, Any]) -> None:
        """Divide the rows into more shards, as given in `settings`.

        The settings determine which files are valid, and are replaced last. If this is interrupted, `tidy` removes the
        files that are not valid.
        """
        finer = Archive(self.place)
        finer.shards = int(settings["shards"])
        for shard in range(self.shards):
            rows = sorted(self.rows(shard).values(), key=lambda row: shard_of(row["path"], finer.shards))
            for number, some in groupby(rows, key=lambda row: shard_of(row["path"], finer.shards)):
                finer.write(number, some)
        self.begin(settings)
        self.tidy()

    def rows(self, shard: int, columns: list[str] | None = None) -> dict[str, Row]:
        """Read the rows of a shard by path; none if it was never written, or is damaged."""
        with self.place.telling():
            try:
                with self.place.filesystem().open_input_file(self._path(name(shard, self.shards))) as file:
                    table = parquet.read_table(file, columns=columns)
            except (FileNotFoundError, pa.ArrowInvalid):
                return {}
        return {row["path"]: row for row in table.to_pylist()}

    def write(self, shard: int, rows: Iterable[Row]) -> None:
        """Replace the rows of a shard atomically."""
        table = pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["path"])), SCHEMA)
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd")
        self._write(name(shard, self.shards), file.getvalue())

    def _write(self, base: str, data: bytes) -> None:
        """Write a file atomically: an object appears when its upload is complete, a file when it is renamed."""
        if self.place.scheme != "file":
            with self.place.telling(), self.place.filesystem().open_output_stream(self._path(base)) as stream:
                stream.write(data)
            return
        path = Path(self._path(base))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft, draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # the rename may reach the disk before the content

    def _path(self, base: str) -> str:
        return f"{self.place.path}/{base}"


def name(shard: int, shards: int) -> str:
    """Return the name of a shard's file.

    Example:
        >>> name(10, 128)
        'part-000a-of-0080.parquet'
    """
    return f"part-{shard:04x}-of-{shards:04x}.parquet"


def unscored(images: Iterable[Listed], rows: Mapping[str, Row]) -> list[Listed]:
    """List the images that still have to be predicted: without a row, changed since, or failed for an external reason.

    An image counts as changed if listing and row both have a version, and these differ.

    Args:
        images: the images of a shard.
        rows: the output of `Archive.rows`, at least `path`, `version`, `sha256` and `error_kind`.

    Example:
        >>> row = {"path": "a.png", "version": "9-1", "sha256": "f0", "error_kind": None}
        >>> unscored([(b"a.png", "9-1"), (b"b.png", "")], {"a.png": row})
        [(b'b.png', '')]
    """
    return [(image, version) for image, version in images if not _is_settled(rows.get(text(image)), version)]


def _is_settled(row: Row | None, version: str) -> bool:
    if row is None or (version and row["version"] and version != row["version"]):
        return False
    reached = row["sha256"] is not None or row["error_kind"] == "too_large"
    return bool(reached and row["error_kind"] != LOST)


def surveyed(
    archive: Archive, listing: Listing, numbers: Iterable[int]
) -> Iterator[tuple[int, dict[str, Row], list[Listed]]]:
    """Yield number, rows and images of each of these shards that has images.

    Args:
        archive: the output.
        listing: the images.
        numbers: the numbers of the shards.
    """
    columns = ["path", "version", "sha256", "error_kind"]
    rest = iter(numbers)
    with ThreadPoolExecutor(16, thread_name_prefix="surveying") as pool:
        while some := list(islice(rest, 64)):
            listed = [listing.shard(number, archive.shards) for number in some]
            rows = pool.map(lambda number: archive.rows(number, columns), some)
            yield from (found for found in zip(some, rows, listed, strict=True) if found[2])
