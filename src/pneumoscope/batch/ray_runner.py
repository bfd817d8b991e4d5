"""Ray at work: a cluster joined or started, shards streamed through its actors, and again those that were lost."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is told by the command

import pyarrow as pa
import ray
import ray.data
import ray.util.client

from pneumoscope.batch import output
from pneumoscope.batch.actor import Scorer
from pneumoscope.batch.manifest import Listing, text
from pneumoscope.batch.output import Archive, Row
from pneumoscope.errors import ClusterError, UnsupportedError
from pneumoscope.inference.runtimes import CORES

WAVE = 1_000_000
"""Images whose names are in memory, and in Ray's object store, at a time: some 150 MB."""

OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory that a local cluster takes for the names of images; what is more goes to disk."""

CAREFUL = 2
"""How often a shard may be lost before its images are tried one by one, to find the one that ends the process."""

CONNECT_SECONDS = 5.0

Progress = Callable[[int, int], None]
"""Told how many of the images that had no finding are done, and how many there are."""


@contextmanager
def joined(address: str | None, workers: int | None) -> Iterator[None]:
    """Join a cluster, or start one on this machine, and leave it or end it afterwards.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None to start one.
        workers: cores that a cluster started here has at least.

    Raises:
        UnsupportedError: it is no address.
        ClusterError: there is no cluster.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address is None:
            local = {"num_cpus": max(workers or 0, CORES), "object_store_memory": OBJECT_STORE}
            with _silent():
                ray.init("local", include_dashboard=False, **local, **quiet)
        else:
            _check_address(address)
            with _silent():
                ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"Expected a Ray cluster at '{address}', got no connection: see `ray status` there, and give its "
            "HOST:PORT. One that asks for a token, as Ray's own commands start it, needs RAY_AUTH_MODE=token here."
            if address
            else f"Ray does not start on this machine ({type(error).__name__})."
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it is told by the command
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


def run_all(
    listing: Listing,
    pending: Mapping[int, int],
    scorer: Mapping[str, Any],
    workers: int | None,
    progress: Progress,
) -> None:
    """Have all shards done, a wave at a time.

    Args:
        listing: the images.
        pending: how many images without a finding each shard has.
        scorer: the arguments of `Scorer`, with the bytes of the model.
        workers: actors; by default as many as the cluster has cores.
        progress: told of each shard.

    Raises:
        ClusterError: images are left that no actor could read.
    """
    total, done = sum(pending.values()), 0
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    fit = min(workers or cores, cores)
    scorer = {**scorer, "model": ray.put(scorer["model"])}
    numbers = iter(pending)
    while wave := list(islice(numbers, max(1, WAVE * len(pending) // total))):
        left = {number: pending[number] for number in wave}

        def told(more: int, before: int = done) -> None:
            progress(before + more, total)

        done += sum(left.values())
        _run_wave(listing, left, scorer, fit, told)


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
        before = _unpredicted(listing, left, scorer["archive"]) if careful else 0
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
        if careful and left and _unpredicted(listing, left, scorer["archive"]) >= before:
            raise ClusterError(
                f"{sum(left.values())} images could not be read ({reason}): the others are in the output. Start it "
                "again, with fewer workers where memory is short."
            )
        attempt += 1


def _unpredicted(listing: Listing, numbers: Iterable[int], archive: Archive) -> int:
    """Count the images without a row that holds."""
    surveyed = output.surveyed(archive, listing, numbers)
    return sum(
        rows.get(text(name), {}).get("error_kind") != output.LOST
        for _, rows, listed in surveyed
        for name, _ in output.unscored(listed, rows)
    )


def _run(
    listing: Listing, numbers: Iterable[int], scorer: Mapping[str, Any], workers: int, careful: bool
) -> Iterator[Row]:
    """Have Ray Data stream shards through the actors, in any order.

    An actor writes the file of a shard itself: Ray Data's own Parquet sink names files anew in each run and writes them
    in place, so that a run which is killed leaves halves, and one that follows writes images twice.
    A task that is lost with its actor is not tried again on that actor, which may never find another node.
    """
    blocks = []
    for number in numbers:
        names, versions = zip(*listing.shard(number, scorer["archive"].shards), strict=True)
        shard = {"shard": [number], "careful": [careful], "names": [names], "versions": [versions]}
        blocks.append(pa.table(shard))
    if ray.util.client.ray.is_connected():  # by ray://, which Ray Data cannot stream through: it runs over there
        yield from ray.get(ray.remote(num_cpus=0)(_gathered).remote(blocks, scorer, workers))
    else:
        yield from _streamed(blocks, scorer, workers)


def _gathered(blocks: list[pa.Table], scorer: Mapping[str, Any], workers: int) -> list[Row]:
    return list(_streamed(blocks, scorer, workers))


def _streamed(blocks: list[pa.Table], scorer: Mapping[str, Any], workers: int) -> Iterator[Row]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a shard that is lost with its actor is done again by another
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
