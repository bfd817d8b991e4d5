"""Photographs of a screen or a light box that are gray: known by the straight edges of what shows the radiograph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pneumoscope.imaging import radiograph

EDGE = 0.14
"""How much brighter it is outside of an edge than inside, of the full range, all along; of 7,528 radiographs of two
hospitals two have such edges on three sides, where the lungs end."""

STEEPEST = 0.15
"""How far an edge may lean, in pixels a pixel: cameras are not held straight."""

_SIDE, _BANDS, _SLOPES = 224, 8, 11
_HALF = _SIDE // 2
_REACH = np.arange(2, 100)
"""Where from the side of the image an edge is looked for, halfway along it."""

_HEIGHT = _HALF // _BANDS
_FROM_MIDDLE = np.arange(_BANDS) * _HEIGHT + (_HEIGHT - 1) / 2 - (_HALF - 1) / 2
_LINES = np.clip(
    np.round(_REACH + np.linspace(-STEEPEST, STEEPEST, _SLOPES)[:, None, None] * _FROM_MIDDLE[:, None]), 0, _SIDE - 1
).astype(np.intp)  # (slopes, bands, places)
_ROWS = np.arange(_BANDS)[None, :, None]


def remarks(pixels: NDArray[np.floating[Any]]) -> list[str]:
    """Say whether an image seems to be a photograph of a screen or a light box, although it is gray.

    The edges of screens and films are straight, and what is around them is brighter: a room, a light box. Those of the
    chest bend. An edge is looked for along the middle half of each side, and has to be there on three sides.

    Args:
        pixels: (S, S) in [0, 1], without an even frame, as the network looks at it.

    Returns:
        `photograph_of_screen` or nothing.

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
    """Give how much brighter it is to the left of the straightest edge on the left, where it is the least so.

    Looked for in the middle half of the image, (bands, width).

    Where some part has no such edge at all, as in most images, no line has to be followed.
    """
    brighter = np.zeros_like(middle)
    brighter[:, 1:-1] = middle[:, :-2] - middle[:, 2:]
    near = brighter.copy()  # an edge may bend by a pixel, as lenses have it
    near[:, 1:] = np.maximum(near[:, 1:], brighter[:, :-1])
    near[:, :-1] = np.maximum(near[:, :-1], brighter[:, 1:])
    most = float(near.max(axis=1).min())
    return most if most <= EDGE else float(near[_ROWS, _LINES].min(axis=1).max())
