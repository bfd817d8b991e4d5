"""The queue before the detector's process: whom it blames where that process ends, and what holds its room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

pytest.importorskip("fastapi", reason="serving is not installed")

from pneumoscope.service.queue import STARTS, ImageQueue
from pneumoscope.service.worker import Row, Submission, Worker, WorkerLostError

FINDING: Row = {"finding": "NORMAL", "error": None}


class Flighty:
    """A worker whose process ends as often as it is told, before it has an image or while it has one."""

    def __init__(self, ends_at_start: int, ends_with_image: int) -> None:
        self.ends_at_start = ends_at_start
        self.ends_with_image = ends_with_image

    def start(self) -> None:
        if self.ends_at_start:
            self.ends_at_start -= 1
            raise WorkerLostError

    def predict(self, images: Sequence[Submission], seconds: float) -> list[Row]:
        if self.ends_with_image:
            self.ends_with_image -= 1
            raise WorkerLostError
        return [FINDING] * len(images)


def answered(worker: Flighty) -> Row:
    async def ask() -> Row:
        queue = ImageQueue(cast(Worker, worker), 4, 20.0, lambda seconds: None)
        queue.start()
        (answer,) = queue.submit([Submission(b"image")])
        row = await asyncio.wait_for(answer, 20.0)
        await queue.stop()
        return row

    return asyncio.run(ask())


@pytest.mark.parametrize("ends_at_start", range(STARTS))
def test_no_image_is_blamed_for_a_process_that_ends_before_it_has_one(ends_at_start: int) -> None:
    assert answered(Flighty(ends_at_start, 1)) == FINDING


def test_an_image_with_which_the_process_ends_twice_is_given_up() -> None:
    row: dict[str, Any] = answered(Flighty(0, 2))
    assert row["error"]["kind"] == "unreadable"


class Busy:
    """A worker that takes one batch and answers when it is told to."""

    def __init__(self) -> None:
        self.done = threading.Event()

    def predict(self, images: Sequence[Submission], seconds: float) -> list[Row]:
        self.done.wait(seconds)
        return [FINDING] * len(images)


def test_the_images_of_a_client_that_is_gone_leave_the_queue_at_once() -> None:
    worker = Busy()

    async def ask() -> list[Row]:
        queue = ImageQueue(cast(Worker, worker), 4, 20.0)
        queue.start()
        answers = queue.submit([Submission(b"being predicted")])
        await asyncio.sleep(0.1)
        for answer in queue.submit([Submission(bytes(1000))] * 3):
            answer.cancel()
        await asyncio.sleep(0)
        answers += queue.submit([Submission(b"of another client")] * 3)
        accepted = queue.accepted
        worker.done.set()
        rows = await asyncio.wait_for(asyncio.gather(*answers), 20.0)
        await queue.stop()
        assert (accepted, queue.accepted) == (4, 0)
        return rows

    assert asyncio.run(ask()) == [FINDING] * 4
