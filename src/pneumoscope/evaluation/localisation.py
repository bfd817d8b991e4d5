"""Where the thorax is on a frontal radiograph, to measure whether a model looks at it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH = 0.48
"""The ellipse's half axes, as a share of the image's sides: it leaves out the edge and the corners."""


def inside(height: int, width: int, reach: float = REACH) -> NDArray[np.bool_]:
    """Mark the pixels of the ellipse that the thorax of a frontal radiograph, centred and cut close, lies in.

    No lungs are segmented: what is marked holds the lungs, the mediastinum and some of the shoulders; what is not, the
    corners and the edge, where letters, frames, arms and the table are.

    Example:
        >>> inside(4, 4).astype(int).tolist()
        [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    """
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.asarray((y[:, None] / reach) ** 2 + (x / reach) ** 2 <= 1.0)


def outside_share(evidence: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Measure how much of the evidence for `PNEUMONIA` lies outside the ellipse.

    A place of the map counts by the share of its area that is outside; evidence against `PNEUMONIA` does not count.

    Args:
        evidence: (N, h, w), what each place adds to the logit beyond a usual image.

    Returns:
        (N,), in [0, 1]; 0 where nothing speaks for `PNEUMONIA`. Evidence that is spread evenly gives about 0.28.

    Example:
        >>> corner = np.zeros((1, 6, 6)); corner[0, 0, 0] = 1.0
        >>> outside_share(corner) > 0.7
        array([ True])
    """
    height, width = evidence.shape[1:]
    fine = 32
    area = 1.0 - inside(fine * height, fine * width).reshape(height, fine, width, fine).mean(axis=(1, 3))
    positive = np.maximum(np.asarray(evidence, dtype=np.float64), 0.0)
    total = positive.sum(axis=(1, 2))
    outside = (positive * area).sum(axis=(1, 2))
    return np.asarray(np.divide(outside, total, out=np.zeros_like(total), where=total > 0))


def hide(image: NDArray[np.float32], *, thorax: bool) -> NDArray[np.float32]:
    """Paint the thorax, or all but the thorax, in the mean brightness of what stays: nothing of the hidden shows.

    Args:
        image: (H, W) in [0, 1], at least 4 x 4.
        thorax: whether it is the thorax that is hidden.

    Example:
        >>> hide(np.eye(4, dtype=np.float32), thorax=True).round(1).tolist()
        [[1.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0]]
    """
    hidden = inside(*image.shape) == thorax
    return np.where(hidden, image[~hidden].mean(), image).astype(np.float32)
