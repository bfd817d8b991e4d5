"""A worker, which predicts shard after shard with its own detector."""

from __future__ import annotations

import hashlib
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from pneumoscope import parallel
from pneumoscope.batch import output
from pneumoscope.batch.manifest import Listed, text
from pneumoscope.batch.output import Archive, Row
from pneumoscope.batch.passes import Result, Shard
from pneumoscope.batch.storage import Reader
from pneumoscope.errors import PneumoscopeError, StorageError, TooLargeError
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding

READERS = 8
"""Threads in which a worker reads images: object stores have a high latency, but serve many requests in parallel."""


class Scorer:
    """A worker that predicts the images of a shard that have no finding yet, and replaces the shard's file.

    It is picklable until the model is loaded.

    Args:
        model: the bytes of the model file.
        fingerprint: their sha256.
        engine: the engine, one of `runtimes.NAMES`.
        archive: the output.
        reader: reads the images.
    """

    def __init__(self, model: bytes, fingerprint: str, engine: str, archive: Archive, reader: Reader) -> None:
        self._model, self._fingerprint, self._engine = model, fingerprint, engine
        self._archive, self._reader = archive, reader

    def load(self) -> None:
        """Load the model now instead of before the first image.

        Raises:
            PneumoscopeError: the model cannot be loaded.
        """
        _ = self._detector

    def result(self, shard: Shard, careful: bool) -> Result:
        """Process a shard and return the result, which includes any error; nothing is raised."""
        try:
            self.do(shard.number, shard.images, careful)
        except PneumoscopeError as error:
            return Result(shard.number, error.kind, str(error))
        except Exception as error:  # noqa: BLE001 - the shard is tried again, and the error reported in the end
            return Result(shard.number, "", type(error).__name__)
        return Result(shard.number)

    def do(self, shard: int, listed: Sequence[Listed], careful: bool) -> int:
        """Predict the images of a shard that have no finding yet, and return their number.

        Args:
            shard: the number of the shard.
            listed: its images.
            careful: whether an earlier attempt crashed the process. Each image is then recorded as lost before it is
                read, so that the next attempt skips it.
        """
        self._check_output()
        rows = self._archive.rows(shard)
        todo = output.unscored(listed, rows)
        if careful:
            lost = {path for path, row in rows.items() if row["error_kind"] == output.LOST}
            todo = [(name, version) for name, version in todo if text(name) not in lost]
            for image in todo:
                error = PneumoscopeError("The image crashed the process that read it, or failed for an unknown reason.")
                on_trial = self._row(image, None, Finding("", error=error))
                self._archive.write(shard, (rows | {on_trial["path"]: on_trial}).values())
                try:
                    (predicted,) = self.predict([image])
                except PneumoscopeError:
                    raise
                except Exception:  # noqa: BLE001 - an unexpected error of the detector
                    predicted = on_trial
                rows[predicted["path"]] = predicted
        else:
            rows |= {row["path"]: row for row in self.predict(todo)}
        self._archive.write(shard, rows.values())
        return len(todo)

    def predict(self, listed: Iterable[Listed]) -> Iterator[Row]:
        """Read and predict images; those that cannot be read come last."""
        waiting: deque[tuple[Listed, str]] = deque()
        unread: list[Row] = []

        def readable() -> Iterator[bytes]:
            for image, data, digest in self._read_ahead(listed):
                if isinstance(data, PneumoscopeError):
                    unread.append(self._row(image, None, Finding("", error=data)))
                else:
                    waiting.append((image, digest))
                    yield data

        for finding in self._detector.examine(readable(), together=parallel.TOGETHER):
            yield self._row(*waiting.popleft(), finding)
        yield from unread

    @cached_property
    def _detector(self) -> Detector:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(self._model)
            return Detector(path, engine=self._engine, workers=1)

    def _read_ahead(self, listed: Iterable[Listed]) -> Iterator[tuple[Listed, bytes | PneumoscopeError, str]]:
        with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as pool:
            yield from parallel.ahead(pool, self._read, listed, READERS)

    def _read(self, image: Listed) -> tuple[Listed, bytes | PneumoscopeError, str]:
        try:
            data = self._reader.read(image[0])
            return image, data, hashlib.sha256(data).hexdigest()
        except PneumoscopeError as error:
            return image, error, ""
        except MemoryError:
            return image, TooLargeError("The image does not fit into memory."), ""

    def _row(self, image: Listed, digest: str | None, finding: Finding) -> Row:
        row = finding.as_dict()
        error = row.pop("error") or {"kind": None, "message": None}
        row |= {"path": text(image[0]), "version": image[1], "sha256": digest, "model": self._fingerprint}
        return row | {"error_kind": error["kind"], "error_message": error["message"]}

    def _check_output(self) -> None:
        if self._archive.settings() is None:
            raise StorageError(
                "Expected an output that all workers see, but it is missing or not visible to one of them: choose a "
                "folder that all nodes share, or a bucket."
            )
