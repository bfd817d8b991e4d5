"""What scanners, exporters and technicians do to a film, so that a model can be tried on it before it meets it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.float32]
Shift = Callable[[Pixels, np.random.Generator], Pixels]


def apply(name: str, film: Pixels) -> Pixels:
    """Apply one shift of `SHIFTS` to a film.

    What is random in a shift is drawn from the film itself, so that a film always gets the same.

    Args:
        name: a key of `SHIFTS`.
        film: (H, W) in [0, 1].

    Returns:
        (H, W) in [0, 1].

    Raises:
        KeyError: there is no such shift.

    Example:
        >>> apply("inverted", np.zeros((2, 2), dtype=np.float32))
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    rng = np.random.default_rng([zlib.crc32(np.ascontiguousarray(film).tobytes()), zlib.crc32(name.encode())])
    return np.clip(SHIFTS[name](film, rng), 0.0, 1.0).astype(np.float32)


def _gamma(exponent: float) -> Shift:
    return lambda film, rng: film**exponent


def _window(low: float, high: float) -> Shift:
    return lambda film, rng: (film - low) / (high - low)


def _contrast(factor: float) -> Shift:
    return lambda film, rng: film.mean() + factor * (film - film.mean())


def _shading(strength: float) -> Shift:
    """Brighten towards one side, as a misplaced grid or an uneven plate does."""

    def shade(film: Pixels, rng: np.random.Generator) -> Pixels:
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in film.shape), indexing="ij")
        return np.asarray(film + strength * (np.cos(angle) * x + np.sin(angle) * y), dtype=np.float32)

    return shade


def _blur(share: float) -> Shift:
    """Blur with a Gaussian whose deviation is a share of the film's side."""

    def blur(film: Pixels, rng: np.random.Generator) -> Pixels:
        from scipy.ndimage import gaussian_filter

        return np.asarray(gaussian_filter(film, share * max(film.shape)), dtype=np.float32)

    return blur


def _noise(deviation: float) -> Shift:
    return lambda film, rng: film + rng.normal(0.0, deviation, film.shape).astype(np.float32)


def _jpeg(quality: int) -> Shift:
    def compress(film: Pixels, rng: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(np.uint8(np.round(film * 255))).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)

    return compress


def _turned(degrees: float) -> Shift:
    def turn(film: Pixels, rng: np.random.Generator) -> Pixels:
        return np.asarray(Image.fromarray(film).rotate(degrees, Image.Resampling.BILINEAR))

    return turn


def _zoom(factor: float) -> Shift:
    """Show the middle larger, or the whole smaller with black around it."""

    def zoom(film: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = film.shape
        box = tuple(side / 2 * (1 + sign / factor) for sign in (-1, 1) for side in (width, height))
        moved = Image.fromarray(film).transform(
            (width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=0
        )
        return np.asarray(moved)

    return zoom


def _border(share: float, brightness: float) -> Shift:
    """Lay an even frame over the edge, as a collimator or a scanner's lid does."""

    def frame(film: Pixels, rng: np.random.Generator) -> Pixels:
        framed = np.full_like(film, brightness)
        rows, columns = (round(share * side) for side in film.shape)
        inner = (slice(rows, film.shape[0] - rows), slice(columns, film.shape[1] - columns))
        framed[inner] = film[inner]
        return framed

    return frame


def _letters(film: Pixels, rng: np.random.Generator) -> Pixels:
    """Burn a side marker and a line of text into two corners."""
    picture = Image.fromarray(film)
    draw = ImageDraw.Draw(picture)
    height, width = film.shape
    font = ImageFont.load_default(size=max(8, round(height / 10)))
    small = ImageFont.load_default(size=max(6, round(height / 22)))
    left = rng.random() < 0.5
    draw.text((width * (0.04 if left else 0.88), height * 0.04), "L" if left else "R", fill=1.0, font=font)
    draw.text((width * (0.5 if left else 0.04), height * 0.93), "AP ERECT 80 kV", fill=1.0, font=small)
    return np.asarray(picture)


SHIFTS: dict[str, Shift] = {
    "none": lambda film, rng: film,
    "gamma 0.6": _gamma(0.6),
    "gamma 1.7": _gamma(1.7),
    "narrow window": _window(0.15, 0.85),
    "wide window": _window(-0.25, 1.25),
    "contrast 0.6": _contrast(0.6),
    "contrast 1.4": _contrast(1.4),
    "shading": _shading(0.2),
    "blur": _blur(0.008),
    "noise": _noise(0.06),
    "jpeg quality 15": _jpeg(15),
    "turned 8° left": _turned(8.0),
    "turned 8° right": _turned(-8.0),
    "zoom 1.15": _zoom(1.15),
    "zoom 0.85": _zoom(0.85),
    "black border": _border(0.06, 0.0),
    "white border": _border(0.04, 1.0),
    "letters": _letters,
    "inverted": lambda film, rng: 1.0 - film,
}
"""The shifts by name; each is as strong as such a film is still read without remark by a person, but for `inverted`."""

APART = ("none", "inverted")
"""Shifts that set no threshold and are never the worst: no shift, and a fault to be told of rather than to be read."""
