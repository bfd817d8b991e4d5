"""How the threshold between the two findings is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class OperatingPoint:
    """How a threshold is chosen; by default so that sensitivity and specificity are equal.

    Attributes:
        sensitivity: in (0, 1]; choose the highest threshold with at least this sensitivity.
        specificity: in (0, 1]; choose the lowest threshold with at least this specificity.
        threshold: in (0, 1); use this threshold.

    Raises:
        ValueError: more than one is given, or one is out of range.

    Example:
        >>> OperatingPoint(sensitivity=0.95).choose([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9]) < 0.3
        True
    """

    sensitivity: float | None = None
    specificity: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"Expected one way to choose the threshold, got {' and '.join(given)}: give one of them.")
        for name, value in given.items():
            if not (0.0 < value < 1.0 or (value == 1.0 and name != "threshold")):
                raise ValueError(f"Expected a {name} between 0 and 1, got {value:g}.")

    def choose(self, labels: ArrayLike, probabilities: ArrayLike, weights: NDArray[np.float64] | None = None) -> float:
        """Choose the threshold on images of both classes.

        Args:
            labels: (N,), 0 or 1.
            probabilities: (N,), in (0, 1).
            weights: (N,), the weight of each image within its class; by default equal. A requested sensitivity or
                specificity ignores the weights.

        Returns:
            The threshold, in (0, 1).
        """
        y, p = np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
        if self.threshold is not None:
            return self.threshold
        if self.sensitivity is not None:
            return sensitive_threshold(y, p, self.sensitivity)
        if self.specificity is not None:
            return specific_threshold(y, p, self.specificity)
        return equal_error_threshold(y, p, weights)

    def reason(self, images: str) -> str:
        """Return a sentence that says how the threshold was chosen.

        Example:
            >>> OperatingPoint(specificity=0.9).reason("200 images of our clinic")
            'The lowest threshold with a specificity of at least 0.9 on 200 images of our clinic.'
        """
        if self.threshold is not None:
            return f"Given by the user, not chosen on the {images}."
        if self.sensitivity is not None:
            return f"The highest threshold with a sensitivity of at least {self.sensitivity:g} on {images}."
        if self.specificity is not None:
            return f"The lowest threshold with a specificity of at least {self.specificity:g} on {images}."
        return f"Sensitivity and specificity are equal on {images}."


BALANCED = OperatingPoint()


def equal_error_threshold(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> float:
    """Find the threshold at which sensitivity and specificity are as equal as the images allow.

    The threshold is the midpoint, in logits, between two neighbouring images: any value between them gives the same
    findings on these images, and the midpoint generalises best.

    Returns:
        The threshold, in (0, 1).

    Example:
        >>> equal_error_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.7, 0.9])).__round__(2)
        0.5
    """
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    logits = np.unique(np.log(p / (1 - p)))
    cuts = np.concatenate([[logits[0] - 1.0], (logits[1:] + logits[:-1]) / 2, [logits[-1] + 1.0]])
    z = np.log(p / (1 - p))
    weights = np.ones(len(z)) if weights is None else weights
    sensitivity = 1.0 - _share_below(cuts, z[labels == 1], weights[labels == 1])
    specificity = _share_below(cuts, z[labels == 0], weights[labels == 0])
    # Among equally balanced cuts choose the one with the fewest errors, and among those the middle one.
    gap = np.round(np.abs(sensitivity - specificity), 12)
    best = np.flatnonzero(gap == gap.min())
    total = np.round(sensitivity[best] + specificity[best], 12)
    best = best[total == total.max()]
    return float(sigmoid(cuts[best[len(best) // 2]]))


def _share_below(
    cuts: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weight of the values below each cut, as a share of all."""
    order = np.argsort(values)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(below[np.searchsorted(values[order], cuts)] / below[-1])


def sensitive_threshold(labels: NDArray[np.int64], probabilities: NDArray[np.float64], least: float) -> float:
    """Find the highest threshold with at least this sensitivity on these images.

    As in `equal_error_threshold`, the midpoint of the thresholds with the same findings is returned.

    Args:
        labels: (N,), 0 or 1; at least one image of each.
        probabilities: (N,), in (0, 1).
        least: the sensitivity, in (0, 1].

    Returns:
        The threshold, in (0, 1).

    Example:
        >>> y, p = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.7, 0.9])
        >>> [round(sensitive_threshold(y, p, least), 2) for least in (0.6, 1.0)]
        [0.6, 0.18]
    """
    positive = np.sort(probabilities[labels == 1])
    called = positive[int((1.0 - least) * len(positive) + 1e-9)]  # the lowest image that must be called
    below = max(logit(probabilities[probabilities < called]), default=logit(called) - 2.0)
    return float(min(sigmoid((below + logit(called)) / 2), called))


def specific_threshold(labels: NDArray[np.int64], probabilities: NDArray[np.float64], least: float) -> float:
    """Find the lowest threshold with at least this specificity on these images; see `sensitive_threshold`.

    Example:
        >>> y, p = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.7, 0.9])
        >>> [round(specific_threshold(y, p, least), 2) for least in (0.5, 1.0)]
        [0.18, 0.6]
    """
    negative = np.sort(probabilities[labels == 0])[::-1]
    passed = min(
        negative[int((1.0 - least) * len(negative) + 1e-9)], 1.0 - 1e-15
    )  # the highest image that must not be called
    above = min(logit(probabilities[probabilities > passed]), default=logit(passed) + 2.0)
    return float(max(sigmoid((above + logit(passed)) / 2), np.nextafter(passed, 1.0)))


def sigmoid(x: ArrayLike) -> NDArray[np.float64]:
    """Turn log odds into probabilities, without overflow.

    Example:
        >>> sigmoid([-1e300, 0.0, 1e300])
        array([0. , 0.5, 1. ])
    """
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Turn probabilities into log odds; probabilities are clipped to [1e-15, 1 - 1e-15].

    Example:
        >>> logit([0.0, 0.5, 1.0]).round(1)
        array([-34.5,   0. ,  34.5])
    """
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-15, 1.0 - 1e-15)
    return np.asarray(np.log(p / (1.0 - p)))
