"""What the colours of an image tell: radiographs are gray, pseudo-coloured images and photographs are not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TINTED = 0.008
"""How far the colours of most lit places lie apart from which an image is no gray one: more than two steps of 8 bits,
which a conversion may leave. Of radiographs stored in colour they do not lie apart at all."""

LIT = 0.2
"""How bright a place is at the least whose tint is counted: black has none."""

VIVID = 0.25
"""The same, of pixels that no light or stain tints."""

COLOURED = 0.1
"""The share of vivid pixels from which an image is coloured; coloured letters and marks cover less."""

ONE_TINT = 0.85
"""How alike the directions of the tints are, from 0 to 1, where one light or stain makes them all."""

_SIDE = 64


def remarks(colours: NDArray[np.floating[Any]]) -> list[str]:
    """Say whether an image is pseudo-coloured, or tinted as a photograph of a screen or a light box is.

    Args:
        colours: (H, W, 3 or more) in [0, 1]: red, green and blue first.

    Returns:
        `pseudo_coloured`, `photograph_of_screen` or nothing.

    Example:
        >>> remarks(np.full((8, 8, 3), 0.5)), remarks(np.full((8, 8, 3), [0.4, 0.5, 0.5]))
        ([], ['photograph_of_screen'])
    """
    height, width = colours.shape[:2]
    some = colours[:: max(1, height // _SIDE), :: max(1, width // _SIDE), :3].reshape(-1, 3)
    red, green, blue = some.T
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if apart.max() <= TINTED:  # gray, as radiographs that are stored in colour
        return []
    vivid = apart > VIVID
    ground = apart[~vivid & (some.max(axis=1) > LIT)]
    tinted = bool(ground.size) and float(np.median(ground)) > TINTED
    if vivid.mean() <= COLOURED:  # coloured letters, if any, on gray or tinted ground
        return ["photograph_of_screen"] if tinted else []
    if ground.size and not tinted:  # one light tints all of an image, a mask over it does not
        return ["pseudo_coloured"]
    tints = some - some.mean(axis=1, keepdims=True)
    alike = np.linalg.norm(tints.sum(axis=0)) / np.linalg.norm(tints, axis=1).sum()
    return ["photograph_of_screen"] if alike > ONE_TINT and apart.mean() < VIVID else ["pseudo_coloured"]
