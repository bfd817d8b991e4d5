"""From a network's logit to a probability, a verdict and an honest "uncertain"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_PER_CLASS = 10
"""With fewer films of a class its quantiles mean nothing."""


@dataclass(frozen=True)
class Calibration:
    """How logits become verdicts.

    Attributes:
        temperature: above 0; the probability is `sigmoid(logit / temperature)`.
        threshold: in (0, 1); from this probability on the verdict is `PNEUMONIA`.
        threshold_reason: why this threshold.
        uncertain_low: the band's lower end.
        uncertain_high: the band's upper end; a verdict inside `[low, high]` is uncertain.
        uncertain_reason: what the band guarantees.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    threshold_reason: str = "Even odds; not fitted to any films."
    uncertain_low: float = 0.5
    uncertain_high: float = 0.5
    uncertain_reason: str = "No band was fitted."

    def probabilities(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Turn logits (N,) into probabilities of `PNEUMONIA` (N,), in [0, 1].

        Example:
            >>> Calibration(temperature=2.0).probabilities([0.0])
            array([0.5])
        """
        return _sigmoid(np.asarray(logits, dtype=np.float64) / self.temperature)

    def is_uncertain(self, probability: float) -> bool:
        """Say whether a probability lies inside the band.

        Example:
            >>> Calibration(uncertain_low=0.4, uncertain_high=0.6).is_uncertain(0.45)
            True
        """
        return self.uncertain_low <= probability <= self.uncertain_high


def fit(
    labels: ArrayLike, logits: ArrayLike, alpha: float = 0.02, copies: int = 1, films: str = "held-out films"
) -> Calibration:
    """Fit temperature, threshold and band on films that the network was not trained on.

    Args:
        labels: (N,), 0 or 1, at least `MIN_PER_CLASS` of each.
        logits: (N,).
        alpha: the share of each class that may fall beyond the band on the wrong side, in (0, 0.5).
        copies: how often each film stands among the N, differently changed; they count as one.
        films: what the films are, as the stated reasons name them.

    Returns:
        The calibration.

    Raises:
        ValueError: too few films of a class.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 500)
        >>> round(fit(y, 4.0 * (2 * y - 1) + 4.0 * rng.normal(size=1000)).temperature)
        2
    """
    y, z = np.asarray(labels, dtype=np.int64), np.asarray(logits, dtype=np.float64)
    for label in (0, 1):
        if (found := int((y == label).sum())) < MIN_PER_CLASS:
            raise ValueError(f"Expected at least {MIN_PER_CLASS} films of class {label}, got {found}.")
    temperature = fit_temperature(y, z)
    p = _sigmoid(z / temperature)
    threshold = equal_error_threshold(y, p)
    low, high = conformal_band(y, p, alpha, copies)
    n = len(y) // copies
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        threshold_reason=f"Sensitivity and specificity are equal on {n} {films}.",
        uncertain_low=min(low, threshold),
        uncertain_high=max(high, threshold),
        uncertain_reason=(
            f"On films like those {n}, on average at most {alpha:.0%} of the normals lie above the band and at most "
            f"{alpha:.0%} of the pneumonias below it (class-conditional split conformal)."
        ),
    )


def fit_temperature(labels: NDArray[np.int64], logits: NDArray[np.float64]) -> float:
    """Find the temperature of least cross-entropy, each class weighing half (Guo et al. 2017, section 4.2).

    Equal weights keep the probability meaningful where the share of pneumonias differs from the training films'. The
    targets fall as short of 0 and 1 as Platt's do ("Probabilistic Outputs for Support Vector Machines", 1999): films
    that the logits separate without a mistake would otherwise give the lowest temperature and nothing but certainty.

    Returns:
        The temperature, between 0.05 and 20.

    Example:
        >>> fit_temperature(np.array([0, 1, 1, 0]), np.array([-9.0, 9.0, -9.0, 9.0])).__round__(1)
        20.0
    """
    from scipy.optimize import minimize_scalar

    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    weight = np.where(labels == 1, 0.5 / positives, 0.5 / negatives)
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.sum(weight * (np.logaddexp(0.0, scaled) - target * scaled)))

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def equal_error_threshold(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Find the threshold at which sensitivity and specificity are as equal as the films allow.

    Between two neighbouring films the middle is taken, in logits: any place there gives the same verdicts here, and
    the middle errs least on others.

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
    positive, negative = np.sort(z[labels == 1]), np.sort(z[labels == 0])
    sensitivity = 1.0 - np.searchsorted(positive, cuts) / len(positive)
    specificity = np.searchsorted(negative, cuts) / len(negative)
    # Of equally balanced cuts the one that errs least; of those the one in the middle.
    gap = np.round(np.abs(sensitivity - specificity), 12)
    best = np.flatnonzero(gap == gap.min())
    total = np.round(sensitivity[best] + specificity[best], 12)
    best = best[total == total.max()]
    return float(_sigmoid(cuts[best[len(best) // 2]]))


def conformal_band(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], alpha: float, copies: int = 1
) -> tuple[float, float]:
    """Find the probabilities between which no class can be named with the stated guarantee.

    Class-conditional split conformal prediction (Vovk 2012, "Conditional validity of inductive conformal
    predictors"): on films exchangeable with these, on average at most `alpha` of the pneumonias lie below the first
    bound and at most `alpha` of the normals above the second. The band reaches from the smaller bound to the larger
    one, so outside it both hold. With fewer than `1 / alpha - 1` films of a class its bound is 0 or 1. Of films that
    stand there in several copies the number of films counts, not that of copies.

    Returns:
        The band's ends, low <= high, in [0, 1].

    Example:
        >>> conformal_band(np.array([0] * 9 + [1] * 9), np.linspace(0.0, 1.0, 18), alpha=0.1)
        (0.47058823529411764, 0.5294117647058824)
    """
    positive, negative = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    below, above = (copies * int(alpha * (len(p) // copies + 1) + 1e-9) for p in (positive, negative))
    pneumonia_from = float(positive[below - 1]) if below else 0.0
    normal_to = float(negative[-above]) if above else 1.0
    return min(pneumonia_from, normal_to), max(pneumonia_from, normal_to)


def _sigmoid(x: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=np.float64)  # this form never overflows
