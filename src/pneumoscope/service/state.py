"""What the routes share: the detector with its queue, the limits and the counters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from pneumoscope.service.queue import ImageQueue, QueueFullError
from pneumoscope.service.security import Limits, Refusal
from pneumoscope.service.telemetry import Telemetry
from pneumoscope.service.worker import Row, Submission, Worker


@dataclass(frozen=True)
class Service:
    """The parts of a running service.

    Attributes:
        worker: the detector in its own process.
        queue: the queue in front of it.
        limits: limits on requests.
        telemetry: counts the answers.
    """

    worker: Worker
    queue: ImageQueue
    limits: Limits
    telemetry: Telemetry

    def check_room(self, images: int = 1) -> None:
        """Refuse a request immediately if the queue has no room for its images.

        Raises:
            Refusal: the queue is full; 503, with the time after which there will probably be room.
        """
        try:
            self.queue.check_room(images)
        except QueueFullError as error:
            raise Refusal(503, "busy", str(error), error.retry_after) from None

    async def answered(self, request: Request, images: Sequence[Submission]) -> list[Row] | None:
        """Return the rows of images, in their order; or cancel and return None if the client disconnects first.

        Raises:
            Refusal: the queue is full.
        """
        self.check_room(len(images))
        return await _unless_gone(request, self.queue.submit(images))

    def count(self, request: Request, rows: Sequence[Row]) -> None:
        """Count the answers, and add them to the log line of the request."""
        request.state.facts["images"] = self.telemetry.answered(rows)


async def _of(request: Request) -> Service:  # `async`, because FastAPI would call it in a thread otherwise
    service: Service = request.app.state.service
    return service


Parts = Annotated[Service, Depends(_of)]
"""The annotation with which a route receives the service."""


async def _unless_gone(request: Request, answers: Sequence[asyncio.Future[Row]]) -> list[Row] | None:
    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    rows = asyncio.gather(*answers)
    rows.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved, or else asyncio logs it
    gone = asyncio.create_task(hung_up())
    try:
        waiting: set[asyncio.Future[Any]] = {rows, gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return rows.result() if rows.done() else None
    finally:
        gone.cancel()
        rows.cancel()
