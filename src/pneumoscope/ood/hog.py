"""An image as a few numbers: which way its edges run, place by place, and where it is bright."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, CELLS, DIRECTIONS, SPOTS = 64, 8, 12, 16
"""Pixels a side that are looked at; cells a side whose edges are counted; directions of an edge; spots of brightness a
side."""

_CELL = np.arange(SIDE) // (SIDE // CELLS)
_FIRST = (_CELL[:, None] * CELLS + _CELL) * DIRECTIONS  # of the counts of each pixel's cell
_SPOTS = np.kron(np.eye(SPOTS), np.full(SIDE // SPOTS, SPOTS / SIDE)).astype(np.float32)  # averages, (SPOTS, SIDE)

LENGTH = CELLS**2 * (DIRECTIONS + 1) + SPOTS**2
"""How many numbers describe an image."""


def small(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Average an image (H, W) to (`SIDE`, `SIDE`); one of that size stays as it is.

    Example:
        >>> small(np.ones((128, 256))).shape
        (64, 64)
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.shape == (SIDE, SIDE):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def describe(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Describe an image by its outlines, whatever its exposure, contrast and size.

    Histograms of oriented gradients (Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human Detection"),
    each cell against the 3 x 3 cells around it and capped; how strong the edges of each cell are, as a logarithm; and
    the image in `SPOTS` x `SPOTS` spots. Directions go all the way round, so that an inverted image has other ones.

    Args:
        image: (H, W), of any range; or what `small` gave of it.

    Returns:
        (`LENGTH`,).

    Example:
        >>> describe(np.eye(32)).shape
        (1088,)
    """
    pixels = small(image)
    pixels = pixels - pixels.mean()
    pixels /= np.sqrt(np.square(pixels).mean()) + np.float32(0.01)
    down, across = np.gradient(pixels)
    strength = np.sqrt(across * across + down * down)
    angle = np.arctan2(down, across) * np.float32(DIRECTIONS / (2 * np.pi))
    direction = np.where(angle < 0, angle + DIRECTIONS, angle)
    first = np.minimum(direction.astype(np.int64), DIRECTIONS - 1)
    share = direction - first  # of the next direction
    counts = sum(
        np.bincount((_FIRST + way).ravel(), (strength * weight).ravel(), CELLS**2 * DIRECTIONS)
        for way, weight in ((first, 1.0 - share), ((first + 1) % DIRECTIONS, share))
    )
    edges = np.reshape(counts, (CELLS, CELLS, DIRECTIONS))
    energy = (edges**2).sum(axis=-1)
    above, below = np.maximum(np.arange(CELLS) - 1, 0), np.minimum(np.arange(CELLS) + 1, CELLS - 1)
    rows = energy[above] + energy + energy[below]
    around = (rows[:, above] + rows + rows[:, below]) / 9
    edges = np.minimum(edges / np.sqrt(around + 1.6)[..., None], 0.4)
    spots = _SPOTS @ pixels @ _SPOTS.T
    return np.concatenate([edges.ravel(), 0.3 * spots.ravel(), 0.1 * np.log(around + 1e-3).ravel()]).astype(np.float32)
