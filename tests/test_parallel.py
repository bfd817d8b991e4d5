"""`parallel`: results come in order, a few ahead of the caller, from threads and from processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pneumoscope import parallel
from pneumoscope.errors import NotFoundError, PneumoscopeError


def slow_if_even(number: int) -> int:
    time.sleep(0.01 * (number % 2 == 0))
    return number


def missing(number: int) -> int:
    if number == 3:
        raise NotFoundError("Expected the fourth.")
    return number


def dying(numbers: list[int]) -> list[int]:
    if 40 in numbers:
        os._exit(1)
    return numbers


def pids(numbers: list[int]) -> list[int]:
    return [os.getpid() for _ in numbers]


def asleep(numbers: list[int]) -> list[int]:
    time.sleep(30 * (numbers[0] > 0))
    return numbers


def settings(names: list[str]) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@pytest.mark.parametrize("processes", [False, True])
def test_results_come_in_the_order_of_the_items(processes: bool) -> None:
    assert list(parallel.on_all_cores(slow_if_even, range(100), processes=processes)) == list(range(100))


@pytest.mark.parametrize("processes", [False, True])
def test_an_error_of_the_work_is_raised_where_its_result_would_come(processes: bool) -> None:
    results = parallel.on_all_cores(missing, range(10), processes=processes)
    with pytest.raises(NotFoundError, match="fourth"):
        list(results)


def test_items_are_taken_only_as_far_ahead_as_allowed() -> None:
    items = itertools.count(1)
    with ThreadPoolExecutor(2) as pool:
        results = parallel.ahead(pool, abs, items, most=5)
        assert [next(results) for _ in range(3)] == [1, 2, 3]
        results.close()  # type: ignore[attr-defined] # it is a generator
    assert next(items) - 1 <= 3 + 5


def test_processes_are_not_sent_all_items_at_once() -> None:
    items = itertools.count(1)
    results = parallel.in_processes(sorted, items, workers=2)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert next(items) - 1 < 1000


def test_a_process_that_ends_is_an_error_that_says_so_and_the_next_call_works() -> None:
    with pytest.raises(PneumoscopeError, match="one ended"):
        list(parallel.in_processes(dying, range(100), workers=2))
    assert list(parallel.in_processes(dying, range(3), workers=2)) == [0, 1, 2]


def test_a_process_uses_one_thread_for_its_numbers_and_imports_nothing_from_the_current_directory() -> None:
    assert set(parallel.in_processes(settings, ["OMP_NUM_THREADS", "PYTHONSAFEPATH"], workers=2)) == {"1"}


def test_processes_are_not_the_callers_own() -> None:
    assert os.getpid() not in set(parallel.in_processes(pids, range(100), workers=2))


def test_a_caller_that_stops_early_does_not_wait_for_what_is_under_way() -> None:
    results = parallel.in_processes(asleep, range(1000), workers=2, together=1)
    next(results)
    began = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10
    assert list(parallel.in_processes(sorted, range(3), workers=2)) == [0, 1, 2]


def computed(numbers: list[int]) -> list[int]:
    return list(parallel.in_processes(sorted, numbers, workers=2))


def test_a_daemon_which_may_have_no_processes_works_in_threads() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # its processes are daemons
        assert pool.apply(computed, ([3, 1, 2],)) == [1, 2, 3]
