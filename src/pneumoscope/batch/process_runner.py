"""Runs shards in processes on this machine, each with its own detector, when there is no cluster."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from pneumoscope.batch.passes import Result, Shard, WorkersLostError
from pneumoscope.batch.scorer import Scorer


class ProcessRunner:
    """A `passes.Runner` that processes shards in processes on this machine.

    Each process has one shard at a time. If a process ends, only that shard is lost, and a new process replaces it.

    Args:
        scorer: the scorer that each process runs.
        workers: the number of processes.

    Example:
        >>> run = ProcessRunner(scorer, workers=2)  # doctest: +SKIP
        >>> for result in run(shards, careful=False):  # doctest: +SKIP
        ...     print(result.shard)
    """

    def __init__(self, scorer: Scorer, workers: int) -> None:
        self._scorer, self._workers = scorer, workers

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Process shards, and yield the result of each.

        Raises:
            WorkersLostError: a process ended before it had loaded the model.
        """
        rest = iter(shards)
        working: dict[Connection, BaseProcess] = {}
        loading: dict[Connection, Shard] = {}
        try:
            for shard in islice(rest, self._workers):
                loading[self._started(working)] = shard
            while working:
                for pipe in cast("list[Connection]", wait(list(working))):
                    try:
                        result: Result | None = pipe.recv()
                    except (EOFError, OSError):
                        _end(working.pop(pipe), pipe)
                        if pipe in loading:
                            raise WorkersLostError("a worker ended while it started") from None
                        for shard in islice(rest, 1):
                            loading[self._started(working)] = shard
                        continue
                    if result is not None:
                        yield result
                    following = next(rest, None) if result is not None else loading.pop(pipe)
                    if following is None:
                        _end(working.pop(pipe), pipe)
                        continue
                    with suppress(OSError):  # the process may have ended, which `wait` will reveal
                        pipe.send((following, careful))
        finally:
            for pipe, process in working.items():
                _end(process, pipe)

    def _started(self, working: dict[Connection, BaseProcess]) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._scorer), daemon=True)
        try:
            process.start()
        except OSError as error:
            pipe.close()
            raise WorkersLostError("no process could be started") from error
        finally:
            theirs.close()  # so that the pipe closes when the process ends
        working[pipe] = process
        return pipe


def _end(process: BaseProcess, pipe: Connection) -> None:
    process.kill()
    process.join()
    pipe.close()


def _work(pipe: Connection, scorer: Scorer) -> None:
    """Load the model, signal that, then process shards until the other end is closed.

    An interrupt of the process group is left to the parent, which ends this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(Exception):  # the first shard's result says why
        scorer.load()
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            shard, careful = pipe.recv()
            pipe.send(scorer.result(shard, careful))
