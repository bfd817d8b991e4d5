"""Recalibration: refits a model's probabilities, threshold and band on labelled images of one site."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data import layouts, splits
from pneumoscope.data.layouts import LABELS, Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.data.words import Classes
from pneumoscope.errors import DatasetError, PneumoscopeError
from pneumoscope.imaging import radiograph
from pneumoscope.inference import model_file, seen
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import calibration, metrics
from pneumoscope.metrics.metrics import Performance
from pneumoscope.metrics.thresholds import BALANCED, OperatingPoint
from pneumoscope.ood import embedding

MIN_IMAGES = 40
"""With 20 images of a class, the interval of a sensitivity of 0.9 is 0.70 to 0.97: too few to choose a threshold."""

MIN_PER_CLASS = calibration.MIN_PER_CLASS
"""With fewer, more than one image in ten of the class could lie beyond the band on the wrong side."""

FOLDS = 5
SEED = 0

Progress = Callable[[str, int, int, Mapping[str, float]], object]
"""Called for each step as `progress(what, done, total, figures)`."""


@dataclass(frozen=True)
class Recalibration:
    """The result of recalibrating a model.

    Attributes:
        model: the new model file.
        card: its card.
        before: the original model's figures on the site's images; `uncertain` is the share of images in its band.
        after: the same figures for calibrations fitted without the patients they are measured on.
        failures: the images that were left out because they could not be read or are not chest radiographs, with the
            reason.
        notes: what the user should know.
    """

    model: Path
    card: Card
    before: Performance
    after: Performance
    failures: list[tuple[Sample, PneumoscopeError]]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `pneumoscope calibrate --format json` prints."""
        errors = [
            {"path": str(sample.path), "error": {"kind": error.kind, "message": str(error)}}
            for sample, error in self.failures
        ]
        return {
            "model": str(self.model),
            "calibration": asdict(self.card.calibration),
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "notes": self.notes,
            "errors": errors,
        }


def load(data: str | Path | Sequence[str | Path], **how: Any) -> list[Sample]:  # noqa: ANN401 - as of `layouts.load`
    """List the labelled images of a site, and check that not all of them are reserved for evaluation (`test`).

    Args:
        data: anything that `layouts.load` takes.
        **how: options of `layouts.load`.

    Returns:
        The images.

    Raises:
        DatasetError: there is no such data set, its images have no labels, or all are of a `test` split.

    Example:
        >>> images = load("our_clinic")
    """
    try:
        samples = layouts.load(data, **how)
    except DatasetError as error:
        places = [data] if isinstance(data, (str, Path)) else data
        unlabelled = next((place for place in places if _unlabelled(Path(place))), None)
        if unlabelled is None:
            raise
        raise DatasetError(
            f"Expected labelled images, got the folder '{unlabelled}' without {LABELS[0]}/ and {LABELS[1]}/ in it: to "
            "calibrate, the truth must be known. Sort the images into these folders, or give a CSV with path,label. "
            "`pneumoscope predict` tells without labels whether images are unlike those the model was trained on."
        ) from error
    if all(sample.split == "test" for sample in samples):
        raise DatasetError(
            f"Expected images to calibrate on, got {len(samples)} of the test split only, which is for evaluation: "
            "give the folder of the test split itself to use them anyway."
        )
    return samples


def recalibrate(
    samples: Sequence[Sample],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    *,
    point: OperatingPoint = BALANCED,
    progress: Progress = lambda *_: None,
) -> Recalibration:
    """Refit offset, temperature, threshold and band of a model on a site's labelled images, and write a new model file.

    The network is not changed, so neither is the order of the images by probability, nor the AUC. Platt scaling (Platt
    1999) uses the images without balancing the classes: the probabilities hold where pneumonia is as common as among
    them. The written calibration is fitted on all images. The figures `after` are cross-fitted (Stone 1974, J R Stat
    Soc B 36:111): each of five parts, split by patient, is measured with the calibration fitted on the others.

    Args:
        samples: the site's images, at least `MIN_IMAGES` that can be read and `MIN_PER_CLASS` of each class. Those of a
            `test` split are not used, so that they can be evaluated on.
        out: the new model file; its folder is created.
        model: the model file to start from; by default the one that comes with Pneumoscope.
        point: how the threshold is chosen.
        progress: called for every step.

    Returns:
        The new file, and the figures before and after.

    Raises:
        NotFoundError: there is no such model file.
        ModelFileError: the model file is invalid, or `out` is the same file, a folder, or a file other than a model.
        DatasetError: there are too few images, images of a class or patients, or the labels seem to be swapped.

    Example:
        >>> done = recalibrate(load("our_clinic"), "our_clinic.onnx")  # doctest: +SKIP
        >>> print(done.before.figures["ece"], done.after.figures["ece"])  # doctest: +SKIP
        0.100 (0.077–0.127) 0.043 (0.036–0.077)
    """
    source, out = Path(model or model_file.default()), Path(out)
    detector = Detector(source)
    model_file.check_target(source, out)
    decoded, findings, failures = _predicted(
        [sample for sample in samples if sample.split != "test"], detector, progress
    )
    labels, groups = decoded.labels, decoded.groups
    _check_counts(labels, len(failures))

    old = detector.card.calibration
    probabilities = np.array([finding.probability for finding in findings], dtype=np.float64)
    logits = old.logits(probabilities)
    before = metrics.performance(labels, probabilities, old.threshold, groups)
    if (auc := before.figures["auc"]).high < 0.5:
        raise DatasetError(
            f"Expected pneumonias to get higher probabilities than normal images, got the reverse (AUC {auc}): are the "
            "labels swapped, or the images inverted?"
        )
    before = _with_uncertain(before, sum(bool(finding.uncertain) for finding in findings))
    what = f"images of {len(np.unique(groups))} patients of the site it was calibrated for"
    new = calibration.refit(labels, logits, what, point)
    after = _cross_fitted(decoded, logits, point, before, new.threshold)

    site = {
        "images": len(labels),
        "pneumonia": int(labels.sum()),
        "patients": len(np.unique(groups)),
        "share": round(float(labels.mean()), 6),
        "fingerprint": decoded.fingerprint(),
        "before": before.as_dict(),
        "after": after.as_dict(),
    }
    card = replace(
        detector.card,
        calibration=new,
        metrics=after.as_dict(),
        data=detector.card.data | {"calibration": site},
        seen=seen.encode(decoded.pixels, detector.card.seen),
    )
    model_file.rewrite(source, card, out, decoded.pixels[:8])
    left_out = {sample.patient for sample in samples if sample.split == "test"}
    shared = len(left_out & {sample.patient for sample in decoded.samples})
    return Recalibration(out, card, before, after, failures, _notes(findings, before, after, shared))


def _predicted(
    samples: Sequence[Sample], detector: Detector, progress: Progress
) -> tuple[Decoded, list[Finding], list[tuple[Sample, PneumoscopeError]]]:
    """Predict from the files, so that the same images are rejected as in prediction; then decode the accepted ones."""
    failures: list[tuple[Sample, PneumoscopeError]] = []
    accepted: list[tuple[Sample, Finding]] = []
    for i, (image, finding) in enumerate(
        zip(samples, detector.examine(f.source for f in samples), strict=True), start=1
    ):
        if finding.error is None:
            accepted.append((image, finding))
        else:
            failures.append((image, finding.error))
        progress("predicting images", i, len(samples), {})
    read = iter(range(1, len(accepted) + 1))
    decoded = splits.decode(
        [image for image, _ in accepted],
        detector.card.input_size,
        lambda: progress("reading images", next(read), len(accepted), {}),
    )
    gone = {id(image) for image, _ in decoded.failures}  # became unreadable after prediction
    return decoded, [f for image, f in accepted if id(image) not in gone], failures + decoded.failures


def _check_counts(labels: NDArray[np.int64], failed: int) -> None:
    left_out = f" ({failed} more could not be read or are not chest radiographs)" if failed else ""
    if len(labels) < MIN_IMAGES:
        raise DatasetError(
            f"Expected at least {MIN_IMAGES} images to calibrate on, got {len(labels)}{left_out}: fewer are not enough "
            "to choose a threshold. Give more images."
        )
    for label, name in enumerate(LABELS):
        if (found := int((labels == label).sum())) < MIN_PER_CLASS:
            raise DatasetError(
                f"Expected at least {MIN_PER_CLASS} images of class {name} to calibrate on, got {found} of "
                f"{len(labels)}{left_out}: give more of them."
            )


def _cross_fitted(
    decoded: Decoded, logits: NDArray[np.float64], point: OperatingPoint, before: Performance, threshold: float
) -> Performance:
    """Measure each part of the images with the calibration fitted on the others.

    Each part has its own threshold, so figures of the decision are computed from the decisions, and the others from the
    probabilities. AUC and average precision are those from before: calibration preserves the order of the images, but
    probabilities of different parts cannot be compared.
    """
    labels, groups = decoded.labels, decoded.groups
    probabilities, called, uncertain = (np.zeros(len(labels)) for _ in range(3))
    for others, part in splits.folds(decoded, FOLDS, SEED):
        fitted = calibration.refit(labels[others], logits[others], point=point)
        p = fitted.probabilities(logits[part])
        probabilities[part], called[part] = p, p >= fitted.threshold
        uncertain[part] = [fitted.is_uncertain(float(x)) for x in p]
    decided = metrics.performance(labels, called, 0.5, groups)
    chances = metrics.performance(labels, probabilities, threshold, groups)
    figures = decided.figures | {name: before.figures[name] for name in ("auc", "average_precision")}
    figures |= {name: chances.figures[name] for name in ("brier", "ece")}
    return _with_uncertain(replace(decided, threshold=threshold, figures=figures), int(uncertain.sum()))


def _with_uncertain(performance: Performance, uncertain: int) -> Performance:
    share = metrics.wilson(uncertain, performance.n)
    return replace(performance, figures=performance.figures | {"uncertain": share})


def _notes(findings: Sequence[Finding], before: Performance, after: Performance, shared: int = 0) -> list[str]:
    notes = []
    if shared:
        notes.append(
            f"{shared} of the patients calibrated on also have images in the test split: figures on that split are too "
            "good. Keep all images of a patient in one split."
        )
    if known := sum("seen_in_training" in finding.warnings for finding in findings):
        notes.append(
            f"{known} of these {len(findings)} images were used to train or tune the model: the figures are too good, "
            "and the calibration will hold less well on new images."
        )
    if shift := embedding.site_shift("unlike_training_images" in finding.warnings for finding in findings):
        notes.append(shift)
    if after.figures["auc"].low <= 0.5:
        notes.append(
            f"The AUC is {after.figures['auc']}: the model may be unable to distinguish pneumonias from normals on "
            "these images, and calibrating cannot change that. Do not use it here."
        )
    if (
        after.figures["ece"].value >= before.figures["ece"].value
        and after.figures["balanced_accuracy"].value <= before.figures["balanced_accuracy"].value
    ):
        notes.append(
            "Neither calibration error nor balanced accuracy improved on held-out patients: there is no reason to "
            "prefer the new file. Give more images, or keep the original model."
        )
    return notes


def _unlabelled(folder: Path) -> bool:
    """Return whether this is a folder of images without class folders."""
    if not folder.is_dir():
        return False
    images = list(radiograph.files(folder))
    names = {part for image in images for part in image.relative_to(folder).parts[:-1]}
    return bool(images) and all(Classes().label(name) is None for name in names)
