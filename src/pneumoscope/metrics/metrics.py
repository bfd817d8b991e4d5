"""Metrics of a detector's probabilities, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
ECE_BINS = 10

NARROWEST = 5e-4
"""A bootstrap interval narrower than this, whose ends print the same, comes from draws that are nearly identical."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the 95 % interval around it; all three are NaN where the figure is undefined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the entry for `metrics.json`; undefined values are null.

        Example:
            >>> Estimate(0.5, float("nan"), 0.75).as_dict()
            {'value': 0.5, 'low': None, 'high': 0.75}
        """
        return {name: None if np.isnan(x) else round(float(x), 6) for name, x in vars(self).items()}

    def __str__(self) -> str:
        """Format as `0.953 (0.941–0.962)`."""
        if np.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


UNDEFINED = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Performance:
    """The figures of an evaluation.

    Attributes:
        n: the number of images.
        positives: the number of images labelled `PNEUMONIA`.
        threshold: the probability from which the finding is `PNEUMONIA`.
        confusion: the counts `tp`, `fp`, `tn`, `fn`.
        figures: the named estimates: `auc`, `average_precision`, `accuracy`, `balanced_accuracy`, `sensitivity`,
            `specificity`, `ppv`, `npv`, `f1`, `brier`, `ece`.
    """

    n: int
    positives: int
    threshold: float
    confusion: dict[str, int]
    figures: dict[str, Estimate]

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`; undefined figures are null."""
        figures = {name: e.as_dict() for name, e in self.figures.items()}
        head = {"n": self.n, "positives": self.positives, "threshold": self.threshold, "confusion": self.confusion}
        return head | figures


def performance(
    labels: ArrayLike,
    probabilities: ArrayLike,
    threshold: float,
    patients: ArrayLike | None = None,
    only: Collection[str] | None = None,
) -> Performance:
    """Compute the figures of an evaluation with their intervals.

    AUC has DeLong's interval, proportions have Wilson's, all others a bootstrap over patients. If nearly all draws
    are identical, as in a small sample without errors, the ends for balanced accuracy are the means of those of
    sensitivity and specificity, and other figures get Wilson's interval for the smaller class; both are wide.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), in [0, 1].
        threshold: the finding is `PNEUMONIA` from this probability on.
        patients: (N,), the patient of each image; by default each image is a patient of its own.
        only: the names of the figures to compute; by default all. Each bootstrap takes a fifth of a second.

    Returns:
        The figures. If all images are of one class, those that need both are undefined, and so are the predictive
        values and F1, which are meaningless without the other class.

    Raises:
        ValueError: the lengths differ, there are no images, or values are out of range.

    Example:
        >>> performance([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9], 0.5).confusion
        {'tp': 2, 'fp': 1, 'tn': 1, 'fn': 0}
    """
    y, p = _checked(labels, probabilities)
    groups = np.arange(len(y)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    if groups.shape != y.shape:
        raise ValueError(f"Expected a patient for each image, (N,), got {groups.shape} for {len(y)} images.")
    called = p >= threshold
    tp, fp = int((called & (y == 1)).sum()), int((called & (y == 0)).sum())
    tn, fn = int((~called & (y == 0)).sum()), int((~called & (y == 1)).sum())

    def resampled(statistic: Callable[[NDArray[np.int64], NDArray[np.float64]], float]) -> Estimate:
        return spread(bootstrap(statistic, y, p, groups))

    def spread(e: Estimate) -> Estimate:
        small = min(int((y == 1).sum()), int((y == 0).sum())) or len(y)
        return wilson(e.value * small, small) if e.high - e.low < NARROWEST else e

    sensitivity, specificity = wilson(tp, tp + fn), wilson(tn, tn + fp)
    both = 0 < y.sum() < len(y)

    def balanced() -> Estimate:
        e = bootstrap(lambda y, p: balanced_accuracy(y, p >= threshold), y, p, groups)
        if e.high - e.low >= NARROWEST:
            return e
        return Estimate(e.value, (sensitivity.low + specificity.low) / 2, (sensitivity.high + specificity.high) / 2)

    figures: dict[str, Callable[[], Estimate]] = {
        "auc": lambda: spread(delong(y, p)),
        "average_precision": lambda: resampled(average_precision),
        "accuracy": lambda: wilson(tp + tn, len(y)),
        "balanced_accuracy": balanced,
        "sensitivity": lambda: sensitivity,
        "specificity": lambda: specificity,
        "ppv": lambda: wilson(tp, tp + fp) if both else UNDEFINED,
        "npv": lambda: wilson(tn, tn + fn) if both else UNDEFINED,
        "f1": lambda: resampled(lambda y, p: f1(y, p >= threshold)) if both else UNDEFINED,
        "brier": lambda: resampled(lambda y, p: float(np.mean((p - y) ** 2))),
        "ece": lambda: resampled(expected_calibration_error),
    }
    computed = {name: figures[name]() for name in (figures if only is None else only)}
    confusion = {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    return Performance(len(y), int(y.sum()), float(threshold), confusion, computed)


def wilson(successes: float, n: int) -> Estimate:
    """Estimate a proportion with Wilson's score interval (Wilson 1927, J Am Stat Assoc 22:209).

    Args:
        successes: the number of successes.
        n: the number of trials; with 0 the estimate is undefined.

    Example:
        >>> print(wilson(9, 10))
        0.900 (0.596–0.982)
    """
    if n == 0:
        return UNDEFINED
    share, z = successes / n, _normal_quantile()
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low, high = max(0.0, float(center - half)), min(1.0, float(center + half))
    return Estimate(share, min(share, low), max(share, high))  # rounding may put an end beyond the share


def delong(labels: ArrayLike, probabilities: ArrayLike) -> Estimate:
    """Estimate the area under the ROC curve with DeLong's interval (DeLong et al. 1988, Biometrics 44:837).

    The variance is computed from mid-ranks (Sun & Xu 2014, IEEE Signal Process Lett 21:1389). The interval is computed
    on the logit of the AUC and transformed back, so that it stays inside [0, 1]. If the variance is zero, or unknown
    because a class has one image, Wilson's interval for the smaller class is used, because a sample without errors does
    not prove that there are none. With only a handful of images in a class, the interval is too narrow.

    Args:
        labels: (N,), 0 or 1; with only one class the estimate is undefined.
        probabilities: (N,), any monotone score.

    Example:
        >>> delong([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).value
        0.75
    """
    from scipy.stats import rankdata

    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    positive, negative = p[y == 1], p[y == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return UNDEFINED
    ranks = rankdata(np.concatenate([positive, negative]))
    of_positives = (ranks[:m] - rankdata(positive)) / n  # share of negatives below each positive
    of_negatives = 1.0 - (ranks[m:] - rankdata(negative)) / m  # share of positives above each negative
    area = float(of_positives.mean())
    variance = _variance(of_positives) / m + _variance(of_negatives) / n
    if variance == 0.0 or min(m, n) == 1:
        return wilson(area * min(m, n), min(m, n))
    half = _normal_quantile() * np.sqrt(variance) / (area * (1 - area))
    logit = np.log(area / (1 - area))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-half, half]))))
    return Estimate(area, float(low), float(high))


def bootstrap(
    statistic: Callable[[NDArray[np.int64], NDArray[np.float64]], float],
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike,
    seed: int = 0,
) -> Estimate:
    """Estimate any figure with a percentile bootstrap over patients (Efron & Tibshirani 1993, chapter 13).

    Whole patients are drawn, because images of one patient resemble each other; they are drawn within each class
    (that of their first image), so that every draw has both.

    Args:
        statistic: computes the figure from labels (N,) and probabilities (N,).
        labels: (N,), 0 or 1.
        probabilities: (N,).
        groups: (N,), the patient of each image.
        seed: equal seeds give equal intervals.

    Example:
        >>> bootstrap(lambda y, p: float(np.mean(p)), [0, 1], [0.5, 0.5], [0, 1])
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    y, p, g = np.asarray(labels), np.asarray(probabilities, dtype=np.float64), np.asarray(groups)
    value = statistic(y, p)
    if np.isnan(value):
        return UNDEFINED
    order = np.argsort(g, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(g[order])) + 1)
    strata = [[m for m in members if y[m[0]] == label] for label in (0, 1)]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([s[i] for s in strata if s for i in rng.integers(len(s), size=len(s))])
        draws.append(statistic(y[chosen], p[chosen]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    # Resampling adds noise, which a sum of absolute gaps counts as error: all draws of a calibration error may exceed
    # its value.
    return Estimate(float(value), min(float(value), float(low)), max(float(value), float(high)))


def average_precision(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Average the precision over recall; NaN without both classes.

    The value equals scikit-learn's `average_precision_score`, whose argument checks take many times as long as the sum
    and would be repeated in each draw of a bootstrap.

    Example:
        >>> average_precision(np.array([0, 1]), np.array([0.2, 0.8]))
        1.0
    """
    if labels.min() == labels.max():
        return float("nan")
    order = np.argsort(-probabilities, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)  # last of each run of equal values
    found = np.cumsum(labels[order])[last]
    return min(1.0, float(np.diff(found, prepend=0) @ (found / (last + 1)) / found[-1]))  # rounding may exceed 1


def balanced_accuracy(labels: NDArray[np.int64], called: NDArray[np.bool_]) -> float:
    """Average sensitivity and specificity; NaN without both classes.

    Example:
        >>> balanced_accuracy(np.array([0, 0, 1]), np.array([False, True, True]))
        0.75
    """
    if labels.min() == labels.max():
        return float("nan")
    return float((called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2)


def f1(labels: NDArray[np.int64], called: NDArray[np.bool_]) -> float:
    """Compute the harmonic mean of sensitivity and PPV; NaN if no image is positive or called positive.

    Example:
        >>> f1(np.array([0, 1]), np.array([True, True])).__round__(3)
        0.667
    """
    tp = int((called & (labels == 1)).sum())
    either = int(called.sum()) + int((labels == 1).sum())
    return 2 * tp / either if either else float("nan")


def expected_calibration_error(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Average the gap between mean probability and share of positives over ten bins of equal width, weighted by count.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, for the probability of `PNEUMONIA`.

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([0.0, 1.0]))
        0.0
    """
    bins = np.minimum((probabilities * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    count = np.bincount(bins, minlength=ECE_BINS)
    gap = np.bincount(bins, weights=labels - probabilities, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / count.sum())


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or len(y) == 0:
        raise ValueError(f"Expected labels and probabilities of one shape (N,), N > 0, got {y.shape} and {p.shape}.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Expected labels 0 and 1, got others.")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("Expected probabilities in [0, 1], got some outside.")
    return y.astype(np.int64), p


def _normal_quantile() -> float:
    return NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
