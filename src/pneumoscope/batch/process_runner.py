"""The processes of one machine at work, each with a detector of its own, when there is no cluster to ask."""

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
    """Does shards in processes of this machine, as `passes.Runner` says.

    Each process has one shard in hand. One that ends costs that shard alone, and another takes its place.

    Args:
        scorer: what each of them does.
        workers: how many there are.

    Example:
        >>> run = ProcessRunner(scorer, workers=2)  # doctest: +SKIP
        >>> for result in run(shards, careful=False):  # doctest: +SKIP
        ...     print(result.shard)
    """

    def __init__(self, scorer: Scorer, workers: int) -> None:
        self._scorer, self._workers = scorer, workers

    def __call__(self, shards: Iterable[Shard], careful: bool) -> Iterator[Result]:
        """Do shards, and give what came of each.

        Raises:
            WorkersLostError: a process ended before it did anything.
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
                    with suppress(OSError):  # the process has ended meanwhile, which is seen when it is listened to
                        pipe.send((following, careful))
        finally:
            for pipe, process in working.items():
                _end(process, pipe)

    def _started(self, working: dict[Connection, BaseProcess]) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads as they stand
        pipe, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._scorer), daemon=True)
        try:
            process.start()
        except OSError as error:
            pipe.close()
            raise WorkersLostError("no process could be started") from error
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe
        working[pipe] = process
        return pipe


def _end(process: BaseProcess, pipe: Connection) -> None:
    process.kill()
    process.join()
    pipe.close()


def _work(pipe: Connection, scorer: Scorer) -> None:
    """Load the model, say so, then do shards until the other end is closed.

    An interrupt of the whole group is for the parent, which ends this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(Exception):  # the first shard's result says why
        scorer.load()
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            shard, careful = pipe.recv()
            pipe.send(scorer.result(shard, careful))
