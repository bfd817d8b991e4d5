"""What every route needs: the detector behind its queue, the limits, the counters."""

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
        queue: before it.
        limits: how much a client may ask for.
        telemetry: where answers are counted.
    """

    worker: Worker
    queue: ImageQueue
    limits: Limits
    telemetry: Telemetry

    def check_room(self, images: int = 1) -> None:
        """Refuse a request at once where its images have no room.

        Raises:
            Refusal: the queue is full; 503, with the time after which there probably is room.
        """
        try:
            self.queue.check_room(images)
        except QueueFullError as error:
            raise Refusal(503, "busy", str(error), error.retry_after) from None

    async def answered(self, request: Request, images: Sequence[Submission]) -> list[Row] | None:
        """Give the rows of images, in their order; None, and nothing more is done, where the client hangs up before.

        Raises:
            Refusal: the queue is full.
        """
        self.check_room(len(images))
        return await _unless_gone(request, self.queue.submit(images))

    def count(self, request: Request, rows: Sequence[Row]) -> None:
        """Count what was answered, and note it for the request's line in the log."""
        request.state.facts["images"] = self.telemetry.answered(rows)


async def _of(request: Request) -> Service:  # FastAPI calls one that is not `async` in a thread of its own
    service: Service = request.app.state.service
    return service


Parts = Annotated[Service, Depends(_of)]
"""The annotation by which a route gets the service."""


async def _unless_gone(request: Request, answers: Sequence[asyncio.Future[Row]]) -> list[Row] | None:
    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    rows = asyncio.gather(*answers)
    rows.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs those that are gone
    gone = asyncio.create_task(hung_up())
    try:
        waiting: set[asyncio.Future[Any]] = {rows, gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return rows.result() if rows.done() else None
    finally:
        gone.cancel()
        rows.cancel()
