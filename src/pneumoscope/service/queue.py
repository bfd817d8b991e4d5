"""The one queue before the one detector: images of all requests share batches, and a full queue says so at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from pneumoscope.errors import PneumoscopeError, TooSlowError, UnreadableError
from pneumoscope.inference import runtimes
from pneumoscope.inference.detector import BATCH_SIZE
from pneumoscope.inference.finding import Finding
from pneumoscope.service.telemetry import LOG
from pneumoscope.service.worker import Row, Submission, Worker, WorkerLostError, WorkerTooSlowError

TOGETHER = BATCH_SIZE * runtimes.WORKERS
"""Images that the worker gets at once, at most: a batch for each of its threads."""


STARTS = 3
"""How often the worker is started for a batch where something ends it before it has an image."""


class QueueFullError(Exception):
    """There is no room for these images now.

    Attributes:
        retry_after: seconds after which there probably is.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"No room for these images: try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass
class _Job:
    image: Submission
    answer: asyncio.Future[Row]
    since: float = field(default_factory=time.monotonic)


class ImageQueue:
    """Images of all requests, in batches, in the order they came.

    No image waits for a batch to fill: whatever has come while the worker was busy is the next batch.

    Args:
        worker: a started worker.
        capacity: images accepted and not yet answered, at most.
        seconds: the time that one image may take.
        observe: called after each batch with the seconds that each of its images has waited for its answer.

    Attributes:
        accepted: images accepted and not yet answered.
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
        )  # not several: each that ever held images keeps memory for them
        self._alive = True
        self.accepted = 0

    @property
    def ready(self) -> bool:
        """Whether images are taken and read at once."""
        return self._loop is not None and self._alive

    def start(self) -> None:
        """Begin to work."""
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what was accepted, then end."""
        while self.accepted:
            await asyncio.sleep(0.01)
        if self._loop:
            loop, self._loop = self._loop, None
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop
        self._thread.shutdown(wait=False)

    def check_room(self, images: int = 1) -> None:
        """Say at once whether there is room.

        Raises:
            QueueFullError: there is none.
        """
        if self.accepted + images > self._capacity:
            raise QueueFullError(max(1, round(self.accepted * self._pace)))

    async def room(self) -> None:
        """Wait until there is room for an image."""
        while self.accepted >= self._capacity:
            await asyncio.sleep(0.01)

    def submit(self, images: Sequence[Submission]) -> list[asyncio.Future[Row]]:
        """Take images in, all or none; cancel an answer that nobody waits for any more.

        Raises:
            QueueFullError: there is no room for all of them.
        """
        self.check_room(len(images))
        loop = asyncio.get_running_loop()
        jobs = [_Job(image, loop.create_future()) for image in images]
        self._waiting.extend(jobs)
        self.accepted += len(jobs)
        self._arrived.set()
        return [job.answer for job in jobs]

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
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody must wait for ever
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
        """Predict on a batch; where that ends the worker, each alone, so that only the culprit goes without."""
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
        message = "The image cannot be read: the process that read it ended, twice. Export the image anew."
        return [_refused(UnreadableError(message))]

    async def _call(self, images: Sequence[Submission]) -> list[Row]:
        loop = asyncio.get_running_loop()
        if not self._alive:
            try:
                await self._start()
            except PneumoscopeError as error:  # the model file has gone meanwhile
                return [_refused(error)] * len(images)
            self._alive = True
        try:
            # A full batch has twice the time of one image: what hangs is found soon; a slow machine keeps its worker.
            seconds = self._seconds * (1 + (len(images) - 1) / TOGETHER)
            return await loop.run_in_executor(self._thread, self._worker.predict, images, seconds)
        except WorkerLostError:
            self._alive = False
            raise

    async def _start(self) -> None:
        """Start the worker; where it ends before it has an image, no image is to blame, and it is started again."""
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
