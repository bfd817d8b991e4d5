"""Many films on many machines: Ray Data hands shards to actors, each of which judges with a detector of its own."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is told by the command

import pyarrow as pa
import ray
import ray.data

import pneumoscope
from pneumoscope import archive as archives
from pneumoscope import model_file
from pneumoscope.archive import Archive, Row
from pneumoscope.detector import Detector, Finding
from pneumoscope.errors import (
    ClusterError,
    DatasetError,
    PneumoscopeError,
    StorageError,
    TooLargeError,
    UnsupportedError,
)
from pneumoscope.listing import Listed, Listing, films, shards_for, text
from pneumoscope.storage import Place, Reader

WAVE = 1_000_000
"""Films whose names are in memory, and in Ray's object store, at a time: some 150 MB."""

RECUT = 4
"""How many times as many shards must be right for an output to be cut anew."""

READERS = 8
"""Threads in which an actor reads films: an object store answers late, but many requests at once."""

OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory that a local cluster takes for the names of films; what is more goes to disk."""

CAREFUL = 2
"""How often a shard may be lost before its films are judged one by one, to find the one that ends the process."""

CONNECT_SECONDS = 5.0

Progress = Callable[[int, int], None]
"""Told how many of the films without a verdict are judged, and how many there are."""


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        films: how many there are; each has one row in the output.
        scored: how many of them were judged in this run.
        skipped: how many had been judged before.
        errors: how many have an error in their row.
        model: the sha256 of the model file.
        out: where the rows are.
        seconds: from start to end.
    """

    films: int
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
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Judge many films into a folder of Parquet files that holds each of them once.

    Killed at any moment and started again, it does the rest: see `Archive` for why nothing is lost or there twice.

    Args:
        source: what `listing.films` lists.
        out: a folder that every node sees, or `s3://bucket/prefix` and the like.
        model: a model file; by default the one that comes with Pneumoscope. The nodes need not have it.
        engine: what runs it, one of `engines.NAMES`.
        address: of a running Ray cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None starts one here, for this run.
        workers: actors, each on one core; by default as many as the cluster has cores.
        progress: told of each shard.

    Raises:
        NotFoundError, StorageError, UnsupportedError: films or output are not there, or may not be used.
        ModelFileError: the model is none, or the engine.
        DatasetError: there are no films.
        ClusterError: there is no cluster at the address, or it could not do the work.

    Example:
        >>> score("s3://archive/films", "s3://archive/verdicts", address="auto").scored  # doctest: +SKIP
        12000
    """
    start = time.monotonic()
    place, archive = Place.of(source), Archive(Place.of(out))
    path = Path(model or model_file.default())
    Detector(path, engine=engine, workers=1)  # fails here rather than on every node
    data = path.read_bytes()
    fingerprint = hashlib.sha256(data).hexdigest()
    place.check()
    settings = _checked(archive, fingerprint, engine)
    _check_apart(place, archive.place)
    with ExitStack() as stack:
        if address is not None:
            stack.enter_context(_joined(address, None))
        listing = stack.enter_context(closing(Listing(Path(stack.enter_context(tempfile.TemporaryDirectory())))))
        listing.add(films(place))
        if not (count := listing.count):
            raise DatasetError(f"Expected films, got none: there are no files in {source.partition('?')[0]}.")
        _cut(archive, settings, {"model": fingerprint, "engine": engine}, shards_for(count))
        pending: dict[int, int] = {}
        errors = 0
        for shard, rows, listed in _surveyed(archive, listing, range(archive.shards)):
            todo = archives.unscored(listed, rows)
            if todo:
                pending[shard] = len(todo)
            else:
                errors += _errors(rows, listed)
        scored = sum(pending.values())
        if pending:
            if address is None:
                stack.enter_context(_joined(None, workers))
            cores = int(ray.cluster_resources().get("CPU", 1))
            fit = min(workers or cores, cores, len(pending))
            scorer = {
                "model": ray.put(data),
                "fingerprint": fingerprint,
                "engine": engine,
                "archive": archive,
                "reader": Reader(place),
            }
            _run_all(listing, pending, scorer, fit, progress)
            for _, rows, listed in _surveyed(archive, listing, pending):
                _check_complete(rows, listed, archive)
                errors += _errors(rows, listed)
            archive.tidy()
    where = archive.place.address(archive.place.path)
    seconds = round(time.monotonic() - start, 2)
    return Summary(count, scored, count - scored, errors, fingerprint, where, seconds)


class Scorer:
    """An actor: judges a shard's films that have no verdict yet, and replaces the shard's file.

    Args:
        model: the bytes of the model file, or a reference to them.
        fingerprint: their sha256.
        engine: what runs it.
        archive: where the rows go.
        reader: reads the films.
    """

    def __init__(
        self,
        model: ray.ObjectRef[bytes] | bytes,
        fingerprint: str,
        engine: str,
        archive: Archive,
        reader: Reader,
    ) -> None:
        self._model, self._fingerprint, self._engine = model, fingerprint, engine
        self._archive, self._reader = archive, reader

    def __call__(self, shards: pa.Table) -> pa.Table:
        """Do shards, one a row; what comes of each is a row with its number, and the reason where it could not be done.

        Nothing is raised: Ray Data would log it on this node and carry on without the shard.
        """
        results = []
        for row in shards.to_pylist():
            kind = reason = ""
            scored = 0
            try:
                scored = self.do(row["shard"], list(zip(row["names"], row["versions"], strict=True)), row["careful"])
            except PneumoscopeError as error:
                kind, reason = error.kind, str(error)
            except Exception as error:  # noqa: BLE001 - tried again, and told in the end
                kind, reason = "", type(error).__name__
            results.append({"shard": row["shard"], "scored": scored, "kind": kind, "reason": reason})
        return pa.Table.from_pylist(results)

    def do(self, shard: int, listed: Sequence[Listed], careful: bool) -> int:
        """Judge what has no verdict yet, and say how many films that was.

        Args:
            shard: its number.
            listed: its films.
            careful: an earlier try ended the process. Each film is then written down as lost before it is judged, and
                the next try passes over it.
        """
        self._check_output()
        rows = self._archive.rows(shard)
        todo = archives.unscored(listed, rows)
        if careful:
            lost = {path for path, row in rows.items() if row["error_kind"] == archives.LOST}
            todo = [(name, version) for name, version in todo if text(name) not in lost]
            for film in todo:
                error = PneumoscopeError("Judging the film ended the process, or failed for no reason that is known.")
                on_trial = self._row(film, None, Finding("", error=error))
                self._archive.write(shard, (rows | {on_trial["path"]: on_trial}).values())
                try:
                    (judged,) = self.judge([film])
                except PneumoscopeError:
                    raise
                except Exception:  # noqa: BLE001 - a film that the detector cannot take
                    judged = on_trial
                rows[judged["path"]] = judged
        else:
            rows |= {row["path"]: row for row in self.judge(todo)}
        self._archive.write(shard, rows.values())
        return len(todo)

    def judge(self, listed: Iterable[Listed]) -> Iterator[Row]:
        """Read and judge films; those that cannot be read come last."""
        waiting: deque[tuple[Listed, str]] = deque()
        unread: list[Row] = []

        def readable() -> Iterator[bytes]:
            for film, data, digest in self._read_ahead(listed):
                if isinstance(data, PneumoscopeError):
                    unread.append(self._row(film, None, Finding("", error=data)))
                else:
                    waiting.append((film, digest))
                    yield data

        for finding in self._detector.examine(readable()):
            yield self._row(*waiting.popleft(), finding)
        yield from unread

    @cached_property
    def _detector(self) -> Detector:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(self._model if isinstance(self._model, bytes) else ray.get(self._model))
            return Detector(path, engine=self._engine, workers=1)

    def _read_ahead(self, listed: Iterable[Listed]) -> Iterator[tuple[Listed, bytes | PneumoscopeError, str]]:
        rest = iter(listed)
        ahead: deque[Future[tuple[Listed, bytes | PneumoscopeError, str]]] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="reading") as pool:
            while True:
                ahead.extend(pool.submit(self._read, film) for film in islice(rest, READERS - len(ahead)))
                if not ahead:
                    return
                yield ahead.popleft().result()

    def _read(self, film: Listed) -> tuple[Listed, bytes | PneumoscopeError, str]:
        try:
            data = self._reader.read(film[0])
            return film, data, hashlib.sha256(data).hexdigest()
        except PneumoscopeError as error:
            return film, error, ""
        except MemoryError:
            return film, TooLargeError("The film does not fit into memory."), ""

    def _row(self, film: Listed, digest: str | None, finding: Finding) -> Row:
        row = finding.as_dict()
        error = row.pop("error") or {"kind": None, "message": None}
        row |= {"path": text(film[0]), "version": film[1], "sha256": digest, "model": self._fingerprint}
        return row | {"error_kind": error["kind"], "error_message": error["message"]}

    def _check_output(self) -> None:
        if self._archive.settings() is None:
            raise StorageError(
                "Expected an output that every node of the cluster sees, got a folder that one of them does not: "
                "name a shared folder or a bucket."
            )


def _checked(archive: Archive, fingerprint: str, engine: str) -> dict[str, Any] | None:
    """See whether an output is there and made with the same model; None where there is none yet."""
    settings = archive.check()
    if settings is None:
        return None
    here = {"format": archives.FORMAT, "model": fingerprint, "engine": engine}
    for what, mine in here.items():
        if settings.get(what) != mine:
            raise StorageError(
                f"Expected verdicts of the same {what} in '{archive.place.address(archive.place.path)}', got those of "
                f"another ({str(settings.get(what))[:12]}, not {str(mine)[:12]}): name another place for these."
            )
    return settings


def _cut(archive: Archive, settings: Mapping[str, Any] | None, made: Mapping[str, Any], best: int) -> None:
    """Begin an output, or go on with one; one that was begun with far fewer films is cut into more shards."""
    fresh = {"format": archives.FORMAT, "pneumoscope": pneumoscope.__version__, **made, "shards": best}
    if settings is None:
        archive.begin(fresh)
        return
    archive.shards = int(settings["shards"])
    archive.tidy()
    if best >= RECUT * archive.shards:
        archive.recut(fresh)


def _check_apart(source: Place, out: Place) -> None:
    """See that the output does not lie among the films, of which it would become one."""
    if source.scheme == out.scheme and f"{out.path}/".startswith(f"{source.path}/"):
        raise UnsupportedError("Expected an output outside of the films, got a place among them: name another one.")


def _surveyed(
    archive: Archive, listing: Listing, numbers: Iterable[int]
) -> Iterator[tuple[int, dict[str, Row], list[Listed]]]:
    """Give the rows and the films of shards that have films."""
    columns = ["path", "version", "sha256", "error_kind"]
    rest = iter(numbers)
    with ThreadPoolExecutor(16, thread_name_prefix="surveying") as pool:
        while some := list(islice(rest, 64)):
            listed = [listing.shard(number, archive.shards) for number in some]
            rows = pool.map(lambda number: archive.rows(number, columns), some)
            yield from (found for found in zip(some, rows, listed, strict=True) if found[2])


def _errors(rows: Mapping[str, Row], listed: Iterable[Listed]) -> int:
    return sum(rows[text(name)]["error_kind"] is not None for name, _ in listed)


def _check_complete(rows: Mapping[str, Row], listed: Iterable[Listed], archive: Archive) -> None:
    if missing := sum(text(name) not in rows for name, _ in listed):
        raise StorageError(
            f"Expected a row for each film in '{archive.place.path}', got none for {missing}: is it one place for all "
            "nodes, and did nobody else write to it?"
        )


@contextmanager
def _joined(address: str | None, workers: int | None) -> Iterator[None]:
    """Join a cluster, or start one on this machine, and leave it or end it afterwards."""
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            local = {"num_cpus": max(workers or 0, cores), "object_store_memory": OBJECT_STORE}
            with _silent():
                ray.init("local", include_dashboard=False, **local, **quiet)
        else:
            _check_address(address)
            with _silent():
                ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"Expected a Ray cluster at '{address}', got no connection: see `ray status` there, and give its HOST:PORT."
            if address
            else f"Ray does not start on this machine ({type(error).__name__})."
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it is told by the command
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a shard that is lost with its actor is done again by another
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what Ray's C++ writes to standard error while it starts from the user; it cannot be told not to."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _check_address(address: str) -> None:
    """See that somebody listens there: Ray would try for a minute."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UnsupportedError(f"Expected auto, HOST:PORT or ray://HOST:PORT, got '{address}'.")
    socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _run_all(
    listing: Listing,
    pending: Mapping[int, int],
    scorer: Mapping[str, Any],
    workers: int,
    progress: Progress,
) -> None:
    """Do all shards, a wave at a time."""
    total, done = sum(pending.values()), 0
    numbers = iter(pending)
    while wave := list(islice(numbers, max(1, WAVE * len(pending) // total))):
        left = {number: pending[number] for number in wave}

        def told(more: int, before: int = done) -> None:
            progress(before + more, total)

        done += sum(left.values())
        _run_wave(listing, left, scorer, workers, told)


def _run_wave(
    listing: Listing,
    left: dict[int, int],
    scorer: Mapping[str, Any],
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Do shards until none is left; those that are lost with a node or a worker are done again."""
    total = sum(left.values())
    reason = "the workers were lost"
    attempt = 0
    progress(0)
    while left:
        careful = attempt >= CAREFUL
        before = _unjudged(listing, left, scorer["archive"]) if careful else 0
        try:
            for result in _run(listing, left, scorer, workers, careful):
                if result["kind"]:
                    raise ClusterError(f"A worker could not go on ({result['kind']}): {result['reason']}")
                if result["reason"]:
                    reason = result["reason"]
                    continue
                left.pop(result["shard"], None)
                progress(total - sum(left.values()))
        except ray.exceptions.RayError as error:
            reason = type(error).__name__
        if careful and left and _unjudged(listing, left, scorer["archive"]) >= before:
            raise ClusterError(
                f"{sum(left.values())} films could not be judged ({reason}): the others are in the output. Start it "
                "again, with fewer workers where memory is short."
            )
        attempt += 1


def _unjudged(listing: Listing, numbers: Iterable[int], archive: Archive) -> int:
    """Count the films without a row that holds."""
    surveyed = _surveyed(archive, listing, numbers)
    return sum(
        rows.get(text(name), {}).get("error_kind") != archives.LOST
        for _, rows, listed in surveyed
        for name, _ in archives.unscored(listed, rows)
    )


def _run(
    listing: Listing, numbers: Iterable[int], scorer: Mapping[str, Any], workers: int, careful: bool
) -> Iterator[Row]:
    """Have Ray Data stream shards through the actors, in any order.

    An actor writes the file of a shard itself: Ray Data's own Parquet sink names files anew in each run and writes them
    in place, so that a run which is killed leaves halves, and one that follows writes films twice.
    A task that is lost with its actor is not tried again on that actor, which may never find another node.
    """
    blocks = []
    for number in numbers:
        names, versions = zip(*listing.shard(number, scorer["archive"].shards), strict=True)
        shard = {"shard": [number], "careful": [careful], "names": [names], "versions": [versions]}
        blocks.append(pa.table(shard))
    actors = ray.data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=2)
    with warnings.catch_warnings(action="ignore"):  # Ray 2.64 is to rename the last two arguments
        done = ray.data.from_arrow(blocks).map_batches(
            Scorer,
            fn_constructor_kwargs=dict(scorer),
            batch_size=None,
            batch_format="pyarrow",
            compute=actors,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=0,
        )
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from batch.to_pylist()
