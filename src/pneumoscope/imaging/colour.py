"""Recognises pseudo-coloured images and photographs by their colours; radiographs are gray."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TINTED = 0.008
"""An image is tinted if the median difference between the colour channels of its lit pixels exceeds this: more than the
two 8-bit steps that a conversion may leave. Radiographs stored in colour have no difference at all."""

LIT = 0.2
"""The least brightness of a pixel whose tint counts: black has none."""

VIVID = 0.25
"""A pixel is vivid if its channels differ by more than this, which light or stain alone does not cause."""

COLOURED = 0.1
"""An image is coloured if a larger share of its pixels is vivid; coloured letters and marks cover less."""

ONE_TINT = 0.85
"""How well the tints agree in direction, from 0 to 1, if a single light or stain causes them all."""

_SIDE = 64


def remarks(colours: NDArray[np.floating[Any]]) -> list[str]:
    """Recognise a pseudo-coloured image, or one tinted like a photograph of a screen or a light box.

    Args:
        colours: (H, W, 3 or more) in [0, 1]: red, green and blue first.

    Returns:
        `pseudo_coloured` or `photograph_of_screen`, or an empty list.

    Example:
        >>> remarks(np.full((8, 8, 3), 0.5)), remarks(np.full((8, 8, 3), [0.4, 0.5, 0.5]))
        ([], ['photograph_of_screen'])
    """
    height, width = colours.shape[:2]
    some = colours[:: max(1, height // _SIDE), :: max(1, width // _SIDE), :3].reshape(-1, 3)
    red, green, blue = some.T
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if apart.max() <= TINTED:  # a gray image stored in colour
        return []
    vivid = apart > VIVID
    ground = apart[~vivid & (some.max(axis=1) > LIT)]
    tinted = bool(ground.size) and float(np.median(ground)) > TINTED
    if vivid.mean() <= COLOURED:  # at most coloured letters on a gray or tinted background
        return ["photograph_of_screen"] if tinted else []
    if ground.size and not tinted:  # a light tints the whole image, a coloured mask does not
        return ["pseudo_coloured"]
    tints = some - some.mean(axis=1, keepdims=True)
    alike = np.linalg.norm(tints.sum(axis=0)) / np.linalg.norm(tints, axis=1).sum()
    return ["photograph_of_screen"] if alike > ONE_TINT and apart.mean() < VIVID else ["pseudo_coloured"]
