"""Corruptions that scanners, exporters and operators cause, to test a model's robustness."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.float32]
Shift = Callable[[Pixels, np.random.Generator], Pixels]


def apply(name: str, image: Pixels) -> Pixels:
    """Apply one of the `CORRUPTIONS` to an image.

    Random numbers are seeded with the image itself, so that an image is always corrupted in the same way.

    Args:
        name: a key of `CORRUPTIONS`.
        image: (H, W) in [0, 1].

    Returns:
        (H, W) in [0, 1].

    Raises:
        KeyError: there is no such corruption.

    Example:
        >>> apply("inverted", np.zeros((2, 2), dtype=np.float32))
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    rng = np.random.default_rng([zlib.crc32(np.ascontiguousarray(image).tobytes()), zlib.crc32(name.encode())])
    return np.clip(CORRUPTIONS[name](image, rng), 0.0, 1.0).astype(np.float32)


def compressed(image: Pixels, quality: int) -> Pixels:
    """Compress an image as JPEG and decode it again.

    Args:
        image: float32 (H, W) in [0, 1].
        quality: the JPEG quality, from 1 to 95.

    Returns:
        float32 (H, W) in [0, 1].

    Example:
        >>> compressed(np.full((8, 8), 0.2, np.float32), 90).shape
        (8, 8)
    """
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.round(image * 255))).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)


def sharpened(image: Pixels, amount: float) -> Pixels:
    """Amplify or reduce fine detail: the difference between a pixel and the mean of its 3 x 3 neighbourhood.

    Args:
        image: float32 (H, W); edge pixels are replicated.
        amount: 0 changes nothing, 1 doubles the detail, -1 removes it.

    Returns:
        float32 (H, W), not clipped.

    Example:
        >>> sharpened(np.float32([[0, 0, 0], [0, 1, 0], [0, 0, 0]]), -1).round(3)[1]
        array([0.111, 0.111, 0.111], dtype=float32)
    """
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    blurred = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9)
    return np.asarray(image + np.float32(amount) * (image - blurred), dtype=np.float32)


def _gamma(exponent: float) -> Shift:
    return lambda image, rng: image**exponent


def _window(low: float, high: float) -> Shift:
    return lambda image, rng: (image - low) / (high - low)


def _contrast(factor: float) -> Shift:
    return lambda image, rng: image.mean() + factor * (image - image.mean())


def _shading(strength: float) -> Shift:
    """Brighten towards one side, like a misaligned grid or an uneven plate."""

    def shade(image: Pixels, rng: np.random.Generator) -> Pixels:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
        return np.asarray(image + strength * (np.cos(angle) * x + np.sin(angle) * y), dtype=np.float32)

    return shade


def _blur(share: float) -> Shift:
    """Blur with a Gaussian whose standard deviation is a share of the image's longer side."""

    def blur(image: Pixels, rng: np.random.Generator) -> Pixels:
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(image, share * max(image.shape)), dtype=np.float32)

    return blur


def _noise(deviation: float) -> Shift:
    return lambda image, rng: image + rng.normal(0.0, deviation, image.shape).astype(np.float32)


def _turned(degrees: float) -> Shift:
    def turn(image: Pixels, rng: np.random.Generator) -> Pixels:
        return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))

    return turn


def _zoom(factor: float) -> Shift:
    """Magnify the middle, or shrink the whole image with black around it."""

    def zoom(image: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = image.shape
        box = tuple(side / 2 * (1 + sign / factor) for sign in (-1, 1) for side in (width, height))
        moved = Image.fromarray(image).transform(
            (width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=0
        )
        return np.asarray(moved)

    return zoom


def _border(share: float, brightness: float) -> Shift:
    """Cover the edges with an even frame, like a collimator or a scanner's lid."""

    def frame(image: Pixels, rng: np.random.Generator) -> Pixels:
        framed = np.full_like(image, brightness)
        rows, columns = (round(share * side) for side in image.shape)
        inner = (slice(rows, image.shape[0] - rows), slice(columns, image.shape[1] - columns))
        framed[inner] = image[inner]
        return framed

    return frame


def _letters(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Burn a side marker and a line of text into two corners."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    height, width = image.shape
    font = ImageFont.load_default(size=max(8, round(height / 10)))
    small = ImageFont.load_default(size=max(6, round(height / 22)))
    left = rng.random() < 0.5
    draw.text((width * (0.04 if left else 0.88), height * 0.04), "L" if left else "R", fill=1.0, font=font)
    draw.text((width * (0.5 if left else 0.04), height * 0.93), "AP ERECT 80 kV", fill=1.0, font=small)
    return np.asarray(canvas)


CORRUPTIONS: dict[str, Shift] = {
    "none": lambda image, rng: image,
    "gamma 0.6": _gamma(0.6),
    "gamma 1.7": _gamma(1.7),
    "narrow window": _window(0.15, 0.85),
    "wide window": _window(-0.25, 1.25),
    "contrast 0.6": _contrast(0.6),
    "contrast 1.4": _contrast(1.4),
    "shading": _shading(0.2),
    "blur": _blur(0.008),
    "noise": _noise(0.06),
    "jpeg quality 15": lambda image, rng: compressed(image, 15),
    "turned 8° left": _turned(8.0),
    "turned 8° right": _turned(-8.0),
    "zoom 1.15": _zoom(1.15),
    "zoom 0.85": _zoom(0.85),
    "black border": _border(0.06, 0.0),
    "white border": _border(0.04, 1.0),
    "letters": _letters,
    "inverted": lambda image, rng: 1.0 - image,
}
"""The corruptions by name. Each is weak enough that a person would still read the image without comment, except
`inverted`."""

APART = ("none", "inverted")
"""Entries that neither set a threshold nor count as the worst: no corruption, and a fault to warn about."""
