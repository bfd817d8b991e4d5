"""Predicts the images of the spool in another process, and puts their reports into the outbox."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from pneumoscope.dimse.addresses import Node, Sender
from pneumoscope.dimse.spool import Outgoing, Spool, Waiting
from pneumoscope.dimse.telemetry import LOG, Telemetry
from pneumoscope.errors import (
    NotAChestRadiographError,
    PneumoscopeError,
    TooLargeError,
    TooSlowError,
    UnreadableError,
    UnsupportedError,
)
from pneumoscope.service.queue import TOGETHER
from pneumoscope.service.worker import Row, Submission, Worker, WorkerLostError, WorkerTooSlowError

BATCH_BYTES = 256_000_000
"""The most bytes of images that are predicted together; a larger image is predicted alone."""

MOST_LOSSES = 3
"""How often the process may end or be too slow on a single image before the image is taken for the cause."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before an image that had to wait is tried again; doubled each time, up to the second value."""

FINAL = {
    error.kind for error in (NotAChestRadiographError, TooLargeError, TooSlowError, UnreadableError, UnsupportedError)
}
"""Kinds of errors that are caused by the image itself; after any other error it waits and is tried again."""

_Item = tuple[float, Waiting]
"""An image, with the time of its arrival."""


class Predictor:
    """Predicts images one batch after another, in a thread of its own.

    An image that cannot be read, or whose reports cannot be written, is tried again after ever longer pauses, and the
    others go on.

    Args:
        worker: a started worker.
        spool: holds the images and their reports.
        destinations: returns the destinations of the reports on an image from this sender.
        hand_over: called with the reports of an image once they are in the outbox.
        telemetry: counts the images.
        seconds: the time limit for one image.
        evidence: whether to send the evidence map of a pneumonia with its report.
        evidence_of_normals: whether to send that of an image without pneumonia too.
    """

    def __init__(
        self,
        worker: Worker,
        spool: Spool,
        destinations: Callable[[Sender], Sequence[Node]],
        hand_over: Callable[[Iterable[Outgoing]], None],
        telemetry: Telemetry,
        *,
        seconds: float = 20.0,
        evidence: bool = True,
        evidence_of_normals: bool = False,
    ) -> None:
        self._worker, self._spool, self._telemetry = worker, spool, telemetry
        self._destinations, self._hand_over = destinations, hand_over
        self._seconds, self._evidence, self._normals = seconds, evidence, evidence_of_normals
        self._waiting: deque[_Item] = deque()
        self._postponed: dict[_Item, float] = {}  # with the time of the next attempt
        self._pauses: dict[_Item, float] = {}
        self._unsent: dict[_Item, list[Outgoing]] = {}  # reports in the outbox that are not handed over yet
        self._losses: Counter[str] = Counter()
        self._arrived = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="predicting", daemon=True)

    @property
    def waiting(self) -> int:
        """The number of waiting images."""
        return len(self._waiting) + len(self._postponed)

    def start(self) -> None:
        """Start predicting."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch and stop; waiting images stay in the spool."""
        self._stopping.set()
        with self._arrived:
            self._arrived.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * self._seconds)

    def put(self, image: Waiting) -> None:
        """Queue an image of the spool for prediction."""
        with self._arrived:
            self._waiting.append((time.monotonic(), image))
            self._arrived.notify_all()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            batch: list[_Item] = []
            try:
                batch = self._batch()
                useful = self._predict(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the images are still in the spool
                useful = False
                for item in batch:
                    self._postpone(item, "fault", error)
            if useful:
                pause = FIRST_PAUSE
            elif self._waiting:  # the next images would hardly fare better at once
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _batch(self) -> list[_Item]:
        """Wait for images; return the next batch, or none when stopping."""
        with self._arrived:
            while not self._stopping.is_set():
                now = time.monotonic()
                for item in [item for item, due in self._postponed.items() if due <= now]:
                    del self._postponed[item]
                    self._waiting.append(item)
                if self._waiting:
                    break
                self._arrived.wait(min(self._postponed.values()) - now if self._postponed else None)
            else:
                return []
            n, size = 1, _size(self._waiting[0][1])
            while n < min(TOGETHER, len(self._waiting)):
                size += _size(self._waiting[n][1])
                if size > BATCH_BYTES:
                    break
                n += 1
            return [self._waiting.popleft() for _ in range(n)]

    def _predict(self, batch: Sequence[_Item]) -> bool:
        """Predict images and put their reports into the outbox; return False if this succeeded for none of them."""
        read: list[tuple[_Item, bytes]] = []
        useful = False
        for item in batch:
            if item in self._unsent:
                self._send(item)
                continue
            try:
                read.append((item, item[1].path.read_bytes()))
            except FileNotFoundError:  # someone has deleted it from the spool
                LOG.warning("image gone")
                self._pauses.pop(item, None)
                self._spool.gone(item[1])
            except Exception as error:  # noqa: BLE001 - whatever it is, the others have to be predicted
                self._postpone(item, "not_read", error)
        for (item, _), row in zip(read, self._rows([(item[1], data) for item, data in read]), strict=True):
            kind = row["error"]["kind"] if row and row["error"] else None
            if row is None or (kind is not None and kind not in FINAL):
                self._postpone(item, kind or "worker_lost")
                continue
            since, image = item
            try:
                self._unsent[item] = self._spool.answer(image, row["reports"], self._destinations(image.sender))
                useful = True
                self._losses.pop(image.key, None)
                self._telemetry.predicted(kind or row["finding"], time.monotonic() - since)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others have to be answered
                self._postpone(item, "not_sent" if item in self._unsent else "not_answered", error)
            else:
                self._send(item)
        return useful or not read

    def _send(self, item: _Item) -> None:
        """Hand over the reports on an answered image, each once; what is left is handed over later."""
        reports = self._unsent[item]
        try:
            while reports:
                self._hand_over(reports[:1])
                del reports[0]
        except Exception as error:  # noqa: BLE001 - whatever it is, the reports are in the outbox
            self._postpone(item, "not_sent", error)
        else:
            del self._unsent[item]
            self._pauses.pop(item, None)

    def _postpone(self, item: _Item, reason: str, error: Exception | None = None) -> None:
        """Try an image again later."""
        LOG.warning("image waits", extra={"facts": {"reason": reason}}, exc_info=error)
        pause = self._pauses[item] = min(2 * self._pauses.get(item, FIRST_PAUSE / 2), LONGEST_PAUSE)
        with self._arrived:
            self._postponed[item] = time.monotonic() + pause

    def _rows(self, images: Sequence[tuple[Waiting, bytes]]) -> list[Row | None]:
        """Return a row for each image, or None if it has to be tried again.

        If the process ends, each image is tried alone, so that only the faulty one gets no report.
        """
        if not images:
            return []
        submissions = [
            Submission(data, self._evidence, reports=True, evidence_of_normals=self._normals) for _, data in images
        ]
        try:
            # Each attempt has twice the time of the last, so that an image gets its report even on a busy machine.
            patience = 2 ** max(self._losses[image.key] for image, _ in images)
            seconds = patience * self._seconds * (1 + (len(images) - 1) / TOGETHER)
            return list(self._worker.predict(submissions, seconds))
        except WorkerLostError as error:
            slow = isinstance(error, WorkerTooSlowError)
            LOG.warning("worker lost", extra={"facts": {"images": len(images), "too_slow": slow}})
        self._restart()
        if self._stopping.is_set():
            return [None] * len(images)
        if len(images) > 1:
            return [row for image in images for row in self._rows([image])]
        key = images[0][0].key
        self._losses[key] += 1
        if self._losses[key] < MOST_LOSSES:
            return [None]
        final: PneumoscopeError = TooSlowError("") if slow else UnreadableError("")
        return [{"error": {"kind": final.kind}, "finding": None, "reports": []}]

    def _restart(self) -> None:
        """Restart the process, however long that takes."""
        pause = 0.5
        while not self._stopping.is_set():
            try:
                self._worker.start()
            except (PneumoscopeError, WorkerLostError) as error:
                LOG.error("no worker", exc_info=error)
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return


def _size(image: Waiting) -> int:
    try:
        return image.path.stat().st_size
    except OSError:  # it is told when the image is read
        return 0
