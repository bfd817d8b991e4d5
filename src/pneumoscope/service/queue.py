"""The one queue before the one detector: films of all requests share batches, and a full queue says so at once."""

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
from pneumoscope.inference.detector import BATCH_SIZE, Finding
from pneumoscope.service.telemetry import LOG
from pneumoscope.service.worker import Row, Submission, Worker, WorkerLostError, WorkerTooSlowError

TOGETHER = BATCH_SIZE * runtimes.WORKERS
"""Films that the worker gets at once, at most: a batch for each of its threads."""


class QueueFullError(Exception):
    """There is no room for these films now.

    Attributes:
        retry_after: seconds after which there probably is.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"No room for these films: try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass
class _Job:
    film: Submission
    answer: asyncio.Future[Row]
    since: float = field(default_factory=time.monotonic)


class FilmQueue:
    """Films of all requests, judged together in the order they came.

    No film waits for a batch to fill: whatever has come while the worker was busy is the next batch.

    Args:
        worker: a started worker.
        capacity: films accepted and not yet answered, at most.
        seconds: the time that one film may take.
        observe: called after each batch with the seconds that each of its films has waited for its answer.

    Attributes:
        accepted: films accepted and not yet answered.
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
        self._thread = ThreadPoolExecutor(1, "judging")  # not several: each that ever held films keeps memory for them
        self._alive = True
        self.accepted = 0

    @property
    def ready(self) -> bool:
        """Whether films are taken and judged at once."""
        return self._loop is not None and self._alive

    def start(self) -> None:
        """Begin to judge."""
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

    def check_room(self, films: int = 1) -> None:
        """Say at once whether there is room.

        Raises:
            QueueFullError: there is none.
        """
        if self.accepted + films > self._capacity:
            raise QueueFullError(max(1, round(self.accepted * self._pace)))

    async def room(self) -> None:
        """Wait until there is room for a film."""
        while self.accepted >= self._capacity:
            await asyncio.sleep(0.01)

    def submit(self, films: Sequence[Submission]) -> list[asyncio.Future[Row]]:
        """Take films in, all or none; cancel an answer that nobody waits for any more.

        Raises:
            QueueFullError: there is no room for all of them.
        """
        self.check_room(len(films))
        loop = asyncio.get_running_loop()
        jobs = [_Job(film, loop.create_future()) for film in films]
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
                    rows = await self._judged([job.film for job in wanted])
                except Exception as error:  # noqa: BLE001 - whatever it is, nobody must wait for ever
                    LOG.error("fault", exc_info=error)
                    rows = [_refused(PneumoscopeError("The service could not judge the film: see its log."))] * len(
                        wanted
                    )
                for job, row in zip(wanted, rows, strict=True):
                    if not job.answer.cancelled():
                        job.answer.set_result(row)
                now = time.monotonic()
                self._pace += 0.2 * ((now - began) / len(wanted) - self._pace)
                self._observe([now - job.since for job in wanted])
            self.accepted -= len(batch)

    async def _judged(self, films: Sequence[Submission], last: bool = False) -> list[Row]:
        """Judge films together; where that ends the worker, each alone, so that only the culprit goes without."""
        try:
            return await self._call(films)
        except WorkerLostError as error:
            slow = isinstance(error, WorkerTooSlowError)
        if not last and not (slow and len(films) == 1):
            return [row for film in films for row in await self._judged([film], last=True)]
        if slow:
            return [
                _refused(TooSlowError(f"Expected a film that is judged within {self._seconds:g} s, got a slower one."))
            ]
        message = "The film cannot be judged: the process that read it ended, twice. Export the film anew."
        return [_refused(UnreadableError(message))]

    async def _call(self, films: Sequence[Submission]) -> list[Row]:
        loop = asyncio.get_running_loop()
        if not self._alive:
            try:
                await loop.run_in_executor(self._thread, self._worker.start)
            except PneumoscopeError as error:  # the model file has gone meanwhile
                return [_refused(error)] * len(films)
            self._alive = True
        try:
            # A full batch has twice the time of a film: what hangs is found soon, and a slow machine keeps its worker.
            seconds = self._seconds * (1 + (len(films) - 1) / TOGETHER)
            return await loop.run_in_executor(self._thread, self._worker.judge, films, seconds)
        except WorkerLostError:
            self._alive = False
            raise


def _refused(error: PneumoscopeError) -> Row:
    return Finding("", error=error).as_dict()
