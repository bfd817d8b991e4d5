"""Evaluates a model on labelled images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope import parallel
from pneumoscope.data import disk_array, layouts, splits
from pneumoscope.data.layouts import Sample
from pneumoscope.data.splits import Decoded
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import boxes, groups, localisation
from pneumoscope.evaluation.boxes import Pointing
from pneumoscope.evaluation.groups import Group
from pneumoscope.imaging import corruptions
from pneumoscope.imaging.preprocessing import Box
from pneumoscope.inference.detector import Detector
from pneumoscope.inference.finding import Finding
from pneumoscope.inference.model_file import Card
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate, Performance
from pneumoscope.ood import embedding

HEADLINE = ("sensitivity", "specificity")
"""The figures for which the worst corruption is reported."""


@dataclass(frozen=True)
class Localisation:
    """How much a model's findings depend on what lies around the thorax.

    Attributes:
        outside: the share of the evidence for `PNEUMONIA` that lies outside the thorax, averaged over the images that
            show pneumonia.
        even: the same share for evenly spread evidence.
        flipped: the share of findings that change when everything but the thorax is hidden.
        auc_around: the AUC on images whose thorax is hidden; 0.5 if the surroundings carry no information.
    """

    outside: Estimate
    even: float
    flipped: Estimate
    auc_around: Estimate


@dataclass(frozen=True)
class Evaluation:
    """A model's findings on labelled images, and its performance.

    Attributes:
        card: the model's card.
        samples: the images that could be read.
        findings: the finding for each of `samples`, with evidence if requested.
        performance: the figures over all of `samples`.
        subtypes: the count and sensitivity of each subtype of pneumonia that file names tell.
        failures: the findings, with errors, for images that could not be read or were rejected as not being chest
            radiographs.
        corrupted: the performance under each of `corruptions.CORRUPTIONS`; empty if it was not measured.
        localisation: how the findings depend on the surroundings of the thorax; None if it was not measured.
        rejected: the images of `failures`, in the same order.
        whole: the figures over all samples with those of neither class apart; `performance` counts these as `NORMAL`.
        parts: the same by site, view and age group, as returned by `groups.parts`.
        pointing: how well the evidence matches radiologists' boxes; None if there are none.
        decoded: `samples` as the network sees them; None if they were not kept.
    """

    card: Card
    samples: list[Sample]
    findings: list[Finding]
    performance: Performance
    subtypes: dict[str, tuple[int, Estimate]]
    failures: list[Finding]
    corrupted: dict[str, Performance] = field(default_factory=dict)
    localisation: Localisation | None = None
    rejected: list[Sample] = field(default_factory=list)
    whole: Group | None = None
    parts: dict[str, dict[str, Group]] = field(default_factory=dict)
    pointing: Pointing | None = None
    decoded: Decoded | None = field(default=None, repr=False, compare=False)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 0 for `NORMAL`, 1 for `PNEUMONIA`."""
        return layouts.labels(self.samples)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(N,), of `PNEUMONIA`."""
        return np.array([finding.probability for finding in self.findings], dtype=np.float64)

    @property
    def splits(self) -> dict[str, int]:
        """The number of images in each split; `none` for images without a split."""
        counts = Counter(sample.split or "none" for sample in self.samples)
        return {name: counts[name] for name in (*layouts.SPLITS, "none") if counts[name]}

    @property
    def measured_on(self) -> str:
        """Return which split was measured: `of the split test`, `of the splits train (120), val (16)`."""
        match list(self.splits.items()):
            case [("none", _)]:
                return "of a data set without splits"
            case [(name, _)]:
                return f"of the split {name}"
            case several:
                return f"of the splits {', '.join(f'{name} ({n:,})' for name, n in several)}"

    @property
    def one_class(self) -> str | None:
        """A note on what cannot be measured if all images are of one class; None if there are both."""
        present = set(self.labels.tolist())
        if len(present) > 1:
            return None
        missing = [name.replace("_", " ") for name, e in self.performance.figures.items() if np.isnan(e.value)]
        return (
            f"All images are {layouts.LABELS[present.pop()]}: {', '.join(missing)} cannot be measured without "
            "images of the other class."
        )

    @property
    def seen(self) -> int:
        """How many of the images the model was trained or tuned on."""
        return sum("seen_in_training" in finding.warnings for finding in self.findings)

    @property
    def shift(self) -> str | None:
        """A warning that the images as a whole are unlike the training images; None if they are not."""
        return embedding.site_shift("unlike_training_images" in finding.warnings for finding in self.findings)

    def mistakes(self, n: int = 12) -> list[tuple[Sample, Finding]]:
        """Return the misclassified images, the most confident first."""
        wrong = [
            (sample, finding)
            for sample, finding in zip(self.samples, self.findings, strict=True)
            if finding.finding != layouts.LABELS[sample.label]
        ]
        return sorted(wrong, key=lambda pair: abs(pair[0].label - (pair[1].probability or 0.0)), reverse=True)[:n]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`."""
        subtypes = {name: {"n": n, "sensitivity": vars(e)} for name, (n, e) in self.subtypes.items()}
        uncertain = sum(bool(finding.uncertain) for finding in self.findings)
        return self.performance.as_dict() | {
            "uncertain": vars(metrics.wilson(uncertain, len(self.findings))),
            "subtypes": subtypes,
            **{f"by_{by}": {name: g.as_dict() for name, g in found.items()} for by, found in self.parts.items()},
            "others": self.whole and {"n": self.whole.others, "called_pneumonia": self.whole.others_called.as_dict()},
            "without_others": self.whole and self.whole.as_dict(),
            "pointing": self.pointing and self.pointing.as_dict(),
            "splits": self.splits,
            "seen_in_training": self.seen,
            "errors": len(self.failures),
            "unlike_training_images": self.shift,
            "corruptions": {name: performance.as_dict() for name, performance in self.corrupted.items()},
            "worst_corruption": {name: worst_corruption(self.corrupted, name) for name in HEADLINE}
            if self.corrupted
            else None,
            "localisation": self.localisation and asdict(self.localisation),
            "model": {"architecture": self.card.architecture, "data": self.card.data.get("fingerprint")},
        }


def evaluate(
    samples: Sequence[Sample],
    detector: Detector,
    progress: Callable[[], object] = lambda: None,
    *,
    evidence: bool = False,
    decoded: bool = False,
) -> Evaluation:
    """Predict on labelled images and compare with the truth.

    Args:
        samples: the output of `layouts.load`; the model must not have been trained on them.
        detector: the model.
        progress: called after each image.
        evidence: whether to keep each image's evidence map, all of which stay in memory.
        decoded: whether to keep the images as the network sees them, for `under_corruptions` and `localise`.

    Returns:
        The evaluation; images that could not be read or were rejected are in `failures` and in no figure.

    Raises:
        DatasetError: no image could be read.

    Example:
        >>> evaluation = evaluate(layouts.load("our_clinic"), Detector())
        >>> print(evaluation.performance.figures["specificity"])
        1.000 (0.439–1.000)
    """
    read: list[Sample] = []
    findings: list[Finding] = []
    failures: list[Finding] = []
    rejected: list[Sample] = []
    maps: list[NDArray[np.float32]] = []
    boxed = any(map(boxes.opacities, samples))
    size = detector.card.input_size
    pixels = disk_array.zeros((len(samples) if decoded else 0, size, size), None)
    parts: list[Box] = []
    sources = (sample.source for sample in samples)
    many = len(samples) >= parallel.MANY
    examined = detector.examine(sources, evidence=evidence or boxed, squashed=decoded, processes=many)
    for sample, finding in zip(samples, examined, strict=True):
        if finding.error is None:
            if finding.squashed is not None:
                pixels[len(read)], part = finding.squashed
                parts.append(part)
            read.append(sample)
            if boxed and finding.evidence is not None:
                maps.append(finding.evidence)
            findings.append(replace(finding, evidence=finding.evidence if evidence else None, squashed=None))
        else:
            failures.append(finding)
            rejected.append(sample)
        progress()
    if not read:
        reason = failures[0].error if failures else "there are none"
        raise DatasetError(f"Expected images to evaluate on, got none that can be read: {reason}")
    labels = layouts.labels(read)
    probabilities = np.array([finding.probability for finding in findings], dtype=np.float64)
    threshold = detector.card.calibration.threshold
    patients = np.array([sample.patient for sample in read])
    performance = metrics.performance(labels, probabilities, threshold, patients)
    subtypes = {}
    for name in sorted({sample.subtype for sample in read if sample.subtype}):
        called = probabilities[[sample.subtype == name for sample in read]] >= threshold
        subtypes[name] = (len(called), metrics.wilson(int(called.sum()), len(called)))
    return Evaluation(
        detector.card,
        read,
        findings,
        performance,
        subtypes,
        failures,
        rejected=rejected,
        whole=groups.group(read, probabilities, threshold),
        parts=groups.parts(read, probabilities, threshold),
        pointing=boxes.pointing(read, maps) if boxed else None,
        decoded=splits.grouped(read, disk_array.taken(pixels, slice(len(read))), parts) if decoded else None,
    )


def under_corruptions(
    decoded: Decoded, detector: Detector, progress: Callable[[], object] = lambda: None
) -> dict[str, Performance]:
    """Measure the model again on the same images under each of `corruptions.CORRUPTIONS`.

    The corruptions are applied to the images as the network sees them, squashed to its size.

    Args:
        decoded: the images that `evaluate` kept, or the output of `splits.decode` at the model's `card.input_size`.
        detector: the model.
        progress: called after each corruption.

    Returns:
        The performance by the name of the corruption; `none` is the uncorrupted images.

    Raises:
        DatasetError: there are no images.

    Example:
        >>> detector = Detector()
        >>> decoded = splits.decode(layouts.load("our_clinic"), detector.card.input_size)
        >>> table = under_corruptions(decoded, detector)
        >>> print(table["none"].figures["specificity"])
        1.000 (0.439–1.000)
    """
    if not decoded.samples:
        raise DatasetError(f"Expected images to evaluate on, got none of {len(decoded.failures)} that can be read.")
    threshold = detector.card.calibration.threshold
    table = {}
    for name in corruptions.CORRUPTIONS:
        probabilities, _ = detector.predict_pixels(
            corruptions.apply(name, image.astype(np.float32)) for image in decoded.pixels
        )
        table[name] = metrics.performance(decoded.labels, probabilities, threshold, decoded.groups)
        progress()
    return table


def localise(decoded: Decoded, detector: Detector) -> Localisation | None:
    """Measure whether a model looks at the thorax, as marked by `localisation.inside`.

    The evidence shows where the last feature map adds to the logit, but each cell's receptive field is much larger. So
    the model also runs with the thorax hidden and with everything else hidden (Maguolo and Nanni 2021, "A critic
    evaluation of methods for COVID-19 automatic detection from X-ray images").

    Args:
        decoded: the output of `splits.decode` at the model's `card.input_size`.
        detector: the model.

    Returns:
        The measures; None unless there are images of both classes.

    Example:
        >>> 0.0 <= localise(decoded, detector).outside.value <= 1.0
        True
    """
    sick = decoded.labels == 1
    if sick.all() or not sick.any():
        return None
    threshold = detector.card.calibration.threshold
    whole, evidence = detector.predict_pixels(decoded.pixels)
    alone, around = (
        detector.predict_pixels(localisation.hide(image.astype(np.float32), thorax=hidden) for image in decoded.pixels)[
            0
        ]
        for hidden in (False, True)
    )
    shares, patients = localisation.outside_share(evidence[sick]), decoded.groups[sick]
    flipped = (whole >= threshold) != (alone >= threshold)
    return Localisation(
        metrics.bootstrap(lambda _, share: float(share.mean()), np.ones_like(patients), shares, patients),
        float(localisation.outside_share(np.ones((1, *evidence.shape[1:])))[0]),
        metrics.wilson(int(flipped.sum()), len(flipped)),
        metrics.delong(decoded.labels, around),
    )


def worst_corruption(table: Mapping[str, Performance], figure: str) -> str | None:
    """Return the corruption under which a figure is lowest; those in `corruptions.APART` do not count.

    Returns:
        A key of the table; None if the figure is undefined, as with images of one class only.

    Example:
        >>> worst_corruption({"noise": evaluation.performance}, "specificity")
        'noise'
    """
    values = {name: p.figures[figure].value for name, p in table.items() if name not in corruptions.APART}
    defined = {name: value for name, value in values.items() if not np.isnan(value)}
    return min(defined, key=defined.__getitem__, default=None)


def choose(samples: Sequence[Sample], split: str | None = None) -> list[Sample]:
    """Choose the images to evaluate on: one split, or by default each site's `test` split if it has one, else all.

    Raises:
        DatasetError: the data set has no such split.

    Example:
        >>> choose([]) == []
        True
    """
    splits = {sample.split for sample in samples}
    tested = {sample.site for sample in samples if sample.split == "test"}
    if split == "all":
        return list(samples)
    if split is None:
        return [sample for sample in samples if sample.split == "test" or sample.site not in tested]
    chosen = [sample for sample in samples if sample.split == split]
    if samples and not chosen:
        found = ", ".join(sorted(name for name in splits if name)) or "none"
        raise DatasetError(f"Expected images of split '{split}', got a data set with the splits: {found}.")
    return chosen
