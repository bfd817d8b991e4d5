"""Ray at work: a cluster joined or started, and shards streamed through its actors."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is told by the command

import pyarrow as pa
import ray
import ray.data
import ray.util.client

from pneumoscope.batch.output import Row
from pneumoscope.batch.passes import Result, Shard, WorkersLostError
from pneumoscope.batch.scorer import Scorer
from pneumoscope.errors import ClusterError, UnsupportedError
from pneumoscope.inference.runtimes import CORES

OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory that a local cluster takes for the names of images; what is more goes to disk."""

CONNECT_SECONDS = 5.0


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


class RayRunner:
    """Does shards on the actors of a cluster that was `joined`, as `passes.Runner` says.

    Ray Data streams the shards through the actors. An actor writes the file of a shard itself: Ray Data's own Parquet
    sink names files anew in each run and writes them in place, so that a run which is killed leaves halves, and one
    that follows writes images twice. A task that is lost with its actor is not tried again on that actor, which may
    never find another node.

    Args:
        model: the bytes of the model file.
        scorer: the other arguments of `Scorer`.
        workers: actors; by default as many as the cluster has cores.
    """

    def __init__(self, model: bytes, scorer: Mapping[str, Any], workers: int | None) -> None:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._workers = min(workers or cores, cores)
        self._scorer = {"model": ray.put(model), **scorer}

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Do shards, and give what came of each.

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
            ):  # by ray://, which Ray Data cannot stream through: it runs over there
                gathered = ray.remote(num_cpus=0)(_gathered).remote(blocks, self._scorer, self._workers)
                yield from (Result(**row) for row in ray.get(gathered))
            else:
                yield from (Result(**row) for row in _streamed(blocks, self._scorer, self._workers))
        except ray.exceptions.RayError as error:
            raise WorkersLostError(type(error).__name__) from error


class Actor:
    """A `Scorer` as Ray Data calls it: shards come as tables, one a row, and so do the results.

    Nothing is raised: Ray Data would log it on this node and carry on without the shard.
    """

    def __init__(self, model: ray.ObjectRef[bytes], **rest: Any) -> None:  # noqa: ANN401 - the arguments of `Scorer`
        self._scorer = Scorer(ray.get(model), **rest)

    def __call__(self, shards: pa.Table) -> pa.Table:
        """Do shards."""
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
    context.max_errored_blocks = -1  # a shard that is lost with its actor is done again by another
    actors = ray.data.ActorPoolStrategy(size=min(workers, len(blocks)), max_tasks_in_flight_per_actor=2)
    with warnings.catch_warnings(action="ignore"):  # Ray 2.64 is to rename the last two arguments
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
