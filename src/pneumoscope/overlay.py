"""A film with its evidence laid over it: which places spoke for pneumonia, which against, and how loudly."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pneumoscope.radiograph import Radiograph

TOWARDS_PNEUMONIA = (232, 108, 16)
TOWARDS_NORMAL = (15, 148, 250)
"""Orange and blue stay apart with every common colour blindness, and both have CIELAB lightness 60, so that neither
sign stands out for its brightness."""

MAX_ALPHA = 0.6
"""The strongest contribution still lets the film through."""

FULL_LOGIT = 4.0
"""An evidence that amounts to less in all, everywhere, never gets the full colour: see `scale_of`."""

_WORDS = ("towards normal", "towards pneumonia")
_NOTICE = "Not a medical device"
_INK, _PALE, _PAPER = (240, 240, 240), (168, 168, 168), (18, 18, 18)


def scale_of(evidence: ArrayLike) -> float:
    """Choose the contribution that gets the full colour.

    The largest one in the map, but no less than an even share of `FULL_LOGIT`, which moves even odds to 98 %: a film
    on which nothing speaks for either class stays pale, instead of having its noise blown up.

    Args:
        evidence: (h, w), what each cell adds to the logit; or (N, h, w), for a scale that several films share.

    Returns:
        The scale, in units of logit a cell; above 0.

    Example:
        >>> scale_of(np.zeros((4, 4)))
        0.25
    """
    cells = np.asarray(evidence)
    height, width = cells.shape[-2:]
    return float(max(np.abs(cells).max(), FULL_LOGIT / (height * width)))


def draw(
    film: Radiograph | NDArray[np.float32],
    evidence: NDArray[np.float32],
    *,
    scale: float | None = None,
    max_side: int | None = None,
    legend: bool = True,
) -> Image.Image:
    """Draw a film with its evidence map: orange speaks for pneumonia, blue against it, no tint for neither.

    Args:
        film: the film, or its pixels (H, W) in [0, 1].
        evidence: (h, w), what each cell adds to the logit; the cells divide the film evenly.
        scale: the contribution with the full colour, in units of logit a cell; by default `scale_of(evidence)`.
        max_side: the longest side of the drawn film, in pixels; a larger film is shrunk, a smaller one left as it is.
        legend: whether to add a strip below the film that says what the colours mean.

    Returns:
        An RGB picture of the film's own size and aspect, plus the legend's height.

    Raises:
        ValueError: film or evidence have not two dimensions, or the scale is not above 0.

    Example:
        >>> draw(np.zeros((60, 80), dtype=np.float32), np.ones((3, 3), dtype=np.float32), legend=False).size
        (80, 60)
    """
    pixels = film.pixels if isinstance(film, Radiograph) else film
    if pixels.ndim != 2 or evidence.ndim != 2:
        raise ValueError(f"Expected a film (H, W) and evidence (h, w), got {pixels.shape} and {evidence.shape}.")
    scale = scale_of(evidence) if scale is None else scale
    if not scale > 0:
        raise ValueError(f"Expected a scale above 0, got {scale}.")
    gray = Image.fromarray((pixels * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))
    if max_side is not None:
        gray.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture = _tinted(gray, evidence / scale)
    if not legend:
        return picture
    strip = _legend(gray.width, gray.height, scale)
    canvas = Image.new("RGB", (gray.width, gray.height + strip.height))
    canvas.paste(picture)
    canvas.paste(strip, (0, gray.height))
    return canvas


def save(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG with nothing in it but its pixels: no time, no software, no name.

    Args:
        picture: what `draw` gave.
        path: the file, replaced where there is one.

    Example:
        >>> save(draw(film, evidence), "film.evidence.png")  # doctest: +SKIP
    """
    bare = picture.copy()
    bare.info = {}
    bare.save(path, "PNG", compress_level=3)  # films compress badly: more effort costs seconds for a few per cent


def _tinted(gray: Image.Image, unit: NDArray[np.float32]) -> Image.Image:
    """Tint a gray picture (H, W) by evidence (h, w) in units of the scale."""
    # Levels 1 to 255, of which 128 is none. Bilinear, because a cubic kernel overshoots and rings each strong place
    # with the other sign's colour.
    levels = np.rint(128.0 + 127.0 * np.clip(unit, -1.0, 1.0)).astype(np.uint8)
    smooth = Image.fromarray(levels).resize(gray.size, Image.Resampling.BILINEAR)
    picture = gray.convert("RGB")
    for sign, colour in ((1, TOWARDS_PNEUMONIA), (-1, TOWARDS_NORMAL)):
        alpha = [round(255 * MAX_ALPHA * max(0.0, sign * (level - 128) / 127)) for level in range(256)]
        picture.paste(colour, (0, 0, *gray.size), smooth.point(alpha))
    return picture


def _legend(width: int, height: int, scale: float) -> Image.Image:
    """Draw the strip: the signs in words over the colours, the scale and the notice below."""
    # The type grows with the film, from 10 pixels on, and shrinks again where the words would not fit its width.
    size = max(4.0, min(max(10.0, 0.026 * (width * height) ** 0.5), width / 18))  # no type is smaller
    words, small = ImageFont.load_default(size=size), ImageFont.load_default(size=0.85 * size)
    line, edge = round(1.5 * size), round(0.6 * size)
    strip = Image.new("RGB", (width, 4 * line + edge), _PAPER)
    pen = ImageDraw.Draw(strip)
    left, middle, right = edge, width // 2, width - edge
    for x, anchor, word in ((left, "lm", _WORDS[0]), (right, "rm", _WORDS[1])):
        pen.text((x, edge + line // 2), word, _INK, words, anchor)
    # The bar is drawn as films are, on the gray of a lung, so that its colours are the film's.
    ramp = np.linspace(-1.0, 1.0, 255, dtype=np.float32)[None]
    bar = _tinted(Image.new("L", (max(1, right - left), line), 96), ramp)
    strip.paste(bar, (left, edge + line))
    y = edge + 2 * line + line // 2
    unit = f"+{scale:.2f} logit per cell"
    for x, anchor, word in ((left, "lm", f"-{scale:.2f}"), (middle, "mm", "0"), (right, "rm", unit)):
        pen.text((x, y), word, _INK, small, anchor)
    pen.text((left, y + line), _NOTICE, _PALE, small, "lm")
    return strip
