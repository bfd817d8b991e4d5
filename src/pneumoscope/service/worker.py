"""Runs the detector in a process of its own, so that an image that hangs or exhausts the memory ends only that."""

from __future__ import annotations

import base64
import io
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging import radiograph, stored_values
from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.reporting import evidence_map

PREVIEW_SIDE = 1600
"""The longest side of a preview, in pixels: enough to fill a screen."""

START_SECONDS = 120.0
"""The time limit for loading the model, which takes a few seconds on an idle machine."""

Row = dict[str, Any]
"""A finding, as returned by `Finding.as_dict`, with `evidence` and `preview` if requested.

If DICOM reports were requested, it has `reports`, the bytes of their files, and `instance`, the image's UIDs by name.
"""


class WorkerLostError(Exception):
    """The process ended."""


class WorkerTooSlowError(WorkerLostError):
    """The process did not respond in time and was ended."""


@dataclass(frozen=True)
class Submission:
    """An image to predict, and what its answer should include.

    Attributes:
        data: the bytes of the file.
        evidence: whether to include the evidence map.
        preview: whether to include the image as a JPEG.
        reports: whether to include the finding as DICOM objects; with `evidence`, also the map of a pneumonia.
        evidence_of_normals: whether to include the map of an image without pneumonia too.
        values: whether to include the image's values instead of a finding.
    """

    data: bytes
    evidence: bool = False
    preview: bool = False
    reports: bool = False
    evidence_of_normals: bool = False
    values: bool = False


class Worker:
    """A detector in a process of its own. Its methods block, and one thread at a time may call them.

    Args:
        model: a model file; by default the one that comes with Pneumoscope.
        memory: bytes that the process may take; by default half of the machine's memory.
        max_pixels: the largest image to read, in pixels.
        prevalence: as in `Detector`.

    Attributes:
        card: the model file's card, once started.
        starts: how often the process was started.

    Example:
        >>> worker = Worker()
        >>> worker.start()
        >>> worker.predict([Submission(b"no image")], seconds=20.0)[0]["error"]["kind"]
        'unsupported'
        >>> worker.stop()
    """

    card: Card

    def __init__(
        self,
        model: Path | None = None,
        memory: int | None = None,
        max_pixels: int = radiograph.MAX_PIXELS,
        prevalence: float | None = None,
    ) -> None:
        self._model = model
        self._memory = memory
        self._max_pixels = max_pixels
        self._prevalence = prevalence
        self.starts = 0

    def start(self) -> None:
        """Start or restart the process, and wait until it has loaded the model.

        Raises:
            PneumoscopeError: the model cannot be loaded.
            WorkerLostError: the process ended.
        """
        self.stop()
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._pipe, theirs = context.Pipe()
        settings = (self._model, self._memory, self._max_pixels, self._prevalence)
        self._process = context.Process(target=_work, args=(theirs, *settings), daemon=True)
        self.starts += 1
        try:
            self._process.start()
        except OSError as error:
            raise WorkerLostError from error
        theirs.close()  # so that the pipe closes when the process ends
        greeting = self._within(START_SECONDS, self._pipe.recv)
        if isinstance(greeting, PneumoscopeError):
            raise greeting
        self.card = greeting

    def predict(self, images: Sequence[Submission], seconds: float) -> list[Row]:
        """Predict on a batch; return one row for each image, in their order.

        Raises:
            WorkerLostError: the process ended, or took longer than `seconds` (including the transfer of the images)
                and was ended; `start` it again.
        """
        rows: list[Row] = self._within(seconds, lambda: self._asked(images))
        return rows

    def _asked(self, images: Sequence[Submission]) -> Any:  # noqa: ANN401 - whatever the process says
        self._pipe.send([replace(image, data=b"") for image in images])
        for image in images:  # one by one, so that prediction starts while the others are being transferred
            self._pipe.send_bytes(image.data)
        return self._pipe.recv()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self.starts and self._process.pid is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid

    def _within(self, seconds: float, talk: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the process says
        """Communicate with the process, and end it if that takes too long, which closes its end of the pipe."""
        overdue, process = threading.Event(), self._process

        def end() -> None:
            overdue.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            return talk()
        except (EOFError, OSError) as error:
            raise (WorkerTooSlowError if overdue.is_set() else WorkerLostError) from error
        finally:
            timer.cancel()


def _work(pipe: Connection, model: Path | None, memory: int | None, max_pixels: int, prevalence: float | None) -> None:
    """Load the model, then answer until the other end is closed; signals are left to the parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _bound_memory(memory)
    try:
        detector = Detector(model, max_pixels=max_pixels, prevalence=prevalence)
    except PneumoscopeError as error:
        pipe.send(error)
        return
    pipe.send(detector.card)
    with suppress(EOFError, OSError):
        while True:
            asked: list[Submission] = pipe.recv()
            evidence = any(image.evidence or image.reports for image in asked)
            pipe.send(predict(detector, (replace(image, data=pipe.recv_bytes()) for image in asked), evidence))


def predict(detector: Detector, images: Iterable[Submission], evidence: bool = True) -> list[Row]:
    """Predict on a batch while it arrives; return one row for each image, in their order.

    Args:
        detector: the detector.
        images: the images.
        evidence: whether to compute evidence maps, which takes time; needed if an image's answer includes its map.

    Example:
        >>> predict(Detector(), [Submission(b"no image")])[0]["error"]["kind"]
        'unsupported'
    """
    waiting: deque[Submission] = deque()

    def predicted() -> Iterator[bytes]:
        for image in images:
            waiting.append(image)
            if not image.values:
                yield image.data

    rows = []
    for finding in detector.examine(predicted(), evidence=evidence):
        while waiting[0].values:
            rows.append(_values_row(waiting.popleft()))
        rows.append(_row(finding, waiting.popleft(), detector.card))
    return rows + [_values_row(image) for image in waiting]


def _values_row(image: Submission) -> Row:
    """Return the values of an image for a viewer: their description, and the codes as a PNG in base 64."""
    try:
        stored = stored_values.read(image.data)
    except PneumoscopeError as error:
        return Finding("", error=error).as_dict()
    height, width = stored.codes.shape
    laid_out = {
        "width": width,
        "height": height,
        "slope": stored.slope,
        "intercept": stored.intercept,
        "unit": stored.unit,
        "curve": np.round(stored.curve.astype(np.float64), 4).tolist(),
        "inverted": stored.inverted,
        "windows": [asdict(window) for window in stored.windows],
        "spacing": stored.spacing,
        "png": base64.b64encode(stored.png()).decode("ascii"),
    }
    return {"error": None, "values": laid_out}


def _row(finding: Finding, image: Submission, card: Card) -> Row:
    if image.reports:
        return _report_row(finding, image, card)
    row = finding.as_dict()
    if image.evidence and finding.evidence is not None:
        cells = np.round(finding.evidence.astype(np.float64), 5).tolist()
        row["evidence"] = {"cells": cells, "scale": round(evidence_map.scale_of(finding.evidence), 5)}
    if image.preview and finding.error is None:
        row["preview"] = preview(radiograph.read(image.data))
    return row


def _report_row(finding: Finding, image: Submission, card: Card) -> Row:
    from pneumoscope.reporting import structured_report

    reports: list[bytes] = []
    try:
        asked = finding if image.evidence else replace(finding, evidence=None)  # evidence is kept for all images
        made = structured_report.objects(asked, image.data, card, normals=image.evidence_of_normals)
        reports = [structured_report.encode(one) for one in made]
    except PneumoscopeError as error:
        finding = Finding("", error=error)
    return finding.as_dict() | {"reports": reports, "instance": structured_report.instance(image.data)}


def preview(image: Radiograph) -> Row:
    """Return an image for a browser: `width`, `height`, and a JPEG of at most `PREVIEW_SIDE` in base 64 as `jpeg`.

    Example:
        >>> preview(radiograph.read(np.zeros((30, 40), np.float32)))["width"]
        40
    """
    gray = Image.fromarray((image.pixels * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))
    gray.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    file = io.BytesIO()
    gray.save(file, "JPEG", quality=90)
    return {"width": gray.width, "height": gray.height, "jpeg": base64.b64encode(file.getvalue()).decode("ascii")}


def _bound_memory(memory: int | None) -> None:
    """Limit this process's memory, so that a bomb raises `MemoryError` or at worst ends only this process."""
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, the kernel ends this process first
    with suppress(ImportError, AttributeError, ValueError, OSError):  # not on every system
        import resource

        memory = memory or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
