"""A model file at work: images in, findings out."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import NotAChestRadiographError, PneumoscopeError, TooLargeError
from pneumoscope.imaging import ages, brightness, preprocessing, radiograph, screen
from pneumoscope.imaging.preprocessing import Box
from pneumoscope.imaging.radiograph import Radiograph, Source
from pneumoscope.inference import model_file, runtimes, seen
from pneumoscope.inference.finding import Finding
from pneumoscope.ood import hog
from pneumoscope.ood.embedding import Gate
from pneumoscope.ood.orientation import Orientation, OrientationModel

T = TypeVar("T")
R = TypeVar("R")

BATCH_SIZE = 8
"""Images that were read before and go through the network at once."""

IMAGES_AHEAD = 16
"""Images a worker has waiting, so that one slow image does not idle the others."""

BLANK = 0.02
"""An image whose darkest and brightest places differ by less, of the full range, shows nothing."""

TWO_TONES = 0.75
"""An image of which so much is black or white is a mask; of 1,000 radiographs of two hospitals none had over 0.31."""

LONGEST_SIDE = 4
"""Times the shorter side, in what may be a chest radiograph; those cut close to the lungs reach three times."""

SMALLEST_SIDE = 0.125
"""Of what the model looks at: less than the smallest images of public data sets, which have 28 pixels a side."""


class Detector:
    """Reads images and says which show pneumonia.

    Args:
        model: a model file; by default the one that comes with Pneumoscope.
        engine: what runs it, one of `runtimes.NAMES`.
        max_pixels: the largest image to read, in pixels.
        workers: threads that read images and predict; by default one a core.
        prevalence: the share of pneumonias among the images, in (0, 1): probabilities are shifted to it, threshold and
            band with them, so that no finding changes. By default the one that the model file assumes.

    Attributes:
        card: what the model file says of itself.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: it is not a model that Pneumoscope wrote; or there is no such engine, or not on this processor.
        MissingExtraError: the engine is not installed.
        ValueError: the prevalence is not in (0, 1).

    Example:
        >>> detector = Detector()
        >>> detector.predict(["image.png"])
        array(['NORMAL'], dtype='<U9')
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        engine: str = "openvino",
        max_pixels: int = radiograph.MAX_PIXELS,
        workers: int = runtimes.WORKERS,
        prevalence: float | None = None,
    ) -> None:
        path = model or model_file.default()
        graph, self.card = model_file.read(path)
        if prevalence is not None:
            self.card = replace(self.card, calibration=self.card.calibration.at_prevalence(prevalence))
        fitted = self.card.calibration
        ends = fitted.logits([fitted.uncertain_low, fitted.threshold, fitted.uncertain_high])
        self._run = runtimes.start(engine, path, graph, (min(ends) - runtimes.ROUNDING, max(ends) + runtimes.ROUNDING))
        self._max_pixels, self._workers = max_pixels, workers
        self._seen = seen.decode(self.card.seen)
        years = (float(self.card.data.get(f"{end}_patient_years", 0)) for end in ("youngest", "oldest"))
        self._ages_unknown = ages.not_covered(*years)
        self._gate = Gate.from_dict(self.card.gate) if self.card.gate else None
        self._orientation = OrientationModel.from_dict(self.card.orientation) if self.card.orientation else None

    def __repr__(self) -> str:
        card = self.card
        learnt_from = card.data.get("population") or "a population that the file does not name"
        return (
            f"<Detector: {card.architecture}, {card.input_size} x {card.input_size} pixels, threshold "
            f"{card.calibration.threshold:.3f}, trained on {learnt_from}>"
        )

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels (2,) in the order of `predict_proba`'s columns, as scikit-learn names them."""
        return np.array(self.card.labels)

    def examine(
        self, sources: Iterable[Source] | Source, *, evidence: bool = False, squashed: bool = False
    ) -> Iterator[Finding]:
        """Give the finding on each image, in order and as soon as it is there.

        A few threads, one a core, each read an image and predict; they are a few images ahead of the caller and never
        further. An image that cannot be read, and an image that is no chest radiograph, gives a finding with an error;
        nothing is raised for it.

        Args:
            sources: what `radiograph.read` takes, or one of it.
            evidence: whether to keep each image's evidence map.
            squashed: whether to keep what the network looked at.

        Example:
            >>> for finding in detector.examine(radiograph.files("images")):
            ...     print(finding.path, finding.finding)
            images/a.png NORMAL
            images/b.dcm PNEUMONIA
        """
        return self._ahead(lambda source: self._examine(source, evidence, squashed), _several(sources))

    def rejections(self, sources: Iterable[Source] | Source) -> Iterator[PneumoscopeError | None]:
        """Say of each image why it gets no finding, or None where it gets one; the network is not asked for it.

        Example:
            >>> list(detector.rejections(["image.png", "mask.png"]))
            [None, NotAChestRadiographError('Expected a ...')]
        """
        return self._ahead(self.rejection, _several(sources))

    def rejection(self, source: Source, read: Radiograph | None = None) -> PneumoscopeError | None:
        """Say of one image why it gets no finding, or None where it gets one.

        Args:
            source: what `radiograph.read` takes.
            read: the same image, where `radiograph.read(source, at_least=card.input_size)` has read it before.

        Example:
            >>> print(detector.rejection("image.png"))
            None
        """
        try:
            self._checked(self._open(source) if read is None else read)
        except PneumoscopeError as error:
            return error
        except MemoryError:
            return TooLargeError("The image does not fit into memory.")
        return None

    def _ahead(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Give what comes of each item, in order; threads are a few items ahead of the caller."""
        rest = iter(items)
        ahead: deque[Future[R]] = deque()
        try:
            while True:
                for item in islice(rest, IMAGES_AHEAD * self._workers - len(ahead)):
                    ahead.append(self._pool.submit(work, item))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
            wait(ahead)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads, kept from call to call."""
        return ThreadPoolExecutor(self._workers, thread_name_prefix="examining")

    def predict_proba(self, sources: Iterable[Source] | Source) -> NDArray[np.float64]:
        """Give the probabilities of both classes, as scikit-learn's classifiers do.

        Args:
            sources: images, or an array (N, H, W) of them.

        Returns:
            (N, 2): the probabilities of `NORMAL` and `PNEUMONIA`.

        Raises:
            PneumoscopeError: an image could not be read, or is no chest radiograph.
        """
        findings = list(self.examine(sources))
        for finding in findings:
            if finding.error is not None:
                raise finding.error
        pneumonia = np.array([finding.probability for finding in findings], dtype=np.float64)
        return np.stack([1.0 - pneumonia, pneumonia], axis=1)

    def predict(self, sources: Iterable[Source] | Source) -> NDArray[np.str_]:
        """Give the findings as labels (N,): `NORMAL` or `PNEUMONIA`.

        Raises:
            PneumoscopeError: an image could not be read, or is no chest radiograph.
        """
        called = self.predict_proba(sources)[:, 1] >= self.card.calibration.threshold
        return self.classes_[called.astype(np.int64)]

    def score(self, sources: Iterable[Source] | Source, labels: Sequence[str] | NDArray[np.str_]) -> float:
        """Give the share of images whose finding is the label, as scikit-learn's classifiers do.

        One figure hides what matters here: `pneumoscope.evaluate` gives sensitivity and specificity with intervals.

        Args:
            sources: N images.
            labels: (N,), `NORMAL` or `PNEUMONIA`.

        Returns:
            The accuracy, in [0, 1].

        Raises:
            ValueError: another number of labels than of images, or a label that the model does not know.
            PneumoscopeError: an image could not be read, or is no chest radiograph.

        Example:
            >>> detector.score(["one.png", "two.png"], ["NORMAL", "PNEUMONIA"])
            1.0
        """
        truth, found = np.asarray(labels), self.predict(sources)
        if truth.shape != found.shape or not set(truth.tolist()) <= set(self.card.labels):
            raise ValueError(
                f"Expected {len(found)} labels, each {' or '.join(self.card.labels)}, got {len(truth)}: "
                f"{', '.join(sorted({str(label) for label in truth.ravel()}))}."
            )
        return float((truth == found).mean())

    def predict_pixels(
        self, pixels: Iterable[NDArray[np.floating[Any]]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Predict on images that were read and squashed before, whatever they show.

        Args:
            pixels: of each image, (S, S) in [0, 1], where S is `card.input_size`.

        Returns:
            (N,), the probabilities of `PNEUMONIA`; and (N, h, w), what each place adds to the logit beyond a usual
            image.

        Example:
            >>> probabilities, evidence = detector.predict_pixels(decoded.pixels)
        """
        rest = iter(pixels)
        batches = iter(lambda: list(islice(rest, BATCH_SIZE)), [])
        outputs = list(self._ahead(lambda batch: self._run(np.stack(batch).astype(np.float32)[..., None]), batches))
        probabilities = [self.card.calibration.probabilities(output["logit"]) for output in outputs]
        return np.concatenate(probabilities), np.concatenate([output["evidence"] for output in outputs])

    def _examine(self, source: Source, evidence: bool, squashed: bool) -> Finding:
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
        try:
            pixels, warnings, box = self._read(source)
        except PneumoscopeError as error:
            return Finding(path, error=error)
        except MemoryError:
            return Finding(path, error=TooLargeError("The image does not fit into memory."))
        outputs = self._run(pixels[None, ..., None])
        if self._gate and self._gate.distances(outputs["embedding"])[0] > self._gate.limit:
            warnings.append("unlike_training_images")
        fitted = self.card.calibration
        probability = float(fitted.probabilities(outputs["logit"])[0])
        return Finding(
            path,
            probability,
            self.card.labels[int(probability >= fitted.threshold)],
            fitted.is_uncertain(probability),
            fitted.threshold,
            tuple(sorted(set(warnings))),
            evidence=preprocessing.spread(outputs["evidence"][0], box) if evidence else None,
            squashed=(pixels, box) if squashed else None,
        )

    def _open(self, source: Source) -> Radiograph:
        return radiograph.read(source, at_least=self.card.input_size, max_pixels=self._max_pixels)

    def _read(self, source: Source) -> tuple[NDArray[np.float32], list[str], Box]:
        return self._look(self._open(source))

    def _look(self, image: Radiograph) -> tuple[NDArray[np.float32], list[str], Box]:
        """Give what the network looks at, (S, S), what there is to warn of, and the part of the image that it is."""
        pixels, small, box, shortest, orientation = self._checked(image)
        warnings = [note for note in image.notes if note not in ages.GROUPS or note in self._ages_unknown]
        warnings += orientation.warnings
        warnings += brightness.remarks(pixels)
        warnings += screen.remarks(pixels)
        if box.area < 1.0:
            warnings.append("framed")
        if shortest < self.card.input_size:
            warnings.append("low_resolution")
        if seen.is_among(self._seen, small):
            warnings.append("seen_in_training")
        return pixels, warnings, box

    def _checked(self, image: Radiograph) -> tuple[NDArray[np.float32], NDArray[np.float32], Box, int, Orientation]:
        """See whether an image may be a chest radiograph.

        Returns:
            What the network looks at, (S, S); what `hog.small` gives of it; the part of the image that it is, its
            shorter side in pixels, and how it lies.

        Raises:
            NotAChestRadiographError: it is none.
        """
        pixels, box = preprocessing.squash(image.pixels, self.card.input_size)
        low, high = pixels.min(), pixels.max()
        if high - low < BLANK:
            raise NotAChestRadiographError("Expected a chest radiograph, got an even surface that shows nothing.")
        if _extremes(pixels, low, high) > TWO_TONES:
            raise NotAChestRadiographError(
                "Expected a chest radiograph, got an image in black and white, such as a mask: give the radiograph."
            )
        height = round(image.shape[0] * (box.bottom - box.top))
        width = round(image.shape[1] * (box.right - box.left))
        least = round(SMALLEST_SIDE * self.card.input_size)
        if min(height, width) < least or max(height, width) > LONGEST_SIDE * min(height, width):
            raise NotAChestRadiographError(
                f"Expected a chest radiograph of at least {least} pixels a side, no side over {LONGEST_SIDE} times as "
                f"long as the other, got {width} x {height} pixels: give the whole image as it was made."
            )
        small = hog.small(pixels)
        orientation = self._orientation.look(small) if self._orientation else Orientation()
        if "inverse_display" in image.notes and self._orientation and "inverted" in orientation.warnings:
            right_way = 1.0 - pixels
            other = self._orientation.look(hog.small(right_way))
            if not other.rejected and "inverted" not in other.warnings:
                pixels, small, orientation = right_way, hog.small(right_way), other
        if orientation.rejected:
            raise NotAChestRadiographError(
                "Expected a frontal chest radiograph like those the model has learnt from, got an image in which it "
                "sees none: check that it is the right file, the whole image and nothing else; if so, the model cannot "
                "read it."
            )
        return pixels, small, box, min(height, width), orientation


def _extremes(pixels: NDArray[np.float32], low: np.float32, high: np.float32) -> float:
    """Give the share of places that are about as dark as the darkest, `low`, or as bright as the brightest, `high`."""
    near = 0.04 * (high - low)
    return (np.count_nonzero(pixels < low + near) + np.count_nonzero(pixels > high - near)) / pixels.size


def _several(sources: object) -> Iterable[Source]:
    """Give an iterable of sources, of one or of many; what is none is one, and reading it tells so."""
    many = isinstance(sources, Iterable) and not isinstance(sources, (str, bytes, os.PathLike, io.IOBase))
    alone = not many or (isinstance(sources, np.ndarray) and sources.ndim == 2)
    return cast("Iterable[Source]", [sources] if alone else sources)
