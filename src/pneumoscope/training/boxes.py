"""Turns radiologists' boxes into masks for training the evidence map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pneumoscope.data.layouts import Sample
from pneumoscope.evaluation.boxes import opacities
from pneumoscope.imaging import preprocessing


def masks(
    samples: Sequence[Sample], parts: Sequence[preprocessing.Box], side: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]] | None:
    """Draw the boxes of images into masks.

    Args:
        samples: the images.
        parts: the part of each image that the network sees.
        side: the side of the masks, in cells.

    Returns:
        (N, side, side), the share of each cell that boxes cover; and (N,), whether the mask is complete: an image of
        pneumonia has boxes, or another image shows no other finding either. None if no image has a box.

    Example:
        >>> from pathlib import Path
        >>> from pneumoscope.data.layouts import Box
        >>> whole = preprocessing.Box(0.0, 0.0, 1.0, 1.0)
        >>> image = Sample(Path("a.png"), 1, "a", boxes=(Box("opacity", 0.0, 0.0, 0.75, 0.5),))
        >>> masks([image], [whole], 2)[0][0].tolist()
        [[1.0, 0.5], [0.0, 0.0]]
    """
    shown = [opacities(sample) for sample in samples]
    if not any(shown):
        return None
    drawn = np.zeros((len(samples), side, side), np.float16)
    for mask, boxes, part in zip(drawn, shown, parts, strict=True):
        for box in boxes:
            rows = _covered(box.top, box.bottom, part.top, part.bottom, side)
            columns = _covered(box.left, box.right, part.left, part.right, side)
            np.maximum(mask, (rows[:, None] * columns).astype(np.float16), out=mask)
    told = [bool(boxes) if sample.label else not sample.other for sample, boxes in zip(samples, shown, strict=True)]
    return drawn, np.array(told)


def _covered(start: float, end: float, low: float, high: float, side: int) -> NDArray[np.float64]:
    """Return (side,): the share of each cell between low and high that lies between start and end."""
    edges = np.linspace(low, high, side + 1)
    covered = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return np.asarray(np.clip(covered / (high - low) * side, 0.0, 1.0))
