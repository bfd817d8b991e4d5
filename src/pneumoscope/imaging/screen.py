"""Gray photographs of a screen or a light box, recognised by the straight edges around the radiograph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.imaging import radiograph

EDGE = 0.14
"""How much brighter the outside of an edge must be than the inside, along all of it, as a share of the full range. Two
of 7,528 radiographs from two hospitals have such edges on three sides, at the borders of the lungs."""

STEEPEST = 0.15
"""How far an edge may lean, in pixels per pixel: cameras are not held straight."""

_SIDE, _BANDS, _SLOPES = 224, 8, 11
_HALF = _SIDE // 2
_REACH = np.arange(2, 100)
"""Distances from the side of the image at which an edge is looked for, measured halfway along the side."""

_HEIGHT = _HALF // _BANDS
_FROM_MIDDLE = np.arange(_BANDS) * _HEIGHT + (_HEIGHT - 1) / 2 - (_HALF - 1) / 2
_LINES = np.clip(
    np.round(_REACH + np.linspace(-STEEPEST, STEEPEST, _SLOPES)[:, None, None] * _FROM_MIDDLE[:, None]), 0, _SIDE - 1
).astype(np.intp)  # (slopes, bands, places)
_ROWS = np.arange(_BANDS)[None, :, None]


def remarks(pixels: NDArray[np.floating[Any]]) -> list[str]:
    """Recognise a gray photograph of a screen or a light box.

    The edges of screens and films are straight, and their surroundings (a room, a light box) are brighter; the edges of
    the chest are curved. An edge is looked for along the middle half of each side and must be found on three sides.

    Args:
        pixels: (S, S) in [0, 1], without an even frame, as the network takes it.

    Returns:
        `photograph_of_screen`, or an empty list.

    Example:
        >>> room = np.full((224, 224), 0.6)
        >>> room[30:200, 40:190] = 0.1
        >>> remarks(room), remarks(np.full((224, 224), 0.6))
        (['photograph_of_screen'], [])
    """
    image = radiograph.resize(np.asarray(pixels, dtype=np.float32), _SIDE)
    missing = 0
    for turned in (image, image.T):
        middle = turned[_HALF // 2 : _HALF // 2 + _HALF].reshape(_BANDS, _HEIGHT, _SIDE).mean(axis=1)
        for bands in (middle, middle[:, ::-1]):
            missing += _edge(bands) <= EDGE
            if missing > 1:
                return []
    return ["photograph_of_screen"]


def _edge(middle: NDArray[np.float32]) -> float:
    """Return the contrast of the straightest edge on the left: how much brighter its outside is, at the weakest band.

    Args:
        middle: (bands, width), the middle half of the image averaged in bands.
    """
    brighter = np.zeros_like(middle)
    brighter[:, 1:-1] = middle[:, :-2] - middle[:, 2:]
    near = brighter.copy()  # lens distortion may bend an edge by a pixel
    near[:, 1:] = np.maximum(near[:, 1:], brighter[:, :-1])
    near[:, :-1] = np.maximum(near[:, :-1], brighter[:, 1:])
    most = float(near.max(axis=1).min())  # an upper bound: in most images no line has to be followed
    return most if most <= EDGE else float(near[_ROWS, _LINES].min(axis=1).max())
