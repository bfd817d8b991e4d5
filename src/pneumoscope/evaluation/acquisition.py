"""Measures how far a model's logits can be predicted from the way an image was acquired, without the lungs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pneumoscope.errors import DatasetError
from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import Estimate

SIDE, LEVELS, BANDS = 28, 32, 16
"""The side of the thumbnail whose outer ring is used, the bins of the histogram, the radial bands of the spectrum."""

FEWEST = 50
"""With fewer images, the regression has too many features."""


def describe(image: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Describe how an image was acquired: the ring at its edge, its histogram, and its spectrum.

    None of these shows an opacity, but all of them show collimation, exposure, processing and compression.

    Args:
        image: (S, S) in [0, 1], at least 28 x 28.

    Returns:
        (156,): 108 pixels of the outer ring of a thumbnail, 32 bins of brightness, 16 radial bands of the log amplitude
        spectrum.

    Example:
        >>> describe(np.zeros((64, 64))).shape
        (156,)
    """
    pixels = np.asarray(image, dtype=np.float64)
    size = len(pixels)
    edges = np.linspace(0, size, SIDE + 1).astype(int)[:-1]
    cells = np.add.reduceat(np.add.reduceat(pixels, edges, axis=0), edges, axis=1)
    areas = np.outer(*(np.diff(np.append(edges, size)),) * 2)
    thumbnail = cells / areas
    ring = np.concatenate([thumbnail[0], thumbnail[-1], thumbnail[1:-1, 0], thumbnail[1:-1, -1]])
    histogram = np.histogram(pixels, LEVELS, (0.0, 1.0))[0] / pixels.size
    amplitude = np.log(np.abs(np.fft.fftshift(np.fft.fft2(pixels))) + 1e-3)
    place = np.arange(size) - size // 2
    radius = np.hypot(place[:, None], place) / (size / 2)
    band = np.minimum((radius * BANDS).astype(int), BANDS - 1).ravel()
    spectrum = np.bincount(band, amplitude.ravel(), BANDS) / np.bincount(band, minlength=BANDS)
    return np.concatenate([ring, histogram, spectrum])


def probe(images: Iterable[NDArray[np.floating[Any]]], logits: ArrayLike, patients: ArrayLike) -> Estimate:
    """Measure how well acquisition alone predicts a model's logits, on images of one class.

    A model should see nothing on normals: whatever `describe` can predict of its logits does not come from the lungs.

    Args:
        images: N images (S, S) in [0, 1], all normal, preferably from one site.
        logits: (N,), the model's logits.
        patients: (N,), the patient of each image.

    Returns:
        Spearman's rank correlation between the logits and those that a ridge regression, fitted on other patients,
        predicts from `describe`: 0 is ideal. The interval is a bootstrap over patients.

    Raises:
        DatasetError: there are fewer than `FEWEST` images.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shades = np.linspace(0.2, 1.0, 60)
        >>> images = shades[:, None, None] * rng.uniform(size=(60, 28, 28))
        >>> probe(images, shades, np.arange(60)).value > 0.9
        True
    """
    from scipy.stats import spearmanr
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    described = np.stack([describe(image) for image in images])
    z, groups = np.asarray(logits, dtype=np.float64), np.unique(np.asarray(patients), return_inverse=True)[1]
    if len(described) < FEWEST:
        raise DatasetError(f"Expected at least {FEWEST} normal images for the acquisition probe, got {len(described)}.")
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 11)))
    predicted = cross_val_predict(ridge, described, z, groups=groups, cv=GroupKFold(min(5, groups.max() + 1)))

    def correlation(_: NDArray[np.int64], drawn: NDArray[np.float64]) -> float:
        chosen = drawn.astype(int)
        return float(spearmanr(predicted[chosen], z[chosen]).statistic)

    return metrics.bootstrap(correlation, np.zeros(len(z), dtype=int), np.arange(len(z)), groups)
