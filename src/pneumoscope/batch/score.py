"""Scores many images on one machine or a cluster: workers, each with its own detector, process shard after shard."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pneumoscope import parallel
from pneumoscope.batch import output, passes
from pneumoscope.batch.manifest import Listed, Listing, images, shards_for, text
from pneumoscope.batch.output import Archive, Row
from pneumoscope.batch.process_runner import ProcessRunner
from pneumoscope.batch.scorer import Scorer
from pneumoscope.batch.storage import Place, Reader
from pneumoscope.errors import DatasetError, StorageError, UnsupportedError, needs_extra
from pneumoscope.inference import model_file
from pneumoscope.inference.detector import Detector
from pneumoscope.version import __version__

RECUT = 4
"""An output is divided into more shards if it should have at least this many times as many."""


@dataclass(frozen=True)
class Summary:
    """The result of a run.

    Attributes:
        images: the number of images, each of which has one row in the output.
        scored: the number of images predicted in this run.
        skipped: the number of images predicted earlier.
        errors: the number of images with an error in their row.
        model: the sha256 of the model file.
        out: the address of the output.
        seconds: the duration of the run.
    """

    images: int
    scored: int
    skipped: int
    errors: int
    model: str
    out: str
    seconds: float


def score(
    source: str,
    out: str,
    *,
    model: str | os.PathLike[str] | None = None,
    engine: str = "openvino",
    address: str | None = None,
    workers: int | None = None,
    ray: bool = False,
    progress: passes.Progress = lambda done, total: None,
) -> Summary:
    """Predict many images, and write the findings to a folder of Parquet files that holds each image once.

    If a run is killed, start it again and it does the rest; `Archive` explains why nothing is lost or duplicated.

    Args:
        source: an address for `manifest.images`.
        out: a folder that all nodes see, or `s3://bucket/prefix` and the like.
        model: a model file; by default the one that comes with Pneumoscope. The nodes need no copy of it.
        engine: the engine, one of `runtimes.NAMES`.
        address: the address of a running Ray cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; by default that in the
            environment variable `RAY_ADDRESS`. If there is none, processes on this machine do the work; the calling
            program then needs `if __name__ == "__main__"`, as with all multiprocessing.
        workers: the number of workers, each on one core; by default as many as the cluster, or this process, has cores.
        ray: whether to start a Ray cluster on this machine for this run, if there is no address.
        progress: called after each shard.

    Raises:
        NotFoundError, StorageError, UnsupportedError: the images or the output do not exist or cannot be used.
        ModelFileError: the model file or the engine is invalid.
        DatasetError: there are no images.
        ClusterError: there is no cluster at the address, or the workers could not do the work.
        MissingExtraError: Ray is needed but not installed.

    Example:
        >>> score("s3://archive/images", "s3://archive/findings", address="auto").scored  # doctest: +SKIP
        12000
    """
    start = time.monotonic()
    address = address or ("auto" if os.environ.get("RAY_ADDRESS") else None)
    ray_runner = _ray_runner() if address is not None or ray else None
    place, archive = Place.of(source), Archive(Place.of(out))
    path = Path(model or model_file.default())
    # So that errors are raised here rather than in every actor. Other machines may have engines that this one lacks.
    Detector(path, engine=engine if address is None else "openvino", workers=1)
    data = path.read_bytes()
    fingerprint = hashlib.sha256(data).hexdigest()
    place.check()
    settings = _checked(archive, fingerprint, engine)
    _check_apart(place, archive.place)
    with ExitStack() as stack:
        if ray_runner and address is not None:
            stack.enter_context(ray_runner.joined(address, None))
        listing = stack.enter_context(closing(Listing(Path(stack.enter_context(tempfile.TemporaryDirectory())))))
        listing.add(images(place))
        if not (count := listing.count):
            raise DatasetError(f"Expected images, got none: there are no files in {source.partition('?')[0]}.")
        _cut(archive, settings, {"model": fingerprint, "engine": engine}, shards_for(count))
        pending: dict[int, int] = {}
        errors = 0
        for shard, rows, listed in output.surveyed(archive, listing, range(archive.shards)):
            todo = output.unscored(listed, rows)
            if todo:
                pending[shard] = len(todo)
            else:
                errors += _errors(rows, listed)
        scored = sum(pending.values())
        if pending:
            rest: dict[str, Any] = {"fingerprint": fingerprint, "engine": engine, "archive": archive}
            rest["reader"] = Reader(place)
            run: passes.Runner
            if ray_runner is None:
                run = ProcessRunner(Scorer(data, **rest), workers or parallel.CORES)
            else:
                if address is None:
                    stack.enter_context(ray_runner.joined(None, workers))
                run = ray_runner.RayRunner(data, rest, workers)
            passes.run_all(listing, pending, archive, run, progress)
            for _, rows, listed in output.surveyed(archive, listing, pending):
                _check_complete(rows, listed, archive)
                errors += _errors(rows, listed)
            archive.tidy()
    where = archive.place.address(archive.place.path)
    seconds = round(time.monotonic() - start, 2)
    return Summary(count, scored, count - scored, errors, fingerprint, where, seconds)


def _ray_runner() -> ModuleType:
    """Import Ray, which takes seconds, only if it is needed."""
    with needs_extra("Scoring on Ray", "cluster"):
        from pneumoscope.batch import ray_runner
    return ray_runner


def _checked(archive: Archive, fingerprint: str, engine: str) -> dict[str, Any] | None:
    """Check that an existing output was made with the same model, and return its settings; None if there is none."""
    settings = archive.check()
    if settings is None:
        return None
    here = {"format": output.FORMAT, "model": fingerprint, "engine": engine}
    for what, mine in here.items():
        if settings.get(what) != mine:
            raise StorageError(
                f"Expected findings of the same {what} in '{archive.place.address(archive.place.path)}', got those of "
                f"another ({settings.get(what)!s:.16}, not {mine!s:.16}): choose another place."
            )
    return settings


def _cut(archive: Archive, settings: Mapping[str, Any] | None, made: Mapping[str, Any], best: int) -> None:
    """Start or continue an output; one that was started with far fewer images is divided into more shards."""
    fresh = {"format": output.FORMAT, "pneumoscope": __version__, **made, "shards": best}
    if settings is None:
        archive.begin(fresh)
        return
    archive.shards = int(settings["shards"])
    archive.tidy()
    if best >= RECUT * archive.shards:
        archive.recut(fresh)


def _check_apart(source: Place, out: Place) -> None:
    """Check that the output is not inside the folder of the images, where it would be listed as images."""
    if source.scheme == out.scheme and f"{out.path}/".startswith(f"{source.path}/"):
        raise UnsupportedError("Expected an output outside the folder of images, got one inside: choose another place.")


def _errors(rows: Mapping[str, Row], listed: Iterable[Listed]) -> int:
    return sum(rows[text(name)]["error_kind"] is not None for name, _ in listed)


def _check_complete(rows: Mapping[str, Row], listed: Iterable[Listed], archive: Archive) -> None:
    if missing := sum(text(name) not in rows for name, _ in listed):
        raise StorageError(
            f"Expected a row for each image in '{archive.place.path}', got none for {missing}: check that all nodes "
            "see the same place, and that nothing else writes to it."
        )
