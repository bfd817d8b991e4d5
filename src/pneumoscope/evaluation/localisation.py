"""An approximate mask of the thorax, to measure whether a model looks at it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH = 0.48
"""The semi-axes of the ellipse, as a share of the image's sides: it excludes the edges and corners."""


def inside(height: int, width: int, reach: float = REACH) -> NDArray[np.bool_]:
    """Mark the ellipse that contains the thorax on a centred, closely cropped frontal radiograph.

    The lungs are not segmented: the ellipse holds the lungs, the mediastinum and a part of the shoulders. The corners
    and edges outside it hold letters, frames, arms and the table.

    Example:
        >>> inside(4, 4).astype(int).tolist()
        [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    """
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.asarray((y[:, None] / reach) ** 2 + (x / reach) ** 2 <= 1.0)


def outside_share(evidence: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Measure how much of the evidence for `PNEUMONIA` lies outside the ellipse.

    Each cell counts by the share of its area that is outside; evidence against `PNEUMONIA` does not count.

    Args:
        evidence: (N, h, w), what each cell adds to the logit compared with a usual image.

    Returns:
        (N,), in [0, 1]; 0 if there is no evidence for `PNEUMONIA`. Evenly spread evidence gives about 0.28.

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
    """Hide the thorax, or everything but the thorax, by painting it with the mean brightness of the rest.

    Args:
        image: (H, W) in [0, 1], at least 4 x 4.
        thorax: whether to hide the thorax (or else everything around it).

    Example:
        >>> hide(np.eye(4, dtype=np.float32), thorax=True).round(1).tolist()
        [[1.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0]]
    """
    hidden = inside(*image.shape) == thorax
    return np.where(hidden, image[~hidden].mean(), image).astype(np.float32)
