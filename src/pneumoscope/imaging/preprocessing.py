"""An even frame around an image: found, cut off, and evidence put back to where it belongs on the image as it came."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumoscope.imaging import radiograph

WIDE = 0.05
"""A frame of so much of an image is cut off; narrower ones vary from image to image of one scanner."""

EVEN = 0.04
"""Of the full range: what rows and columns of a frame differ by at most."""


class Box(NamedTuple):
    """A part of an image, from 0 to 1 of its height and width."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def area(self) -> float:
        """The share of the image that lies within."""
        return (self.bottom - self.top) * (self.right - self.left)


def inside(image: NDArray[np.floating[Any]]) -> Box:
    """Find the part of an image within the even rows and columns at its edges.

    Args:
        image: (H, W) in [0, 1], already small: noise and a JPEG's ringing are to be averaged out.

    Returns:
        The part; all of the image where it has no frame, or nothing in it.

    Example:
        >>> image = np.zeros((8, 8))
        >>> image[1:7, :] = np.linspace(0.2, 0.9, 8)
        >>> inside(image)
        Box(top=0.25, left=0.0, bottom=0.75, right=1.0)
    """
    (top, bottom), (left, right) = _ends(image), _ends(image.T)
    return Box(top, left, bottom, right)


def _ends(rows: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Say where rows that show something begin and end; the first and last, half frame as a rule, go with the frame."""
    if (np.ptp(rows[[0, -1]], axis=1) > EVEN).all():  # as of most images
        return 0.0, 1.0
    n, shown = len(rows), np.flatnonzero(np.ptp(rows, axis=1) > EVEN)
    if len(shown) < 3:
        return 0.0, 1.0
    first, last = int(shown[0]), int(shown[-1])
    return (first + 1 if first else 0) / n, (last if last < n - 1 else n) / n


def squash(image: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], Box]:
    """Squash an image to the square a network looks at, without the frame around it where that is wide.

    Training, evaluation and prediction all do it here: images made square with black, or collimated, otherwise look
    like none that was learnt from.

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
    """Give the part of an image (H, W) that lies in a box.

    Example:
        >>> cut(np.ones((8, 6), np.float32), Box(0.25, 0.0, 0.75, 0.5)).shape
        (4, 3)
    """
    height, width = image.shape
    rows = slice(round(box.top * height), max(round(box.bottom * height), round(box.top * height) + 1))
    columns = slice(round(box.left * width), max(round(box.right * width), round(box.left * width) + 1))
    return np.ascontiguousarray(image[rows, columns])


def spread(evidence: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """Lay the evidence of a part of an image over all of the image; what lies around the part has none.

    Args:
        evidence: (h, w), whose cells divide the part evenly.
        box: the part.

    Returns:
        The evidence itself where the part is all of the image; else (2 h, 2 w), whose cells divide the image evenly,
        and whose sum is the same.

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
    """Give (2 n, n): how much of each of n cells between start and end lies in each of 2 n cells from 0 to 1."""
    cells, places = np.linspace(start, end, n + 1), np.linspace(0.0, 1.0, 2 * n + 1)
    low, high = np.maximum(cells[:-1], places[:-1, None]), np.minimum(cells[1:], places[1:, None])
    return np.asarray(np.maximum(high - low, 0.0) / np.diff(cells))
