"""Runs shards on a Ray cluster: joins or starts it, and streams the shards through its actors."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning about a future change
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the command reports what matters

import pyarrow as pa
import ray
import ray.data
import ray.util.client

from pneumoscope.batch.output import Row
from pneumoscope.batch.passes import Result, Shard, WorkersLostError
from pneumoscope.batch.scorer import Scorer
from pneumoscope.errors import ClusterError, UnsupportedError
from pneumoscope.parallel import CORES

OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory of a local cluster for the names of images; the rest is spilled to disk."""

CONNECT_SECONDS = 5.0


@contextmanager
def joined(address: str | None, workers: int | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, and disconnect or stop it afterwards.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`; None to start one.
        workers: the least number of cores of a cluster that is started here.

    Raises:
        UnsupportedError: the address is invalid.
        ClusterError: there is no cluster.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address is None:
            local: dict[str, Any] = {"num_cpus": max(workers or 0, CORES), "object_store_memory": OBJECT_STORE}
            with _silent():
                ray.init("local", include_dashboard=False, **local, **quiet)
        else:
            _check_address(address)
            with _silent():
                ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"Expected a Ray cluster at '{address}', got no connection: check `ray status` there, and give its "
            "HOST:PORT. A cluster with a token, as Ray's own commands start it, needs RAY_AUTH_MODE=token here."
            if address
            else f"Ray does not start on this machine ({type(error).__name__})."
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the command reports what matters
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what Ray's C++ code writes to standard error at startup, which no setting prevents."""
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
    """Check that something listens at an address, because Ray would keep trying for a minute."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UnsupportedError(f"Expected auto, HOST:PORT or ray://HOST:PORT, got '{address}'.")
    socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


class RayRunner:
    """A `passes.Runner` that processes shards on the actors of a cluster that was `joined`.

    Ray Data streams the shards through the actors. An actor writes a shard's file itself: Ray Data's Parquet sink uses
    new file names in each run and does not write atomically, so that a killed run leaves partial files, and the next
    one writes images twice. A task that is lost with its actor is not retried on that actor, which may never find
    another node.

    Args:
        model: the bytes of the model file.
        scorer: the other arguments of `Scorer`.
        workers: the number of actors; by default one for each core of the cluster.
    """

    def __init__(self, model: bytes, scorer: Mapping[str, Any], workers: int | None) -> None:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._workers = min(workers or cores, cores)
        self._scorer = {"model": ray.put(model), **scorer}

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Process shards, and yield the result of each.

        Raises:
            WorkersLostError: Ray gave up.
        """
        blocks = []
        for number, images in shards:
            names, versions = zip(*images, strict=True)
            row = {"shard": [number], "careful": [careful], "names": [names], "versions": [versions]}
            blocks.append(pa.table(row))
        try:
            if (
                ray.util.client.ray.is_connected()
            ):  # connected by ray://, through which Ray Data cannot stream: it runs on the cluster
                gathered = ray.remote(num_cpus=0)(_gathered).remote(blocks, self._scorer, self._workers)
                yield from (Result(**row) for row in ray.get(gathered))
            else:
                yield from (Result(**row) for row in _streamed(blocks, self._scorer, self._workers))
        except ray.exceptions.RayError as error:
            raise WorkersLostError(type(error).__name__) from error


class Actor:
    """A `Scorer` for Ray Data, which passes shards as tables with one per row, and expects results likewise.

    It raises no errors, because Ray Data would log them on this node and continue without the shard.
    """

    def __init__(self, model: ray.ObjectRef[bytes], **rest: Any) -> None:  # noqa: ANN401 - the arguments of `Scorer`
        self._scorer = Scorer(ray.get(model), **rest)

    def __call__(self, shards: pa.Table) -> pa.Table:
        """Process shards."""
        results = []
        for row in shards.to_pylist():
            shard = Shard(row["shard"], list(zip(row["names"], row["versions"], strict=True)))
            results.append(self._scorer.result(shard, row["careful"])._asdict())
        return pa.Table.from_pylist(results)


def _gathered(blocks: list[pa.Table], scorer: Mapping[str, Any], workers: int) -> list[Row]:
    return list(_streamed(blocks, scorer, workers))


def _streamed(blocks: list[pa.Table], scorer: Mapping[str, Any], workers: int) -> Iterator[Row]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a shard that is lost with its actor is processed again by another
    actors = ray.data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=2)
    with warnings.catch_warnings(action="ignore"):  # Ray 2.64 will rename the last two arguments
        done = ray.data.from_arrow([*blocks]).map_batches(
            Actor,
            fn_constructor_kwargs=dict(scorer),
            batch_size=None,
            batch_format="pyarrow",
            compute=actors,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=0,
        )
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from cast(pa.Table, batch).to_pylist()
