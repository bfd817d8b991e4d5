"""The detector: applies a model file to images."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pneumoscope import parallel
from pneumoscope.errors import ModelFileError, NotAChestRadiographError, PneumoscopeError, TooLargeError
from pneumoscope.imaging import ages, brightness, preprocessing, radiograph, screen
from pneumoscope.imaging.preprocessing import Box
from pneumoscope.imaging.radiograph import Radiograph, Source
from pneumoscope.inference import model_file, runtimes, seen
from pneumoscope.inference.finding import Finding
from pneumoscope.ood import hog
from pneumoscope.ood.embedding import Gate
from pneumoscope.ood.orientation import Orientation, OrientationModel

BATCH_SIZE = 8
"""How many decoded images `predict_pixels` passes to the engine at once."""

IMAGES_AHEAD = 16
"""Images queued for each worker, so that one slow image does not leave the others idle."""

BLANK = 0.02
"""An image is blank if its range of brightness is smaller than this share of the full range."""

TWO_TONES = 0.75
"""An image is a mask if a larger share of it is black or white; none of 1,000 radiographs from two hospitals exceeds
0.31."""

LONGEST_SIDE = 4
"""The largest aspect ratio of a chest radiograph; radiographs cropped to the lungs reach three."""

SMALLEST_SIDE = 0.125
"""The smallest side of a chest radiograph, as a share of the model's input: 28 pixels, as in the smallest public
data set."""


class Detector:
    """Reads images and finds pneumonia on them.

    Args:
        model: a model file; by default the one that comes with Pneumoscope.
        engine: the engine, one of `runtimes.NAMES`.
        max_pixels: the largest image to read, in pixels.
        workers: threads or processes that read images and predict; by default one per core, at most eight.
        prevalence: the share of pneumonias among the images, in (0, 1). Probabilities, threshold and band are shifted
            to it together, so that no finding changes. By default the one that the model file assumes.

    Attributes:
        card: the model file's card.

    Raises:
        NotFoundError: there is no such file.
        ModelFileError: Pneumoscope did not write the file, or the engine is unknown or unsupported on this processor.
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
        self._arguments = (str(Path(path).absolute()), _version(path), engine, max_pixels, workers, prevalence)
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
        learnt_from = card.data.get("population") or "an unnamed population"
        return (
            f"<Detector: {card.architecture}, {card.input_size} x {card.input_size} pixels, threshold "
            f"{card.calibration.threshold:.3f}, trained on {learnt_from}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the detector was made of, so that other processes can use it; each loads the model once.

        What was changed after the detector was created is not pickled.
        """
        return _same, (type(self), *self._arguments)

    @property
    def classes_(self) -> NDArray[np.str_]:
        """The labels (2,) in the order of the columns of `predict_proba`, as in scikit-learn."""
        return np.array(self.card.labels)

    def examine(
        self,
        sources: Iterable[Source] | Source,
        *,
        evidence: bool = False,
        squashed: bool = False,
        together: int = 1,
        processes: bool = False,
    ) -> Iterator[Finding]:
        """Yield the finding for each image, in order and as soon as it is ready.

        Worker threads read images and predict, some `IMAGES_AHEAD` images each ahead of the caller. An image that
        cannot be read or is not a chest radiograph gives a finding with an error; nothing is raised for it.

        Args:
            sources: one or several images, each anything that `radiograph.read` takes.
            evidence: whether to keep each image's evidence map.
            squashed: whether to keep each image's network input.
            together: how many images a thread reads before it runs the network on them. Some 16 are a tenth faster, but
                the first finding comes later.
            processes: whether to use processes in place of threads, which is faster from some `parallel.MANY` images
                on. Sources and findings are pickled. Each process reads `parallel.TOGETHER` images at a time, and is
                sent some more ahead.

        Raises:
            PneumoscopeError: one of the processes ended.

        Example:
            >>> for finding in detector.examine(radiograph.files("images")):
            ...     print(finding.path, finding.finding)
            images/a.png NORMAL
            images/b.dcm PNEUMONIA
        """
        if processes:
            _, made_of = self.__reduce__()
            work = partial(_examine, made_of, evidence=evidence, squashed=squashed)
            yield from parallel.in_processes(work, _several(sources), self._workers)
            return
        examine = partial(self._examine, evidence=evidence, squashed=squashed)
        groups = parallel.groups(_several(sources), together)
        most = max(2, IMAGES_AHEAD // together) * self._workers
        for findings in parallel.ahead(self._pool, examine, groups, most):
            yield from findings

    def rejections(self, sources: Iterable[Source] | Source) -> Iterator[PneumoscopeError | None]:
        """Yield for each image the error that prevents a finding, or None; the network is not run.

        Example:
            >>> list(detector.rejections(["image.png", "mask.png"]))
            [None, NotAChestRadiographError('Expected a ...')]
        """
        return parallel.ahead(self._pool, self.rejection, _several(sources), IMAGES_AHEAD * self._workers)

    def rejection(self, source: Source, read: Radiograph | None = None) -> PneumoscopeError | None:
        """Return the error that prevents a finding for one image, or None.

        Args:
            source: anything that `radiograph.read` takes.
            read: the result of `radiograph.read(source, at_least=card.input_size)`, if the caller already has it.

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

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """The worker threads, kept between calls."""
        return ThreadPoolExecutor(self._workers, thread_name_prefix="examining")

    def predict_proba(self, sources: Iterable[Source] | Source) -> NDArray[np.float64]:
        """Return the probabilities of both classes, as scikit-learn's classifiers do.

        Args:
            sources: images, or an array (N, H, W) of them.

        Returns:
            (N, 2): the probabilities of `NORMAL` and `PNEUMONIA`.

        Raises:
            PneumoscopeError: an image could not be read, or is not a chest radiograph.
        """
        findings = list(self.examine(sources))
        for finding in findings:
            if finding.error is not None:
                raise finding.error
        pneumonia = np.array([finding.probability for finding in findings], dtype=np.float64)
        return np.stack([1.0 - pneumonia, pneumonia], axis=1)

    def predict(self, sources: Iterable[Source] | Source) -> NDArray[np.str_]:
        """Return the findings as labels (N,): `NORMAL` or `PNEUMONIA`.

        Raises:
            PneumoscopeError: an image could not be read, or is not a chest radiograph.
        """
        called = self.predict_proba(sources)[:, 1] >= self.card.calibration.threshold
        return self.classes_[called.astype(np.int64)]

    def score(self, sources: Iterable[Source] | Source, labels: Sequence[str] | NDArray[np.str_]) -> float:
        """Return the accuracy, as scikit-learn's classifiers do.

        A single figure hides what matters: `pneumoscope.evaluate` gives sensitivity and specificity with intervals.

        Args:
            sources: N images.
            labels: (N,), `NORMAL` or `PNEUMONIA`.

        Returns:
            The accuracy, in [0, 1].

        Raises:
            ValueError: the number of labels differs from the number of images, or a label is unknown.
            PneumoscopeError: an image could not be read, or is not a chest radiograph.

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
        """Predict on images that are already read and squashed, without checking that they are chest radiographs.

        Args:
            pixels: (S, S) in [0, 1] for each image, where S is `card.input_size`.

        Returns:
            (N,), the probabilities of `PNEUMONIA`; and (N, h, w), what each cell adds to the logit compared with a
            usual image.

        Example:
            >>> probabilities, evidence = detector.predict_pixels(decoded.pixels)
        """
        batches = parallel.groups(pixels, BATCH_SIZE)

        def run(batch: list[NDArray[np.floating[Any]]]) -> runtimes.Outputs:
            return self._run(np.stack(batch).astype(np.float32)[..., None])

        outputs = list(parallel.ahead(self._pool, run, batches, IMAGES_AHEAD * self._workers))
        probabilities = [self.card.calibration.probabilities(output["logit"]) for output in outputs]
        return np.concatenate(probabilities), np.concatenate([output["evidence"] for output in outputs])

    def _examine(self, sources: Sequence[Source], evidence: bool, squashed: bool) -> list[Finding]:
        """Read all images before the network runs, which is a tenth faster: both then stay in the cache."""
        looked = [self._looked(source) for source in sources]
        found = []
        for source, image in zip(sources, looked, strict=True):
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""
            if isinstance(image, PneumoscopeError):
                found.append(Finding(path, error=image))
            else:
                found.append(self._finding(path, *image, evidence, squashed))
        return found

    def _finding(
        self, path: str, pixels: NDArray[np.float32], warnings: list[str], box: Box, evidence: bool, squashed: bool
    ) -> Finding:
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

    def _looked(self, source: Source) -> tuple[NDArray[np.float32], list[str], Box] | PneumoscopeError:
        try:
            return self._look(self._open(source))
        except PneumoscopeError as error:
            return error
        except MemoryError:
            return TooLargeError("The image does not fit into memory.")

    def _look(self, image: Radiograph) -> tuple[NDArray[np.float32], list[str], Box]:
        """Return the network's input (S, S), the warnings, and the part of the image that the input shows."""
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
        """Check whether an image may be a chest radiograph.

        Returns:
            The network's input (S, S); the output of `hog.small` for it; the part of the image that it shows; that
            part's shorter side in pixels; and the orientation.

        Raises:
            NotAChestRadiographError: the image is not a chest radiograph.
        """
        pixels, box = preprocessing.squash(image.pixels, self.card.input_size)
        low, high = pixels.min(), pixels.max()
        if high - low < BLANK:
            raise NotAChestRadiographError("Expected a chest radiograph, got a blank image.")
        if _extremes(pixels, low, high) > TWO_TONES:
            raise NotAChestRadiographError(
                "Expected a chest radiograph, got an image in black and white, such as a mask: give the radiograph."
            )
        height = round(image.shape[0] * (box.bottom - box.top))
        width = round(image.shape[1] * (box.right - box.left))
        least = round(SMALLEST_SIDE * self.card.input_size)
        if min(height, width) < least or max(height, width) > LONGEST_SIDE * min(height, width):
            raise NotAChestRadiographError(
                f"Expected a chest radiograph with sides of at least {least} pixels, neither over {LONGEST_SIDE} times "
                f"as long as the other, got {width} x {height} pixels: give the whole original image."
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
                "Expected a frontal chest radiograph like those the model was trained on, got an image that it does "
                "not recognise as one: check that it is the right file and shows the whole radiograph and nothing "
                "else; if so, the model cannot be used on it."
            )
        return pixels, small, box, min(height, width), orientation


def _examine(made_of: tuple[Any, ...], sources: list[Source], evidence: bool, squashed: bool) -> list[Finding]:
    return _same(*made_of)._examine(sources, evidence, squashed)


@lru_cache(maxsize=1)
def _same(
    kind: type[Detector],
    model: str,
    version: tuple[int, int],
    engine: str,
    max_pixels: int,
    workers: int,
    prevalence: float | None,
) -> Detector:
    if _version(model) != version:
        raise ModelFileError(
            f"Expected the model file '{model}' as it was when the detector was created, but it has changed: create "
            "the detector again."
        )
    return kind(model, engine=engine, max_pixels=max_pixels, workers=workers, prevalence=prevalence)


def _version(model: str | os.PathLike[str]) -> tuple[int, int]:
    """Return what changes when a file is replaced; zeros if it cannot be read, which `model_file.read` reports."""
    with suppress(OSError, ValueError):
        status = Path(model).stat()
        return status.st_mtime_ns, status.st_size
    return 0, 0


def _extremes(pixels: NDArray[np.float32], low: np.float32, high: np.float32) -> float:
    """Return the share of pixels nearly as dark as `low`, the darkest, or nearly as bright as `high`, the brightest."""
    near = 0.04 * (high - low)
    return (np.count_nonzero(pixels < low + near) + np.count_nonzero(pixels > high - near)) / pixels.size


def _several(sources: object) -> Iterable[Source]:
    """Return one or several sources as an iterable; anything else counts as one source, which `read` will reject."""
    many = isinstance(sources, Iterable) and not isinstance(sources, (str, bytes, os.PathLike, io.IOBase))
    alone = not many or (isinstance(sources, np.ndarray) and sources.ndim == 2)
    return cast("Iterable[Source]", [sources] if alone else sources)
