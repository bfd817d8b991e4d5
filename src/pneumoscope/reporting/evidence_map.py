"""Draws an image with its evidence map, which shows what speaks for and against pneumonia, and how strongly."""

from __future__ import annotations

import base64
import io
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pneumoscope.data.layouts import LABELS
from pneumoscope.imaging import jpeg, radiograph
from pneumoscope.imaging.radiograph import Radiograph
from pneumoscope.inference.finding import Finding

TOWARDS_PNEUMONIA = (232, 108, 16)
TOWARDS_NORMAL = (15, 148, 250)
"""Orange and blue are distinguishable with every common colour blindness, and both have CIELAB lightness 60, so that
neither sign stands out by its brightness."""

MAX_ALPHA = 0.6
"""The opacity of the strongest contribution, which leaves the image visible."""

FULL_LOGIT = 4.0
"""Evenly spread evidence gets the full colour only if it amounts to at least this logit: see `scale_of`."""

_NONE = 128
_ALPHAS = bytes(round(255 * MAX_ALPHA * abs(level - _NONE) / 127) for level in range(256))
_PALETTE = bytes(part for level in range(256) for part in (TOWARDS_NORMAL if level < _NONE else TOWARDS_PNEUMONIA))
"""The opacity and the colour of each level of `_levels`."""

_WORDS = ("towards normal", "towards pneumonia")
_NOTICE = "Not a medical device"
_INK, _PALE, _PAPER = (240, 240, 240), (168, 168, 168), (18, 18, 18)


def is_drawn(finding: Finding, *, normals: bool = False) -> bool:
    """Return whether a finding's evidence map is drawn; that of `NORMAL` only on request.

    Something speaks for pneumonia on every image, and on a normal one its tint would be mistaken for a finding.

    Args:
        finding: the finding; without evidence there is nothing to draw.
        normals: whether maps of `NORMAL` were requested.

    Example:
        >>> is_drawn(Finding("a.png", 0.1, "NORMAL", evidence=np.ones((2, 2), np.float32)))
        False
    """
    return finding.evidence is not None and (normals or finding.finding == LABELS[1])


def scale_of(evidence: ArrayLike) -> float:
    """Choose the contribution that gets the full colour.

    It is the largest in the map, but at least an even share of `FULL_LOGIT`, which moves even odds to 98 %. An image on
    which nothing speaks for either class therefore stays pale, instead of having its noise amplified.

    Args:
        evidence: (h, w), what each cell adds to the logit compared with a usual image; or (N, h, w) for a common scale
            of several images.

    Returns:
        The scale, in logits per cell; above 0.

    Example:
        >>> scale_of(np.zeros((4, 4)))
        0.25
    """
    cells = np.asarray(evidence)
    height, width = cells.shape[-2:]
    return float(max(np.abs(cells).max(), FULL_LOGIT / (height * width)))


def draw(
    image: Radiograph | NDArray[np.float32],
    evidence: NDArray[np.float32],
    *,
    scale: float | None = None,
    max_side: int | None = None,
    legend: bool = True,
) -> Image.Image:
    """Draw an image with its evidence map: orange speaks for pneumonia, blue against it.

    Args:
        image: the image, or its pixels (H, W) in [0, 1].
        evidence: (h, w), what each cell adds to the logit compared with a usual image; the cells divide the image
            evenly.
        scale: the contribution with the full colour, in logits per cell; by default `scale_of(evidence)`.
        max_side: the longest side of the drawn image, in pixels; larger images are reduced, smaller ones unchanged.
        legend: whether to add a strip below the image that explains the colours.

    Returns:
        An RGB image with the size of the image, plus the height of the legend.

    Raises:
        ValueError: the image or the evidence does not have two dimensions, or the scale is not above 0.

    Example:
        >>> draw(np.zeros((60, 80), dtype=np.float32), np.ones((3, 3), dtype=np.float32), legend=False).size
        (80, 60)
    """
    pixels = image.pixels if isinstance(image, Radiograph) else image
    if pixels.ndim != 2 or evidence.ndim != 2:
        raise ValueError(f"Expected an image (H, W) and evidence (h, w), got {pixels.shape} and {evidence.shape}.")
    scale = scale_of(evidence) if scale is None else scale
    if not scale > 0:
        raise ValueError(f"Expected a scale above 0, got {scale}.")
    gray = _gray(pixels)
    if max_side is not None:
        gray.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    tinted = _tinted(gray, evidence / scale)
    if not legend:
        return tinted
    strip = _legend(gray.width, gray.height, scale)
    canvas = Image.new("RGB", (gray.width, gray.height + strip.height))
    canvas.paste(tinted)
    canvas.paste(strip, (0, gray.height))
    return canvas


def save(drawn: Image.Image, path: str | os.PathLike[str]) -> None:
    """Save an image as PNG without any metadata.

    Args:
        drawn: the output of `draw`.
        path: the file, which is overwritten.

    Example:
        >>> image = np.zeros((60, 80), dtype=np.float32)
        >>> save(draw(image, np.ones((3, 3), dtype=np.float32)), "image.evidence.png")
    """
    bare = drawn.copy()
    bare.info = {}
    bare.save(path, "PNG", compress_level=3)  # a higher level takes seconds to save a few per cent


def layers(path: str | os.PathLike[str], evidence: NDArray[np.float32], *, scale: float | None = None) -> str:
    """Return an image with its evidence map as SVG for a browser, where pressing the mouse button hides the map.

    A JPEG is embedded as it is, without its metadata, which takes a fraction of the time that `draw` takes.

    Args:
        path: the file of the image.
        evidence: (h, w), what each cell adds to the logit compared with a usual image; the cells divide the image
            evenly.
        scale: as in `draw`.

    Returns:
        SVG with the size of the image, plus the height of the legend.

    Raises:
        PneumoscopeError: the image cannot be read.

    Example:
        >>> layers("image.jpeg", finding.evidence)[:4]
        '<svg'
    """
    return b"".join(_layers(path, evidence, scale)).decode()


def save_layers(path: str | os.PathLike[str], evidence: NDArray[np.float32], target: Path) -> None:
    """Save the output of `layers` without making further copies of the image in memory.

    Raises:
        PneumoscopeError: the image cannot be read.

    Example:
        >>> save_layers("image.jpeg", finding.evidence, Path("image.evidence.svg"))
    """
    with target.open("wb") as file:
        file.writelines(_layers(path, evidence, None))


def _layers(path: str | os.PathLike[str], evidence: NDArray[np.float32], scale: float | None) -> tuple[bytes, ...]:
    """Return the SVG in pieces: images are large, and copying one takes as long as drawing the map."""
    data = Path(path).read_bytes()
    scale = scale_of(evidence) if scale is None else scale
    bare = jpeg.bare_jpeg(data)
    if bare is None:
        gray = _gray(radiograph.read(data).pixels)
        bare = _encoded(gray, "JPEG", quality=90), (gray.height, gray.width)
    image, (height, width) = bare
    size = _type_size(width, height)
    line, edge = 1.5 * size, 0.6 * size
    tall = round(height + 4 * line + edge)
    rows = [height + edge + line / 2, height + edge + line, height + edge + 2.5 * line, height + edge + 3.5 * line]
    stops = "".join(
        f'<stop offset="{at}" stop-color="rgb{colour}" stop-opacity="{alpha}"/>'
        for at, colour, alpha in (
            (0, TOWARDS_NORMAL, MAX_ALPHA),
            (0.5, TOWARDS_NORMAL, 0),
            (0.5, TOWARDS_PNEUMONIA, 0),
            (1, TOWARDS_PNEUMONIA, MAX_ALPHA),
        )
    )
    place = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    bar = f'x="{edge:.1f}" y="{rows[1]:.1f}" width="{width - 2 * edge:.1f}" height="{line:.1f}"'
    end = f'x="{width - edge:.1f}" text-anchor="end"'
    head = f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{tall}" viewBox="0 0 {width} {tall}" \
font-family="sans-serif" font-size="{size:.1f}" fill="rgb{_INK}">
<title>Evidence on a chest radiograph: orange speaks for pneumonia, blue against it. Press to see the image.</title>
<style>
svg {{ max-width: 100%; max-height: 100vh; background: rgb{_PAPER} }}
svg:active .evidence {{ visibility: hidden }}
</style>
<rect width="{width}" height="{tall}" fill="rgb{_PAPER}"/>
<image {place} href="data:image/jpeg;base64,"""
    tail = f""""/>
<image class="evidence" {place} href="{_address(_map(evidence / scale), "png")}"/>
<linearGradient id="bar">{stops}</linearGradient>
<text x="{edge:.1f}" y="{rows[0]:.1f}" dy=".35em">{_WORDS[0]}</text>
<text {end} y="{rows[0]:.1f}" dy=".35em">{_WORDS[1]}</text>
<rect {bar} fill="#606060"/><rect {bar} fill="url(#bar)"/>
<g font-size="{0.85 * size:.1f}">
<text x="{edge:.1f}" y="{rows[2]:.1f}" dy=".35em">-{scale:.2f}</text>
<text x="{width / 2:.1f}" y="{rows[2]:.1f}" dy=".35em" text-anchor="middle">0</text>
<text {end} y="{rows[2]:.1f}" dy=".35em">+{scale:.2f} logit per cell</text>
<text x="{edge:.1f}" y="{rows[3]:.1f}" dy=".35em" fill="rgb{_PALE}">{_NOTICE}</text>
</g>
</svg>
"""
    return head.encode(), base64.b64encode(image), tail.encode()


def data_address(drawn: Image.Image) -> str:
    """Return an image as a `data:` URL of a JPEG, for a self-contained page.

    Example:
        >>> data_address(Image.new("L", (8, 8)))[:23]
        'data:image/jpeg;base64,'
    """
    return _address(_encoded(drawn, "JPEG", quality=85), "jpeg")


def _address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _map(unit: NDArray[np.float32]) -> bytes:
    """Draw evidence (h, w) in units of the scale as a small PNG whose opacity is the strength."""
    height, width = unit.shape
    smooth = _levels(unit).resize((4 * width, 4 * height), Image.Resampling.BILINEAR)
    smooth.putpalette(_PALETTE)
    return _encoded(smooth, "PNG", compress_level=1, transparency=_ALPHAS)


def _encoded(image: Image.Image, kind: str, **options: int | bytes) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def _gray(pixels: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray((pixels * np.float32(255.0) + np.float32(0.5)).astype(np.uint8))


def _levels(unit: NDArray[np.float32]) -> Image.Image:
    """Encode evidence in units of the scale as levels 1 to 255; `_NONE` means no evidence."""
    return Image.fromarray(np.rint(_NONE + 127.0 * np.clip(unit, -1.0, 1.0)).astype(np.uint8))


def _type_size(width: int, height: int) -> float:
    """Choose the legend's font size: it grows with the image from 10 pixels on, and shrinks if the words do not fit."""
    return max(4.0, min(max(10.0, 0.026 * math.sqrt(width * height)), width / 18))


def _tinted(gray: Image.Image, unit: NDArray[np.float32]) -> Image.Image:
    """Tint a gray image (H, W) by evidence (h, w) in units of the scale."""
    # Bilinear, because a cubic kernel overshoots and surrounds strong cells with the colour of the opposite sign.
    smooth = _levels(unit).resize(gray.size, Image.Resampling.BILINEAR)
    tinted = gray.convert("RGB")
    for sign, colour in ((1, TOWARDS_PNEUMONIA), (-1, TOWARDS_NORMAL)):
        alphas = [alpha if sign * (level - _NONE) > 0 else 0 for level, alpha in enumerate(_ALPHAS)]
        tinted.paste(colour, (0, 0, *gray.size), smooth.point(alphas))
    return tinted


def _legend(width: int, height: int, scale: float) -> Image.Image:
    """Draw the legend: the meaning of the colours, a colour bar, the scale and the notice."""
    size = _type_size(width, height)
    words, small = ImageFont.load_default(size=size), ImageFont.load_default(size=0.85 * size)
    line, edge = round(1.5 * size), round(0.6 * size)
    strip = Image.new("RGB", (width, 4 * line + edge), _PAPER)
    pen = ImageDraw.Draw(strip)
    left, middle, right = edge, width // 2, width - edge
    for x, anchor, word in ((left, "lm", _WORDS[0]), (right, "rm", _WORDS[1])):
        pen.text((x, edge + line // 2), word, _INK, words, anchor)
    # The bar is drawn like an image, on the gray of a lung, so that its colours match.
    ramp = np.linspace(-1.0, 1.0, 255, dtype=np.float32)[None]
    bar = _tinted(Image.new("L", (max(1, right - left), line), 96), ramp)
    strip.paste(bar, (left, edge + line))
    y = edge + 2 * line + line // 2
    unit = f"+{scale:.2f} logit per cell"
    for x, anchor, word in ((left, "lm", f"-{scale:.2f}"), (middle, "mm", "0"), (right, "rm", unit)):
        pen.text((x, y), word, _INK, small, anchor)
    pen.text((left, y + line), _NOTICE, _PALE, small, "lm")
    return strip
