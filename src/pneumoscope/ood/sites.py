"""Sampling, weights and limits for several sites: each site counts equally, and a limit holds at each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 20
"""A site with fewer images has no limit of its own, because a single outlier would set it."""


def chosen(sites: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose the same number of images from each site, or all from a site that has fewer.

    Args:
        sites: (N,), the site of each image.
        most: the most images to choose.
        rng: the source of randomness.

    Returns:
        The positions of the chosen images, sorted.

    Example:
        >>> chosen(np.array(["a"] * 90 + ["b"] * 10), 30, np.random.default_rng(0)).searchsorted(90)
        np.int64(20)
    """
    names, counts = np.unique(sites, return_counts=True)
    kept: list[NDArray[np.int64]] = []
    remaining = most
    for left, i in zip(range(len(names), 0, -1), np.argsort(counts), strict=True):
        places = rng.permutation(np.flatnonzero(sites == names[i]))[: remaining // left]
        remaining -= len(places)
        kept.append(places)
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def weights(sites: NDArray[Any]) -> NDArray[np.float64]:
    """Weight images (N,) so that each site has the same total weight, and the mean weight is 1.

    Example:
        >>> weights(np.array(["a", "a", "a", "b"])).round(2).tolist()
        [0.67, 0.67, 0.67, 2.0]
    """
    _, place, counts = np.unique(sites, return_inverse=True, return_counts=True)
    return np.asarray(len(sites) / (len(counts) * counts[place]), dtype=np.float64)


def limit(values: NDArray[np.floating[Any]], sites: NDArray[Any] | None, beyond: float) -> float:
    """Return a value that at most a given share of the images exceeds, overall and at each site.

    A new image from one of the sites exceeds it with a probability of at most `beyond` (split conformal prediction).

    Args:
        values: (N,), N > 0, values of held-out images.
        sites: (N,), the site of each image; None if there is only one. Sites with fewer than `FEW` images set no limit.
        beyond: the share, in (0, 1).

    Example:
        >>> values = np.concatenate([np.arange(99.0), 10 * np.arange(99.0)])
        >>> limit(values, None, 0.1), limit(values, np.repeat(["a", "b"], 99), 0.1)
        (800.0, 890.0)
    """
    parts = [values]
    if sites is not None:
        names, counts = np.unique(sites, return_counts=True)
        parts += [values[sites == name] for name in names[counts >= FEW]]
    ranks = [min(len(part), math.ceil((1.0 - beyond) * (len(part) + 1))) for part in parts]
    return max(float(np.sort(part)[rank - 1]) for part, rank in zip(parts, ranks, strict=True))
