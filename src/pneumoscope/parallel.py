"""Runs many small tasks on all cores, in order and only so far ahead of whoever takes the results."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TypeVar

from pneumoscope.errors import PneumoscopeError

T = TypeVar("T")
R = TypeVar("R")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""The cores available to this process."""

MANY = 400
"""The number of images from which on processes are worth their start, which takes as long as predicting some 200."""

TOGETHER = 16
"""How many items are sent to a process at a time."""

_AHEAD = 4
"""How many such groups are sent ahead for each process, so that a slow item does not leave the others idle."""

_STAY = 60
"""Seconds that idle processes wait for the next call."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T], most: int) -> Iterator[R]:
    """Yield the result for each item, in order, while the pool works on the following ones.

    Args:
        pool: runs the work.
        work: what is done with each item.
        items: the items; taken as they are needed.
        most: how many items are in work or waiting to be yielded at a time.

    Raises:
        Exception: what `work` raised.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(ahead(pool, abs, [-1, 2, -3], most=2))
        [1, 2, 3]
    """
    rest = iter(items)
    pending: deque[Future[R]] = deque()
    try:
        while True:
            pending.extend(pool.submit(work, item) for item in islice(rest, most - len(pending)))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        wait(pending)


def on_all_cores(work: Callable[[T], R], items: Iterable[T], *, processes: bool) -> Iterator[R]:
    """Yield the result for each item, in order, computed in processes or in threads.

    Raises:
        PneumoscopeError: a process ended.
        Exception: what `work` raised.

    Example:
        >>> list(on_all_cores(abs, [-1, 2, -3], processes=False))
        [1, 2, 3]
    """
    if processes:
        yield from in_processes(partial(_each, work), items, CORES)
        return
    with ThreadPoolExecutor(CORES) as pool:
        yield from ahead(pool, work, items, 2 * CORES)


def in_processes(work: Callable[[list[T]], list[R]], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield the result for each item, in order, computed in processes.

    Threads that read small images mostly wait for one another's Python. Processes do not, but take half a second to
    start and some 150 MB each. Idle ones end after a minute. Threads do the work where a process may have none of its
    own: in a daemon, and on systems without semaphores.

    Args:
        work: what is done with at most `TOGETHER` items at a time; it returns a result for each. It is pickled, as are
            items and results.
        items: the items; taken as they are needed.
        workers: the number of processes.

    Raises:
        PneumoscopeError: a process ended.
        Exception: what `work` raised.

    Example:
        >>> list(in_processes(sorted, [3, 1, 2], workers=2))
        [1, 2, 3]
    """
    pool = _pool(workers)
    try:
        for results in ahead(pool, work, groups(items, TOGETHER), _AHEAD * workers):
            yield from results
    except BrokenProcessPool as error:
        raise PneumoscopeError(
            "Expected the processes to read all images, but one ended: memory may be short, an image may have crashed "
            "it, or the model file has changed. Try again, with fewer images if that does not help."
        ) from error


def _pool(workers: int) -> Executor:
    if not multiprocessing.current_process().daemon:
        with suppress(ImportError, OSError):
            from loky import get_reusable_executor

            processes: Executor = get_reusable_executor(workers, timeout=_STAY, env=_ONE_THREAD)
            return processes
    return ThreadPoolExecutor(workers)


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Divide items into lists of a size; the last one may be shorter.

    Example:
        >>> list(groups("abc", 2))
        [['a', 'b'], ['c']]
    """
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])


def _each(work: Callable[[T], R], items: list[T]) -> list[R]:
    return [work(item) for item in items]
