"""Runs many small tasks on all cores, in order and only so far ahead of whoever takes the results."""

from __future__ import annotations

import multiprocessing
import os
import signal
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

MOST_WORKERS = 8
"""Limits the memory: each worker may decode an image of the largest size, which takes a gigabyte."""

WORKERS = min(MOST_WORKERS, CORES)
"""The default number of workers, each on one core."""

MANY = 400
"""The number of images from which on processes are worth their start, which takes up to a second."""

TOGETHER = 16
"""How many items are sent to a process at a time."""

_AHEAD = 4
"""How many such groups are sent ahead for each process, so that a slow item does not leave the others idle."""

_STAY = 60
"""Seconds that idle processes wait for the next call."""

_SETTINGS = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "PYTHONSAFEPATH",  # modules are not imported from the current directory
    ),
    "1",
)
"""Environment variables of the processes."""


def ahead(
    pool: Executor,
    work: Callable[[T], R],
    items: Iterable[T],
    most: int,
    give_up: Callable[[], object] | None = None,
) -> Iterator[R]:
    """Yield the result for each item, in order, while the pool works on the following ones.

    Args:
        pool: runs the work.
        work: what is done with each item.
        items: the items; taken as they are needed.
        most: how many items are in work or waiting to be yielded at a time.
        give_up: ends the pool's work; called if the caller stops early, or at an error. By default what has begun is
            waited for.

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
        if pending and give_up:
            give_up()  # loky does not expect cancelled work when it ends its processes
        wait(list(pending) if give_up else [future for future in pending if not future.cancel()])


def on_all_cores(
    work: Callable[[T], R], items: Iterable[T], *, processes: bool, together: int = TOGETHER
) -> Iterator[R]:
    """Yield the result for each item, in order, computed in `WORKERS` processes or threads.

    Args:
        work: what is done with each item.
        items: the items; taken as they are needed.
        processes: as in `in_processes`; work, items and results are pickled.
        together: how many items are sent to a process at a time.

    Raises:
        PneumoscopeError: a process ended.
        Exception: what `work` raised.

    Example:
        >>> list(on_all_cores(abs, [-1, 2, -3], processes=False))
        [1, 2, 3]
    """
    if processes:
        yield from in_processes(partial(_each, work), items, WORKERS, together)
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from ahead(pool, work, items, 2 * WORKERS)


def in_processes(
    work: Callable[[list[T]], list[R]], items: Iterable[T], workers: int, together: int = TOGETHER
) -> Iterator[R]:
    """Yield the result for each item, in order, computed in processes.

    Threads that read small images mostly wait for one another's Python. Processes do not, but take up to a second to
    start and some 150 MB each. Idle ones end after a minute. Threads do the work where a process may have none of its
    own: in a daemon, and on systems without semaphores.

    Args:
        work: what is done with at most `together` items at a time; it returns a result for each. It is pickled, as are
            items and results.
        items: the items; taken as they are needed.
        workers: the number of processes.
        together: how many items are sent to a process at a time.

    Raises:
        PneumoscopeError: a process ended.
        Exception: what `work` raised.

    Example:
        >>> list(in_processes(sorted, [3, 1, 2], workers=2))
        [1, 2, 3]
    """
    pool, end = _pool(workers)
    try:
        for results in ahead(pool, work, groups(items, together), _AHEAD * workers, end):
            yield from results
    except BrokenProcessPool as error:
        raise PneumoscopeError(
            "Expected the processes to read all images, but one ended: memory may be short, an image may have crashed "
            "it, or the model file has changed. Try again, with fewer images if that does not help."
        ) from error


def _pool(workers: int) -> tuple[Executor, Callable[[], object] | None]:
    """Return a pool, and what ends its work at once."""
    if not multiprocessing.current_process().daemon:
        with suppress(ImportError, NotImplementedError, OSError):
            from loky import get_reusable_executor

            pool = get_reusable_executor(workers, timeout=_STAY, initializer=_ignore_interrupts, env=_SETTINGS)
            return pool, partial(pool.shutdown, kill_workers=True)
    return ThreadPoolExecutor(workers), None


def _ignore_interrupts() -> None:
    """Leave interrupts to the process that reads the results, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
