"""Calibration: turns a network's logits into probabilities, findings and an uncertain band."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pneumoscope.metrics import metrics
from pneumoscope.metrics.thresholds import BALANCED, OperatingPoint, logit, sigmoid

MIN_PER_CLASS = 10
"""With fewer images of a class, its quantiles are meaningless."""

ALPHA = 0.02
"""The share of each class that may fall beyond the band on the wrong side, given enough images."""

OTHER_SHARE = 0.15
"""The weight of other findings among a site's negatives when the threshold is chosen. A higher weight calls fewer
patients with other diseases positive, and misses more pneumonias. A compromise, not derived from anything."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""The temperature stays above 0, so that a higher logit is always a higher probability."""


@dataclass(frozen=True)
class Calibration:
    """How logits become findings.

    Attributes:
        temperature: above 0; the probability is `sigmoid((logit - offset) / temperature)`.
        threshold: in (0, 1); from this probability on the finding is `PNEUMONIA`.
        threshold_reason: how the threshold was chosen.
        uncertain_low: the band's lower end.
        uncertain_high: the band's upper end; a finding inside `[low, high]` is uncertain.
        uncertain_reason: what the band guarantees.
        offset: the logit that means even odds. On images from another site, logits are both shifted and too steep;
            offset and temperature correct this (Platt 1999, "Probabilistic Outputs for Support Vector Machines").
        probability_reason: for which images the probabilities hold.
        prevalence: the share of pneumonias that the probabilities assume; `fit` weighs both classes equally.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    threshold_reason: str = "Even odds; not fitted to any images."
    uncertain_low: float = 0.5
    uncertain_high: float = 0.5
    uncertain_reason: str = "No band was fitted."
    offset: float = 0.0
    probability_reason: str = "Not stated."
    prevalence: float = 0.5

    def probabilities(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Turn logits (N,) into probabilities of `PNEUMONIA` (N,), in [0, 1].

        Example:
            >>> Calibration(temperature=2.0).probabilities([0.0])
            array([0.5])
        """
        return sigmoid((np.asarray(logits, dtype=np.float64) - self.offset) / self.temperature)

    def logits(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Turn probabilities (N,) back into logits (N,); 0 and 1 are treated as 1e-15 and 1 - 1e-15.

        Example:
            >>> Calibration(temperature=2.0, offset=1.0).logits([0.5])
            array([1.])
        """
        return self.offset + self.temperature * logit(probabilities)

    def at_prevalence(self, prevalence: float) -> Calibration:
        """Shift the probabilities to where another share of the images shows pneumonia, by Bayes' rule.

        The odds of each image are multiplied by one number (Saerens et al. 2002, "Adjusting the Outputs of a Classifier
        to New a Priori Probabilities"). Threshold and band move with them: no finding changes.

        Args:
            prevalence: the share of pneumonias, in (0, 1).

        Raises:
            ValueError: the prevalence is out of range.

        Example:
            >>> rare = Calibration().at_prevalence(0.1)
            >>> rare.probabilities([0.0]).round(3), round(rare.threshold, 3)
            (array([0.1]), 0.1)
        """
        if not 0.0 < prevalence < 1.0:
            raise ValueError(f"Expected a prevalence between 0 and 1, got {prevalence}.")
        shift = float(logit(prevalence) - logit(self.prevalence))
        low, threshold, high = sigmoid(logit([self.uncertain_low, self.threshold, self.uncertain_high]) + shift)
        return replace(
            self,
            offset=self.offset - self.temperature * shift,
            threshold=float(threshold),
            uncertain_low=float(low),
            uncertain_high=float(high),
            probability_reason=f"Shifted by Bayes' rule to a prevalence of {prevalence:.3g}.",
            prevalence=prevalence,
        )

    @property
    def assumed(self) -> str:
        """Return which share of pneumonias the probabilities assume.

        Example:
            >>> Calibration().at_prevalence(0.1).assumed
            'The probability assumes that 10 % of such images show pneumonia.'
        """
        return f"The probability assumes that {100 * self.prevalence:.3g} % of such images show pneumonia."

    def is_uncertain(self, probability: float) -> bool:
        """Return whether a probability lies inside the band.

        Example:
            >>> Calibration(uncertain_low=0.4, uncertain_high=0.6).is_uncertain(0.45)
            True
        """
        return self.uncertain_low <= probability <= self.uncertain_high


def fit(
    labels: ArrayLike,
    logits: ArrayLike,
    alpha: float = ALPHA,
    copies: int = 1,
    images: str = "held-out images",
    point: OperatingPoint = BALANCED,
    sites: ArrayLike | None = None,
    others: ArrayLike | None = None,
) -> Calibration:
    """Fit offset, temperature, threshold and band on images that the network was not trained on.

    Each class of each site has the same weight, so that probabilities and threshold suit a small site as well as a
    large one, and mean the same where pneumonia is rarer. The logits need an offset because a network trained on
    strongly augmented images finds clean ones easier, pneumonias and normals to a different degree. Images of other
    findings are left out of the probability, which is that of pneumonia against normal. They weigh `OTHER_SHARE` of
    their site's negatives when the threshold is chosen, because a threshold chosen on normals and pneumonias alone
    would call most patients with other diseases positive. The band is wide enough for its guarantee to hold at each
    site, for normals and pneumonias.

    Args:
        labels: (N,), 0 or 1, at least `MIN_PER_CLASS` of each.
        logits: (N,).
        alpha: the share of each class that may fall beyond the band on the wrong side, in (0, 0.5).
        copies: how many differently corrupted copies of each image are among the N; they count as one image.
        images: a description of the images for the stated reasons.
        point: how the threshold is chosen.
        sites: (N,), the site of each image; None if there is only one.
        others: (N,), whether an image of label 0 shows another finding; None if none does.

    Returns:
        The calibration.

    Raises:
        ValueError: there are too few images of a class.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 500)
        >>> round(fit(y, 4.0 * (2 * y - 1) + 4.0 * rng.normal(size=1000)).temperature)
        2
    """
    y, z = np.asarray(labels, dtype=np.int64), np.asarray(logits, dtype=np.float64)
    for label in (0, 1):
        if (found := int((y == label).sum())) < MIN_PER_CLASS:
            raise ValueError(f"Expected at least {MIN_PER_CLASS} images of class {label}, got {found}.")
    at = np.zeros(len(y), dtype=np.int64) if sites is None else np.unique(np.asarray(sites), return_inverse=True)[1]
    reason = "Each class of each site weighed the same: probabilities assume that half of the patients have pneumonia."
    sick = np.zeros(len(y), dtype=bool) if others is None else np.asarray(others, dtype=bool)
    told = ~sick
    offset, temperature = fit_platt(y[told], z[told], site_weights(y[told], at[told]))
    start = Calibration(temperature=temperature, offset=offset, probability_reason=reason)
    return _with_findings(start, y, z, alpha, copies, images, point, at, sick)


def refit(
    labels: ArrayLike, logits: ArrayLike, images: str = "images of one site", point: OperatingPoint = BALANCED
) -> Calibration:
    """Fit offset, temperature, threshold and band on images of the site where a model is to be used.

    Unlike in `fit`, each image has the same weight: the probabilities hold where pneumonia is as common as in these
    images. The band's `alpha` is the smallest whole percentage, at least `ALPHA`, for which the smaller class has
    enough images.

    Args:
        labels: (N,), 0 or 1; at least one image of each.
        logits: (N,).
        images: a description of the images for the stated reasons.
        point: how the threshold is chosen.

    Returns:
        The calibration.

    Raises:
        ValueError: all images are of one class.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 500)
        >>> fitted = refit(y, 3.0 + 4.0 * (2 * y - 1) + 4.0 * rng.normal(size=1000))
        >>> round(fitted.offset), round(fitted.temperature)
        (3, 2)
    """
    y, z = np.asarray(labels, dtype=np.int64), np.asarray(logits, dtype=np.float64)
    smaller = min(int((y == 1).sum()), int((y == 0).sum()))
    if smaller == 0:
        raise ValueError(f"Expected images of both classes, got {len(y)} of one only.")
    alpha = max(ALPHA, _least_alpha(y, 1))
    offset, temperature = fit_platt(y, z)
    reason = (
        f"Probabilities were fitted on {len(y)} {images} and hold where pneumonia is as common as there, "
        f"{np.mean(y):.0%} of the images; where it is rarer they are too high, where it is commoner too low."
    )
    start = Calibration(temperature=temperature, offset=offset, probability_reason=reason, prevalence=float(np.mean(y)))
    return _with_findings(
        start, y, z, alpha, 1, images, point, np.zeros(len(y), dtype=np.int64), np.zeros(len(y), dtype=bool)
    )


def _with_findings(
    start: Calibration,
    labels: NDArray[np.int64],
    logits: NDArray[np.float64],
    alpha: float,
    copies: int,
    images: str,
    point: OperatingPoint,
    sites: NDArray[np.int64],
    others: NDArray[np.bool_],
) -> Calibration:
    """Add threshold and band to a calibration that gives probabilities."""
    p = start.probabilities(logits)
    threshold = point.choose(labels, p, site_weights(labels, sites, others))
    labels, p, sites = labels[~others], p[~others], sites[~others]
    where = [here for here in (sites == site for site in np.unique(sites)) if _enough(labels[here], copies)]
    if len(where) > 1:  # each site's smaller class limits the guarantee that can be given there
        alpha = max(alpha, *(_least_alpha(labels[here], copies) for here in where))
    bands = [conformal_band(labels[here], p[here], alpha, copies) for here in where or [np.full(len(p), True)]]
    low, high = min(low for low, _ in bands), max(high for _, high in bands)
    at = f", at each of {len(bands)} sites" if len(bands) > 1 else ""
    n = len(labels) // copies
    return replace(
        start,
        threshold=threshold,
        threshold_reason=point.reason(f"{n} {images}"),
        uncertain_low=min(low, threshold),
        uncertain_high=max(high, threshold),
        uncertain_reason=(
            f"On images like those {n}{at}, on average at most {alpha:.0%} of the normals lie above the band and at "
            f"most {alpha:.0%} of the pneumonias below it (class-conditional split conformal)."
        ),
    )


def _enough(labels: NDArray[np.int64], copies: int) -> bool:
    return bool(np.bincount(labels, minlength=2).min() >= MIN_PER_CLASS * copies)


def _least_alpha(labels: NDArray[np.int64], copies: int) -> float:
    """Return the smallest alpha, a whole percentage, for which the smaller class has enough images."""
    return float(np.ceil(100 / (np.bincount(labels, minlength=2).min() // copies + 1)) / 100)


def site_weights(
    labels: NDArray[np.int64], sites: NDArray[np.int64], others: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Weight images so that every site has the same weight within each class: (N,), with a sum of 1 for each class.

    If a site has images of other findings among those of label 0, they make up `OTHER_SHARE` of its negatives' weight.

    Example:
        >>> site_weights(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])).tolist()
        [0.25, 0.25, 0.5, 1.0]
        >>> others = np.array([False, True, True, False])
        >>> site_weights(np.array([0, 0, 0, 1]), np.zeros(4, int), others).round(2).tolist()
        [0.85, 0.08, 0.08, 1.0]
    """
    sick = np.zeros(len(labels), dtype=bool) if others is None else others
    weights = np.zeros(len(labels))
    for label in (0, 1):
        of_class = labels == label
        for site in np.unique(sites[of_class]):
            here = of_class & (sites == site)
            parts = {1.0 - OTHER_SHARE: here & ~sick, OTHER_SHARE: here & sick}
            there = {share: part for share, part in parts.items() if part.any()}
            for share, part in there.items():
                weights[part] = share / sum(there) / part.sum() / len(np.unique(sites[of_class]))
    return weights


def fit_platt(
    labels: NDArray[np.int64], logits: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Find the offset and temperature that minimise the cross-entropy (Platt 1999, section 2).

    Platt's targets regularise the fit: they are further from 0 and 1 the fewer images there are.

    Args:
        labels: (N,), 0 or 1.
        logits: (N,).
        weights: (N,), the weight of each image; None for equal weights.

    Returns:
        The offset, in logits, and the temperature, between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`.

    Example:
        >>> offset, temperature = fit_platt(np.array([0, 1, 0, 1]), np.array([4.0, 5.0, 5.0, 6.0]))
        >>> round(offset, 2)
        5.0
    """
    from scipy.optimize import minimize

    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weight = np.full(len(labels), 1 / len(labels)) if weights is None else weights / weights.sum()
    mean, spread = float(logits.mean()), float(logits.std()) or 1.0
    x = (logits - mean) / spread  # so that slope and intercept are of similar size

    def cross_entropy(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = line[0] * x + line[1]
        error = weight * (sigmoid(scaled) - target)
        loss = float(np.sum(weight * (np.logaddexp(0.0, scaled) - target * scaled)))
        return loss, np.array([np.sum(error * x), np.sum(error)])

    bounds = [(spread / MAX_TEMPERATURE, spread / MIN_TEMPERATURE), (None, None)]
    start = np.array([np.clip(1.0, *bounds[0]), 0.0])
    slope, intercept = minimize(cross_entropy, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12).x
    temperature = spread / float(slope)
    return mean - float(intercept) * temperature, temperature


def conformal_band(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], alpha: float, copies: int = 1
) -> tuple[float, float]:
    """Find the probabilities between which no class can be named with the stated guarantee.

    Class-conditional split conformal prediction (Vovk 2012, "Conditional validity of inductive conformal
    predictors"): on images exchangeable with these, on average at most `alpha` of the pneumonias lie below the first
    bound and at most `alpha` of the normals above the second. The band reaches from the smaller bound to the larger
    one, so outside it both hold. With fewer than `1 / alpha - 1` images of a class, its bound is 0 or 1; copies of an
    image count as one.

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


def beyond_band(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], fitted: Calibration
) -> dict[str, metrics.Estimate]:
    """Measure on new images what the band guarantees: the share of each class beyond it on the wrong side.

    Args:
        labels: (N,), 0 or 1.
        probabilities: (N,), in [0, 1].
        fitted: the calibration with the band.

    Returns:
        `normals_above` and `pneumonias_below`, each with its 95 % interval.

    Example:
        >>> fitted = Calibration(uncertain_low=0.4, uncertain_high=0.6)
        >>> beyond = beyond_band(np.array([0, 0, 1, 1]), np.array([0.1, 0.7, 0.5, 0.9]), fitted)
        >>> beyond["normals_above"].value, beyond["pneumonias_below"].value
        (0.5, 0.0)
    """
    normal, positive = probabilities[labels == 0], probabilities[labels == 1]
    return {
        "normals_above": metrics.wilson(int((normal > fitted.uncertain_high).sum()), len(normal)),
        "pneumonias_below": metrics.wilson(int((positive < fitted.uncertain_low).sum()), len(positive)),
    }
