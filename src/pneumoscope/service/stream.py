"""Findings as lines of JSON, each as soon as it is there, while later films of the request still arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.responses import StreamingResponse
from starlette.types import Receive

from pneumoscope.service.queue import FilmQueue
from pneumoscope.service.security import Refusal
from pneumoscope.service.uploads import Form
from pneumoscope.service.worker import Row, Submission

_Film = tuple[str, Submission]


async def response(form: Form, queue: FilmQueue, answered: Callable[[Sequence[Row]], None]) -> StreamingResponse:
    """Begin to answer once the first film has arrived: until then a request can be refused with a status.

    Args:
        form: its films are judged as they arrive; where the queue is full, the rest is read when there is room.
        queue: judges them.
        answered: called at the end with what was answered.

    Raises:
        Refusal: there is no film. A refusal later on is the last line: `{"error": {"kind", "message"}}`.

    Example:
        >>> await response(Form(request, limits), queue, telemetry.answered)  # doctest: +SKIP
    """
    films = form.films()
    return _Lines(await anext(films), films, queue, answered)


class _Lines(StreamingResponse):
    def __init__(
        self,
        first: _Film,
        rest: AsyncIterator[_Film],
        queue: FilmQueue,
        answered: Callable[[Sequence[Row]], None],
    ) -> None:
        self._queue = queue
        self._answered = answered
        self._arrived = asyncio.Event()
        super().__init__(self._lines(first, rest), media_type="application/x-ndjson")

    async def listen_for_disconnect(self, receive: Receive) -> None:
        await self._arrived.wait()  # until then messages are films
        await super().listen_for_disconnect(receive)

    async def _lines(self, first: _Film, rest: AsyncIterator[_Film]) -> AsyncIterator[str]:
        answers: list[asyncio.Future[Row]] = []
        ready: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()

        async def judge(name: str, film: Submission) -> None:
            await self._queue.room()
            index = len(answers)
            answers.extend(self._queue.submit([film]))
            answers[index].add_done_callback(lambda answer: ready.put_nowait((index, name)))

        async def take() -> Refusal | None:
            try:
                await judge(*first)
                async for film in rest:
                    await judge(*film)
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
