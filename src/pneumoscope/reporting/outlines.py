"""The regions that a model counted, as closed lines on the image, for viewers that cannot draw a tint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 64
"""Steps a side at which the evidence is interpolated, as on the page."""


def outlines(evidence: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """Outline where the evidence for pneumonia is at least half of its maximum.

    Args:
        evidence: (h, w), what each cell adds to the logit beyond a usual image; the cells divide the image evenly.

    Returns:
        Closed lines, each (n, 2): x and y as shares of the image's width and height, in [0, 1]. The last point equals
        the first. Holes have a line as well. Empty if nothing speaks for pneumonia.

    Example:
        >>> (line,) = outlines(np.diag([0.0, 1.0, 0.0]))
        >>> line.min(axis=0).round(2), line.max(axis=0).round(2)
        (array([0.33, 0.33]), array([0.67, 0.67]))
    """
    from contourpy import contour_generator

    along, down = (_weights(cells) for cells in evidence.shape[::-1])
    field = np.pad(down @ evidence @ along.T, 1)  # regions that touch the border are closed along it
    half = float(field.max()) / 2
    if half <= 0.0:
        return []
    places = np.arange(-1, _STEPS + 2) / _STEPS
    lines = contour_generator(places, places, field, line_type="Separate").lines(half)
    return [np.clip(np.asarray(line, dtype=np.float64), 0.0, 1.0) for line in lines]


def _weights(cells: int) -> NDArray[np.float64]:
    """Return the weight of each cell at each step, (`_STEPS` + 1, cells), for linear interpolation between centres."""
    positions = np.clip(np.linspace(0.0, cells, _STEPS + 1) - 0.5, 0.0, cells - 1.0)
    return np.asarray(np.maximum(1.0 - np.abs(positions[:, None] - np.arange(cells)), 0.0))
