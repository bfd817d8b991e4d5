"""The detector in a process of its own: whatever that process does, the caller goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pneumoscope import Detector
from pneumoscope.service.worker import Submission, Worker, WorkerLostError, WorkerTooSlowError, predict
from tests.builders.dicoms import RAMP
from tests.builders.dicoms import image as dicom_image
from tests.builders.serving import image, lenient


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()


def pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


def test_each_row_is_what_was_asked_of_its_image_wherever_it_stands_in_the_batch() -> None:
    values, plain, mapped = Submission(dicom_image(RAMP), values=True), image(0), image(1)
    batch = [values, Submission(plain), replace(values, data=b""), values, Submission(mapped, evidence=True), values]
    rows = predict(Detector(lenient()), iter(batch))
    assert ["values" in row for row in rows] == [True, False, False, True, False, True]
    assert ["evidence" in row for row in rows] == [False, False, False, False, True, False]
    findings = [finding.probability for finding in Detector(lenient()).examine([plain, mapped])]
    assert [rows[1]["probability"], rows[4]["probability"]] == pytest.approx(findings, abs=1e-5)
    assert rows[2]["error"]["kind"] == "unreadable"


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
