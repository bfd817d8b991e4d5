"""The queue in front of the detector: images of all requests share batches, and a full queue refuses immediately."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from pneumoscope.errors import PneumoscopeError, TooSlowError, UnreadableError
from pneumoscope.inference import runtimes
from pneumoscope.inference.detector import BATCH_SIZE
from pneumoscope.inference.finding import Finding
from pneumoscope.service.telemetry import LOG
from pneumoscope.service.worker import Row, Submission, Worker, WorkerLostError, WorkerTooSlowError

TOGETHER = BATCH_SIZE * runtimes.WORKERS
"""The most images passed to the worker at once: a batch for each of its threads."""

STARTS = 3
"""How often to try starting the worker if it ends before it has received an image."""


class QueueFullError(Exception):
    """There is no room for these images now.

    Attributes:
        retry_after: seconds after which there will probably be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"No room for these images: try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass(eq=False)
class _Job:
    image: Submission
    answer: asyncio.Future[Row]
    since: float = field(default_factory=time.monotonic)


class ImageQueue:
    """Predicts the images of all requests in batches, in the order of their arrival.

    Images do not wait for a batch to fill: those that arrive while the worker is busy form the next batch.

    Args:
        worker: a started worker.
        capacity: the most images accepted and not yet answered.
        seconds: the time limit for one image.
        observe: called after each batch with the seconds that each of its images has waited for its answer.

    Attributes:
        accepted: the number of images accepted and not yet answered.
    """

    def __init__(
        self,
        worker: Worker,
        capacity: int,
        seconds: float,
        observe: Callable[[Sequence[float]], None] = lambda waited: None,
    ) -> None:
        self._worker = worker
        self._capacity = capacity
        self._seconds = seconds
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._pace = 0.05
        self._loop: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(
            1, "predicting"
        )  # a single thread, because each one keeps memory for the images that it once held
        self._alive = True
        self.accepted = 0

    @property
    def ready(self) -> bool:
        """Whether the queue is running and the worker is alive."""
        return self._loop is not None and self._alive

    def start(self) -> None:
        """Start predicting."""
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer all accepted images, then stop."""
        while self.accepted:
            await asyncio.sleep(0.01)
        if self._loop:
            loop, self._loop = self._loop, None
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop
        self._thread.shutdown(wait=False)

    def check_room(self, images: int = 1) -> None:
        """Check that there is room for a number of images.

        Raises:
            QueueFullError: there is not.
        """
        if self.accepted + images > self._capacity:
            raise QueueFullError(max(1, round(self.accepted * self._pace)))

    async def room(self) -> None:
        """Wait until there is room for an image."""
        while self.accepted >= self._capacity:
            await asyncio.sleep(0.01)

    def submit(self, images: Sequence[Submission]) -> list[asyncio.Future[Row]]:
        """Accept images, all or none; the caller cancels an answer that is no longer needed.

        Raises:
            QueueFullError: there is no room for all of them.
        """
        self.check_room(len(images))
        loop = asyncio.get_running_loop()
        jobs = [_Job(image, loop.create_future()) for image in images]
        for job in jobs:
            job.answer.add_done_callback(partial(self._forget, job))
        self._waiting.extend(jobs)
        self.accepted += len(jobs)
        self._arrived.set()
        return [job.answer for job in jobs]

    def _forget(self, job: _Job, answer: asyncio.Future[Row]) -> None:
        """Give up a job that was cancelled while it waited, so that it takes no memory and no room."""
        if answer.cancelled():
            with suppress(ValueError):  # it is in a batch already
                self._waiting.remove(job)
                self.accepted -= 1

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            wanted = [job for job in batch if not job.answer.cancelled()]
            if wanted:
                began = time.monotonic()
                try:
                    rows = await self._predicted([job.image for job in wanted])
                except Exception as error:  # noqa: BLE001 - whatever it is, no client must wait forever
                    LOG.error("fault", exc_info=error)
                    rows = [_refused(PneumoscopeError("The service could not read the image: see its log."))] * len(
                        wanted
                    )
                for job, row in zip(wanted, rows, strict=True):
                    if not job.answer.cancelled():
                        job.answer.set_result(row)
                now = time.monotonic()
                self._pace += 0.2 * ((now - began) / len(wanted) - self._pace)
                self._observe([now - job.since for job in wanted])
            self.accepted -= len(batch)

    async def _predicted(self, images: Sequence[Submission], last: bool = False) -> list[Row]:
        """Predict on a batch; if that ends the worker, predict images one by one, so that only the faulty one fails."""
        try:
            return await self._call(images)
        except WorkerLostError as error:
            slow = isinstance(error, WorkerTooSlowError)
        if not last and not (slow and len(images) == 1):
            return [row for image in images for row in await self._predicted([image], last=True)]
        if slow:
            return [
                _refused(TooSlowError(f"Expected an image that is read within {self._seconds:g} s, got a slower one."))
            ]
        message = "The image cannot be read: the process that reads it crashed twice. Export the image again."
        return [_refused(UnreadableError(message))]

    async def _call(self, images: Sequence[Submission]) -> list[Row]:
        loop = asyncio.get_running_loop()
        if not self._alive:
            try:
                await self._start()
            except PneumoscopeError as error:  # the model file may have been deleted
                return [_refused(error)] * len(images)
            self._alive = True
        try:
            # A full batch has twice the time of one image: enough for a slow machine, but hangs are detected soon.
            seconds = self._seconds * (1 + (len(images) - 1) / TOGETHER)
            return await loop.run_in_executor(self._thread, self._worker.predict, images, seconds)
        except WorkerLostError:
            self._alive = False
            raise

    async def _start(self) -> None:
        """Start the worker, and try again if it ends, because it has not received an image that could be the cause."""
        loop = asyncio.get_running_loop()
        for attempt in range(STARTS):
            try:
                await loop.run_in_executor(self._thread, self._worker.start)
            except WorkerLostError as error:
                if attempt + 1 == STARTS or isinstance(error, WorkerTooSlowError):
                    raise
            else:
                return


def _refused(error: PneumoscopeError) -> Row:
    return Finding("", error=error).as_dict()
