"""Streams findings as lines of JSON as soon as they are ready, while later images of the request still arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.responses import StreamingResponse
from starlette.types import Receive

from pneumoscope.service.queue import ImageQueue
from pneumoscope.service.security import Refusal
from pneumoscope.service.uploads import Form
from pneumoscope.service.worker import Row, Submission

_Image = tuple[str, Submission]


async def response(form: Form, queue: ImageQueue, answered: Callable[[Sequence[Row]], None]) -> StreamingResponse:
    """Begin to answer once the first image has arrived; until then a request can be refused with a status.

    Args:
        form: the form, whose images are read as they arrive; if the queue is full, reading waits for room.
        queue: the queue that predicts them.
        answered: called at the end with all answers.

    Raises:
        Refusal: there is no image. A later refusal becomes the last line: `{"error": {"kind", "message"}}`.

    Example:
        >>> await response(Form(request, limits), queue, telemetry.answered)  # doctest: +SKIP
    """
    images = form.images()
    return _Lines(await anext(images), images, queue, answered)


class _Lines(StreamingResponse):
    def __init__(
        self,
        first: _Image,
        rest: AsyncIterator[_Image],
        queue: ImageQueue,
        answered: Callable[[Sequence[Row]], None],
    ) -> None:
        self._queue = queue
        self._answered = answered
        self._arrived = asyncio.Event()
        super().__init__(self._lines(first, rest), media_type="application/x-ndjson")

    async def listen_for_disconnect(self, receive: Receive) -> None:
        await self._arrived.wait()  # until then, messages are parts of the request
        await super().listen_for_disconnect(receive)

    async def _lines(self, first: _Image, rest: AsyncIterator[_Image]) -> AsyncIterator[str]:
        answers: list[asyncio.Future[Row]] = []
        ready: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()

        async def predict(name: str, image: Submission) -> None:
            await self._queue.room()
            index = len(answers)
            answers.extend(self._queue.submit([image]))
            answers[index].add_done_callback(lambda answer: ready.put_nowait((index, name)))

        async def take() -> Refusal | None:
            try:
                await predict(*first)
                async for image in rest:
                    await predict(*image)
            except Refusal as refusal:
                return refusal
            finally:
                self._arrived.set()
                ready.put_nowait(None)
            return None

        taking = asyncio.create_task(take())
        rows: list[Row] = []
        try:
            while not taking.done() or len(rows) < len(answers):
                if (done := await ready.get()) is None:
                    continue
                index, name = done
                rows.append(answers[index].result())
                yield json.dumps({"index": index} | rows[-1] | {"path": name}) + "\n"
            if refusal := await taking:
                yield json.dumps({"error": {"kind": refusal.kind, "message": refusal.detail}}) + "\n"
        finally:
            taking.cancel()
            for answer in answers:
                answer.cancel()
            self._answered(rows)
