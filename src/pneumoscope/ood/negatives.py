"""Negative examples for training: images that are not chest radiographs, drawn or made from radiographs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.ood import synthetic
from pneumoscope.ood.synthetic import Pixels

Images = NDArray[np.floating[Any]]

_GROUNDS = ("page", "chart", "photograph", "gradient", "noise", "shapes")


def draw(kind: str, rng: np.random.Generator, size: int, images: Images) -> NDArray[np.float32]:
    """Draw one image that is not a chest radiograph.

    Args:
        kind: one of `KINDS`.
        rng: the source of randomness.
        size: the side of the square image, in pixels, at least 16.
        images: (N, S, S) in [0, 1], radiographs from which the kinds in `OF_IMAGES` are made.

    Returns:
        (size, size) in [0, 1], with random contrast and brightness, sometimes inverted.

    Raises:
        KeyError: there is no such kind.

    Example:
        >>> draw("shapes", np.random.default_rng(0), 32, np.zeros((1, 32, 32))).shape
        (32, 32)
    """
    image = OF_IMAGES[kind](rng, size, images) if kind in OF_IMAGES else synthetic.KINDS[kind](rng, size)
    image = np.clip(np.nan_to_num(image), 0.0, 1.0)
    # Some are made symmetric like a chest, except those from radiographs: half a chest would become a whole one.
    if rng.random() < 0.2 and kind not in OF_IMAGES:
        image = np.maximum(image, image[:, ::-1]) if rng.random() < 0.5 else (image + image[:, ::-1]) / 2
    if rng.random() < 0.3:
        image = 1.0 - image
    low, high = np.sort(rng.uniform(0.0, 1.0, 2)) if rng.random() < 0.3 else (0.0, 1.0)
    return np.asarray(low + (high - low) * image ** np.exp(rng.uniform(-0.7, 0.7)), dtype=np.float32)


def _one_of(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    image = images[rng.integers(len(images))].astype(np.float32)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def _shuffled(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Cut an image into a grid of tiles and shuffle them, sometimes turning them too."""
    image, n = _one_of(rng, size, images), int(rng.integers(2, 9))
    edges = np.linspace(0, size, n + 1).astype(int)
    order = rng.permutation(n * n)
    while n == 2 and (order.reshape(2, 2) == np.arange(4).reshape(2, 2)).sum() > 1:
        order = rng.permutation(4)  # an image with two of its quarters swapped still shows half a chest
    shuffled, turned = np.zeros_like(image), rng.random() < 0.3
    for place, tile in enumerate(order):
        (r, c), (i, j) = divmod(place, n), divmod(int(tile), n)
        piece = image[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
        piece = np.rot90(piece, int(rng.integers(4))) if turned else piece
        shape = edges[c + 1] - edges[c], edges[r + 1] - edges[r]
        shuffled[edges[r] : edges[r + 1], edges[c] : edges[c + 1]] = np.asarray(
            Image.fromarray(piece.copy()).resize(shape)
        )
    return shuffled


def _piece(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Cut a small piece out of an image: at most a ninth of it, anywhere."""
    image = _one_of(rng, size, images)
    height, width = (max(4, int(size * share)) for share in rng.uniform(0.08, 0.33, 2))
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    piece = np.rot90(image[top : top + height, left : left + width], int(rng.integers(4))).copy()
    return np.asarray(Image.fromarray(piece).resize((size, size), Image.Resampling.BILINEAR))


def _part(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Crop an image to at most its upper, lower, left or right half, or a piece of that."""
    image = _one_of(rng, size, images)
    shares = rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.0)
    height, width = (int(size * share) for share in (shares if rng.random() < 0.5 else shares[::-1]))
    top, left = (rng.choice((0, size - side)) for side in (height, width))
    piece = image[top : top + height, left : left + width].copy()
    return np.asarray(Image.fromarray(piece).resize((size, size), Image.Resampling.BILINEAR))


def _blurred(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Blur an image, or reduce it to a few pixels, so that no lung can be seen."""
    from scipy.ndimage import gaussian_filter

    image = _one_of(rng, size, images)
    if rng.random() < 0.5:
        return np.asarray(gaussian_filter(image, size * rng.uniform(0.05, 0.2)))
    few = rng.integers(3, 12, 2).tolist()
    tiny = Image.fromarray(image).resize(few, Image.Resampling.BOX)
    return np.asarray(tiny.resize((size, size), Image.Resampling(int(rng.integers(4)))))


def _framed(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Place an image on an uneven background such as a page or a screen, of at least 1.5 times its height and width."""
    ground = 0.7 * synthetic.KINDS[rng.choice(_GROUNDS)](rng, size) + 0.3 * synthetic.KINDS["noise"](rng, size)
    height, width = (int(size * share) for share in rng.uniform(0.25, 0.65, 2))
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    image = Image.fromarray(_one_of(rng, size, images)).resize((width, height), Image.Resampling.BILINEAR)
    ground[top : top + height, left : left + width] = np.asarray(image)
    return ground


def _scrambled(rng: np.random.Generator, size: int, images: Images) -> Pixels:
    """Randomise the phases of an image's spectrum, which keeps its texture but not its content."""
    image = _one_of(rng, size, images)
    phases = np.exp(1j * np.angle(np.fft.rfft2(rng.normal(size=image.shape))))
    return synthetic.stretched(np.fft.irfft2(np.abs(np.fft.rfft2(image - image.mean())) * phases, s=image.shape))


OF_IMAGES: dict[str, Callable[[np.random.Generator, int, Images], Pixels]] = {
    "shuffled image": _shuffled,
    "piece of an image": _piece,
    "part of an image": _part,
    "blurred image": _blurred,
    "framed image": _framed,
    "scrambled image": _scrambled,
}

KINDS = (*synthetic.KINDS, *OF_IMAGES)
"""The kinds of images that `draw` can make."""
