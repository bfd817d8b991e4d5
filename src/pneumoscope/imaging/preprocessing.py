"""Finds and crops an even frame around an image, and maps evidence back onto the uncropped image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumoscope.imaging import radiograph

WIDE = 0.05
"""The share of an image from which on a frame is cropped; narrower frames vary between images of one scanner."""

EVEN = 0.04
"""The largest difference within a row or column of a frame, as a share of the full range."""


class Box(NamedTuple):
    """A part of an image, with coordinates in [0, 1] of its height and width."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """The share of the image inside the box."""
        return (self.bottom - self.top) * (self.right - self.left)


def inside(image: NDArray[np.floating[Any]]) -> Box:
    """Find the part of an image within the even rows and columns at its edges.

    Args:
        image: (H, W) in [0, 1], already reduced, so that noise and JPEG ringing are averaged out.

    Returns:
        The part; the whole image if it has no frame, or is even throughout.

    Example:
        >>> image = np.zeros((8, 8))
        >>> image[1:7, :] = np.linspace(0.2, 0.9, 8)
        >>> inside(image)
        Box(top=0.25, left=0.0, bottom=0.75, right=1.0)
    """
    (top, bottom), (left, right) = _ends(image), _ends(image.T)
    return Box(top, left, bottom, right)


def _ends(rows: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return where the uneven rows begin and end, without the first and last, which usually straddle the frame."""
    if (np.ptp(rows[[0, -1]], axis=1) > EVEN).all():  # true of most images
        return 0.0, 1.0
    n, shown = len(rows), np.flatnonzero(np.ptp(rows, axis=1) > EVEN)
    if len(shown) < 3:
        return 0.0, 1.0
    first, last = int(shown[0]), int(shown[-1])
    return (first + 1 if first else 0) / n, (last if last < n - 1 else n) / n


def squash(image: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], Box]:
    """Squash an image to the square that a network takes, after cropping a wide frame.

    Training, evaluation and prediction all use this function: images padded to a square with black, or collimated,
    would otherwise look unlike the training images.

    Args:
        image: float32 (H, W) in [0, 1].
        size: the side of the square, in pixels.

    Returns:
        float32 (size, size) in [0, 1], and the part of the image that it shows.

    Example:
        >>> image = np.pad(np.random.default_rng(0).random((32, 32), np.float32), ((0, 0), (16, 16)))
        >>> squash(image, 64)[1].left
        0.265625
    """
    squashed = radiograph.resize(image, size)
    box = inside(squashed)
    if box.area > 1.0 - WIDE:
        return squashed, Box(0.0, 0.0, 1.0, 1.0)
    return radiograph.resize(cut(image, box), size), box


def cut(image: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Crop an image (H, W) to a box.

    Example:
        >>> cut(np.ones((8, 6), np.float32), Box(0.25, 0.0, 0.75, 0.5)).shape
        (4, 3)
    """
    height, width = image.shape
    rows = slice(round(box.top * height), max(round(box.bottom * height), round(box.top * height) + 1))
    columns = slice(round(box.left * width), max(round(box.right * width), round(box.left * width) + 1))
    return np.ascontiguousarray(image[rows, columns])


def spread(evidence: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Map the evidence of a part of an image onto the whole image; the rest of the image has none.

    Args:
        evidence: (h, w), whose cells divide the part evenly.
        box: the part.

    Returns:
        The evidence itself if the part is the whole image; otherwise (2 h, 2 w), whose cells divide the image evenly
        and have the same sum.

    Example:
        >>> spread(np.ones((1, 1), np.float32), Box(0.5, 0.0, 1.0, 1.0))
        array([[0. , 0. ],
               [0.5, 0.5]], dtype=float32)
    """
    if box.area == 1.0:
        return evidence
    rows = _shares(evidence.shape[0], box.top, box.bottom)
    columns = _shares(evidence.shape[1], box.left, box.right)
    return np.asarray(rows @ evidence @ columns.T, dtype=np.float32)


def _shares(n: int, start: float, end: float) -> NDArray[np.float64]:
    """Return (2 n, n): the share of each of n cells between start and end that lies in each of 2 n cells in [0, 1]."""
    cells, places = np.linspace(start, end, n + 1), np.linspace(0.0, 1.0, 2 * n + 1)
    low, high = np.maximum(cells[:-1], places[:-1, None]), np.minimum(cells[1:], places[1:, None])
    return np.asarray(np.maximum(high - low, 0.0) / np.diff(cells))
