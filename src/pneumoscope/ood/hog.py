"""A compact descriptor of an image: local histograms of edge directions, and coarse brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, CELLS, DIRECTIONS, SPOTS = 64, 8, 12, 16
"""The side of the image in pixels; cells per side; edge directions per cell; brightness averages per side."""

_CELL = np.arange(SIDE) // (SIDE // CELLS)
_FIRST = (_CELL[:, None] * CELLS + _CELL) * DIRECTIONS  # index of the first count of each pixel's cell
_SPOTS = np.kron(np.eye(SPOTS), np.full(SIDE // SPOTS, SPOTS / SIDE)).astype(np.float32)  # averages, (SPOTS, SIDE)

LENGTH = CELLS**2 * (DIRECTIONS + 1) + SPOTS**2
"""The length of a descriptor."""


def small(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Reduce an image (H, W) to (`SIDE`, `SIDE`) by averaging; an image of that size is returned unchanged.

    Example:
        >>> small(np.ones((128, 256))).shape
        (64, 64)
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.shape == (SIDE, SIDE):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def describe(image: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Describe an image by its edges and coarse brightness, independently of exposure, contrast and size.

    The descriptor holds histograms of oriented gradients (Dalal and Triggs 2005, "Histograms of Oriented Gradients for
    Human Detection"), normalised over 3 x 3 cells and capped; the mean brightness in `SPOTS` x `SPOTS` squares; and the
    logarithm of the edge strength around each cell. Directions cover the full circle, so that inversion matters.

    Args:
        image: (H, W), of any range, or the output of `small`.

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
