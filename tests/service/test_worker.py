"""The detector in a process of its own: whatever that process does, the caller goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pneumoscope.service.worker import Submission, Worker, WorkerLostError, WorkerTooSlowError


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()


def pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_process_that_stands_still_is_given_up_also_before_it_has_taken_the_images(worker: Worker, size: int) -> None:
    os.kill(pid(worker), signal.SIGSTOP)
    with pytest.raises(WorkerTooSlowError):
        worker.predict([Submission(bytes(size))] * 3, seconds=0.5)


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_process_that_has_ended_is_lost_and_can_be_started_again(worker: Worker, size: int) -> None:
    os.kill(pid(worker), signal.SIGKILL)
    with pytest.raises(WorkerLostError) as lost:
        worker.predict([Submission(bytes(size))] * 3, seconds=60.0)
    assert not isinstance(lost.value, WorkerTooSlowError)
    worker.start()
    assert [row["error"]["kind"] for row in worker.predict([Submission(b"no image")] * 2, 60.0)] == ["unsupported"] * 2
