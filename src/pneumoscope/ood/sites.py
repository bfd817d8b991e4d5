"""What is fitted on images of several sites: each site counts alike, and a limit holds at each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 20
"""With fewer images a site has no limit of its own: one odd image would set it."""


def chosen(sites: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose images of all sites, of each as many, or all where it has fewer.

    Args:
        sites: (N,), the site of each image.
        most: how many to choose, at most.
        rng: says which.

    Returns:
        Their positions, sorted.

    Example:
        >>> chosen(np.array(["a"] * 90 + ["b"] * 10), 30, np.random.default_rng(0)).searchsorted(90)
        np.int64(20)
    """
    names, counts = np.unique(sites, return_counts=True)
    kept: list[NDArray[np.int64]] = []
    room = most
    for left, i in zip(range(len(names), 0, -1), np.argsort(counts), strict=True):
        places = rng.permutation(np.flatnonzero(sites == names[i]))[: room // left]
        room -= len(places)
        kept.append(places)
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def weights(sites: NDArray[Any]) -> NDArray[np.float64]:
    """Weigh images (N,) so that each site has the same weight in all, and an image 1 on average.

    Example:
        >>> weights(np.array(["a", "a", "a", "b"])).round(2).tolist()
        [0.67, 0.67, 0.67, 2.0]
    """
    _, place, counts = np.unique(sites, return_inverse=True, return_counts=True)
    return np.asarray(len(sites) / (len(counts) * counts[place]), dtype=np.float64)


def limit(values: NDArray[np.floating[Any]], sites: NDArray[Any] | None, beyond: float) -> float:
    """Give the value that all but a share of the images keep, of all of them and at each site.

    A new image of one of the sites is beyond it with a chance of at most `beyond` (split conformal prediction).

    Args:
        values: (N,), N > 0, of held-out images.
        sites: (N,), the site of each; None where there is one. Those with fewer than `FEW` images set no limit.
        beyond: the share.

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
