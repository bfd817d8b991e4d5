"""Synthetic images of anything but a chest: random drawings, and pieces of three photographs and an MR slice."""

from __future__ import annotations

import gzip
import string
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]


def _field(rng: np.random.Generator, size: int, slope: float) -> Pixels:
    """Draw a random field in [0, 1] whose amplitude falls with the frequency to the power of `slope`."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0 / size
    return stretched(np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) / frequency**slope, s=(size, size)))


def stretched(values: NDArray[Any]) -> Pixels:
    """Stretch values from the 1st to the 99th percentile to [0, 1]."""
    low, high = np.percentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0), dtype=np.float32)


def _noise(rng: np.random.Generator, size: int) -> Pixels:
    """Draw noise of any grain, from white noise to clouds, sometimes posterised."""
    image = _field(rng, size, rng.uniform(0.0, 2.5))
    return np.round(image * (levels := rng.integers(1, 6))) / levels if rng.random() < 0.3 else image


def _gradient(rng: np.random.Generator, size: int) -> Pixels:
    """Draw a nearly blank image: a gradient or a spot of light with a little noise, sometimes in a plain frame."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle, (cx, cy) = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1, 2)
    slope = np.cos(angle) * x + np.sin(angle) * y
    spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.1, 4.0))
    image = rng.uniform() + rng.uniform(0, 0.6) * (slope if rng.random() < 0.5 else spot)
    if rng.random() < 0.3:
        frame = Image.fromarray(np.zeros((size, size), dtype=np.float32))
        box = (rng.uniform((0.0, 0.0, 0.75, 0.75), (0.25, 0.25, 1.0, 1.0)) * size).tolist()
        corners = rng.random(4) < 0.5
        ImageDraw.Draw(frame).rounded_rectangle(box, size * rng.uniform(0, 0.2), fill=1.0, corners=tuple(corners))
        image = np.where(np.asarray(frame) > 0, image * (rng.random() < 0.5) + rng.random(), rng.random())
    return np.asarray(image + rng.uniform(0, 0.05) * rng.normal(size=(size, size)), dtype=np.float32)


def _waves(rng: np.random.Generator, size: int) -> Pixels:
    """Draw gratings, rings, checkers and weaves."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] + rng.uniform(-0.5, 0.5, (2, 1, 1))
    a, b, c = rng.uniform(0, 2 * np.pi), rng.uniform(2, 40), rng.uniform(2, 40)
    u, v = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    forms = (np.sin(b * u), np.sin(b * u) * np.sin(c * v), np.sin(b * np.hypot(x, y)), np.sin(b * u + 3 * np.sin(v)))
    image = forms[rng.integers(len(forms))]
    return stretched(np.sign(image) if rng.random() < 0.4 else image + 0.3 * rng.random() * _field(rng, size, 1.0))


def _shapes(rng: np.random.Generator, size: int) -> Pixels:
    """Draw filled and outlined shapes and lines, few large ones or many, sometimes shaded."""
    ground = rng.random() if rng.random() < 0.5 else 1.0
    image = Image.fromarray(np.full((2 * size, 2 * size), ground, dtype=np.float32))
    pen = ImageDraw.Draw(image)
    n, largest = (rng.integers(1, 8), 1.0) if rng.random() < 0.5 else (rng.integers(8, 40), rng.uniform(0.1, 0.8))
    for _ in range(n):
        middle, reach = rng.normal(size, 0.4 * size, 2), size * rng.uniform(0.02, largest, 2)
        box = (*(middle - reach), *(middle + reach))
        points = [tuple(middle + p * reach) for p in rng.uniform(-1, 1, (rng.integers(3, 8), 2))]
        shade, width = rng.random(), int(rng.integers(1, 12))
        fill = shade if rng.random() < 0.6 else None
        form = rng.integers(4)
        if form == 0:
            pen.ellipse(box, fill=fill, outline=shade, width=width)
        elif form == 1:
            pen.rectangle(box, fill=fill, outline=shade, width=width)
        elif form == 2:
            pen.polygon(points, fill=fill, outline=shade, width=width)
        else:
            pen.line(points, fill=shade, width=width, joint="curve")
    drawn = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return drawn * (0.4 + 0.6 * _gradient(rng, size)) if rng.random() < 0.4 else drawn


@cache
def _signs() -> ImageFont.FreeTypeFont:
    """Load Matplotlib's copy of DejaVu Sans, whose symbols serve as icons."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 96)


def _icon(rng: np.random.Generator, size: int) -> Pixels:
    """Draw one or a few large symbols on a plain background, like clip art: figures, tools, plants, letters."""
    image = Image.fromarray(np.ones((160, 160), dtype=np.float32))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 4)):
        sign = chr(rng.choice((rng.integers(0x2600, 0x26FF), rng.integers(0x2701, 0x27BF), rng.integers(0x41, 0x5A))))
        width = int(rng.integers(4))
        pen.text(tuple(rng.normal(70, 12, 2)), sign, rng.uniform(0, 0.8), _signs(), "mm", stroke_width=width)
    inner = rng.uniform(10, 60, 2)
    box = (*inner, *(inner + rng.uniform(50, 110, 2)))
    image = image.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=1)
    drawn = np.asarray(image)
    return drawn * (0.4 + 0.6 * _gradient(rng, size)) if rng.random() < 0.3 else drawn


@cache
def _letters(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _page(rng: np.random.Generator, size: int) -> Pixels:
    """Draw a document: lines of text, sometimes with ruled lines or an image."""
    image = Image.fromarray(np.ones((2 * size, 2 * size), dtype=np.float32))
    pen = ImageDraw.Draw(image)
    letters = list(string.ascii_letters + string.digits + "    .,")
    height = size * rng.uniform(0.03, 0.3)
    font = _letters(max(6, round(height)))
    left, bottom, top = rng.uniform(0, 0.3, 3) * 2 * size
    for row in np.arange(top, 2 * size - bottom, height * rng.uniform(1.0, 2.0)):
        text = "".join(rng.choice(letters, rng.integers(0, 90)))
        pen.text((left, row), text, fill=0.0, font=font)
    for step in rng.uniform(0, 2 * size, rng.integers(0, 12) if rng.random() < 0.4 else 0):
        pen.line(((left, step), (2 * size - left, step)) if rng.random() < 0.5 else ((step, 0), (step, 2 * size)), 0.0)
    if rng.random() < 0.3:
        corner = rng.integers(0, size, 2)
        inset = Image.fromarray(_photograph(rng, size))
        image.paste(inset, (int(corner[0]), int(corner[1])))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _chart(rng: np.random.Generator, size: int) -> Pixels:
    """Draw a chart on a light or dark background: curves, bars, points, a pie or a heat map, with axes, grid, title."""
    side = 2 * size
    ground = 0.5 * rng.random() ** 3 if rng.random() < 0.5 else 1.0
    ink = rng.uniform(0.0, 0.4) if ground == 1.0 else rng.uniform(0.6, 1.0)
    image = Image.fromarray(np.full((side, side), ground, dtype=np.float32))
    pen, font = ImageDraw.Draw(image), _letters(max(6, side // int(rng.integers(16, 40))))
    left, top, right, bottom = side * (rng.uniform(0.02, 0.25, 4) * (1, 1, -1, -1) + (0, 0, 1, 1))
    box = (left, top, right, bottom)
    if rng.random() < 0.5:
        pen.rectangle(box, fill=rng.random() if rng.random() < 0.3 else None, outline=ink)
    for share in np.linspace(0, 1, int(rng.integers(3, 10))) if rng.random() < 0.4 else ():
        x, y = left + share * (right - left), top + share * (bottom - top)
        pen.line((left, y, right, y), 0.7 * ground + 0.3 * ink, 2)
        pen.line((x, top, x, bottom), 0.7 * ground + 0.3 * ink, 2)
    contents = (_curves, _bars, _points, _slices, _shades)
    contents[rng.integers(len(contents))](rng, image, box, ink)
    if rng.random() < 0.7:
        pen.line((left, top, left, bottom, right, bottom), ink, 3)
        for share in np.linspace(0, 1, int(rng.integers(3, 9))):
            pen.text((left - side / 30, bottom + share * (top - bottom)), f"{10 * share:.1f}", ink, font, "rm")
            pen.text((left + share * (right - left), bottom + side / 30), f"{share:.1f}", ink, font, "mt")
    if rng.random() < 0.5:
        pen.text((side / 2, top / 2), "".join(rng.choice(list(string.ascii_letters), 12)), ink, font, "mm")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _curves(rng: np.random.Generator, image: Image.Image, box: Box, ink: float) -> None:
    left, top, right, bottom = box
    across = np.linspace(left, right, 60)
    for _ in range(rng.integers(1, 6)):
        wave = np.sin(np.linspace(0, rng.uniform(2, 40), 60))
        down = bottom + (top - bottom) * stretched(wave if rng.random() < 0.5 else np.cumsum(rng.normal(size=60)))
        shade, width = rng.choice((ink, rng.random())), int(rng.integers(1, 8))
        ImageDraw.Draw(image).line(list(zip(across, down, strict=True)), shade, width)


def _bars(rng: np.random.Generator, image: Image.Image, box: Box, ink: float) -> None:
    """Draw bars of random heights or a bell-shaped histogram, or boxes with whiskers instead."""
    pen, n = ImageDraw.Draw(image), int(rng.integers(2, 24))
    left, top, right, bottom = box
    heights, half = rng.random(n), (right - left) / n * rng.uniform(0.2, 0.5)
    if rng.random() < 0.5:
        heights = np.exp(-(np.linspace(-2, 2, n) ** 2)) * rng.uniform(0.8, 1.0, n)
    whiskers = rng.random() < 0.3
    for i, height in enumerate(heights):
        x, y = left + (i + 0.5) * (right - left) / n, bottom + height * (top - bottom)
        if whiskers:
            pen.line((x, y - half, x, bottom + rng.random() * (y - bottom)), ink, 2)
            pen.rectangle((x - half, y, x + half, y + 2 * half), outline=ink, width=3)
        else:
            pen.rectangle((x - half, y, x + half, bottom), fill=ink)


def _points(rng: np.random.Generator, image: Image.Image, box: Box, ink: float) -> None:
    pen, reach = ImageDraw.Draw(image), image.width * rng.uniform(0.003, 0.02)
    middle, spread = np.add(box[:2], box[2:]) / 2, np.subtract(box[2:], box[:2]) * rng.uniform(0.05, 0.2)
    for dot in rng.normal(middle, spread, (int(rng.integers(20, 200)), 2)):
        pen.ellipse((*(dot - reach), *(dot + reach)), fill=ink)


def _slices(rng: np.random.Generator, image: Image.Image, box: Box, ink: float) -> None:
    ends = np.cumsum(rng.dirichlet(np.ones(int(rng.integers(2, 16))))) * 360
    for start, end in zip([0.0, *ends[:-1]], ends, strict=True):
        ImageDraw.Draw(image).pieslice(box, start, end, fill=rng.random(), outline=ink)


def _shades(rng: np.random.Generator, image: Image.Image, box: Box, ink: float) -> None:
    """Draw a heat map of cells, smooth shades or contours."""
    field = _field(rng, int(rng.integers(8, 64)), rng.uniform(0.5, 3.0))
    field = np.round(field * (levels := rng.integers(2, 12))) / levels if rng.random() < 0.5 else field
    left, top, right, bottom = (round(side) for side in box)
    how = Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BICUBIC
    image.paste(Image.fromarray(field).resize((right - left, bottom - top), how), (left, top))
    ImageDraw.Draw(image).rectangle(box, outline=ink, width=2)


def _ellipses(rng: np.random.Generator, size: int, parts: int, reach: float) -> tuple[Pixels, NDArray[np.bool_]]:
    """Draw a body as a large ellipse with smaller ones in it, and return it with its mask."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] + 0.05 * (_field(rng, 2 * size, 2.0)[:size, :size] - 0.5)

    def inside(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
        turn = rng.uniform(0, np.pi)
        u, v = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy), np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
        return np.asarray((u / rx) ** 2 + (v / ry) ** 2 < 1)

    sides = reach * rng.uniform(0.6, 1.0, 2)
    body = (x / sides[0]) ** 2 + (y / sides[1]) ** 2 < 1
    image = np.where(body, rng.uniform(0.2, 0.9), 0.0)
    if rng.random() < 0.7:  # a rim, like skull or skin
        within = sides * rng.uniform(0.8, 0.97)
        image[body & ~((x / within[0]) ** 2 + (y / within[1]) ** 2 < 1)] = rng.random() ** 0.5
    for _ in range(parts):
        part = inside(*rng.uniform(-0.6, 0.6, 2) * reach, *rng.uniform(0.03, 0.5, 2) * reach)
        image[part & body] = rng.random()
    return image.astype(np.float32), body


def _section(rng: np.random.Generator, size: int) -> Pixels:
    """Draw a section through a body like a CT or MR slice: round, on black, with even tissue and fine noise.

    One in ten is real: a piece of the MR slice of a head that comes with Matplotlib.
    """
    if rng.random() < 0.1:
        return _piece_of(_samples()[-1], rng, size, -0.8)
    from scipy.ndimage import gaussian_filter

    image, body = _ellipses(rng, size, int(rng.integers(1, 25)), rng.uniform(0.5, 1.05))
    texture = rng.uniform(0, 0.4) * (_field(rng, size, rng.uniform(0.5, 2.0)) - 0.5)
    return np.asarray(gaussian_filter(image + body * texture, rng.uniform(0.2, 2.0) * size / 128), dtype=np.float32)


def _fan(rng: np.random.Generator, size: int) -> Pixels:
    """Draw an ultrasound frame: speckle in a fan or a box on black, with darker structures and often text."""
    y, x = np.mgrid[0 : 1 : size * 1j, -0.5 : 0.5 : size * 1j]
    apex, opening = rng.uniform(-0.4, 0.1), rng.uniform(0.3, 1.1)
    radius, angle = np.hypot(x, y - apex), np.arctan2(x, y - apex)
    window = (np.abs(angle) < opening) & (radius > rng.uniform(0, 0.3)) & (radius < rng.uniform(0.8, 1.2))
    if rng.random() < 0.3:
        window = (np.abs(x) < rng.uniform(0.2, 0.5)) & (y > 0.05) & (y < rng.uniform(0.6, 1.0))
    tissue = _ellipses(rng, size, int(rng.integers(3, 20)), 2.0)[0] + _field(rng, size, 1.5)
    speckle = rng.rayleigh(size=(size, size)) if rng.random() < 0.5 else 2 * _field(rng, size, rng.uniform(0, 1))
    image = Image.fromarray((window * np.clip(0.5 * tissue * speckle, 0, 1)).astype(np.float32))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 6)):
        word = "".join(rng.choice(list(string.ascii_uppercase + string.digits), 8))
        pen.text(tuple(rng.uniform(0, 0.9, 2) * size), word, 1.0, _letters(max(6, round(size / 20))))
    return np.asarray(image)


def _limb(rng: np.random.Generator, size: int) -> Pixels:
    """Draw long bones, fingers or a joint: bright shafts with dense cortices in soft tissue, on a dark background."""
    from scipy.ndimage import gaussian_filter

    image = np.full((size, size), rng.uniform(0, 0.15))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lean, n = rng.normal(0, 0.5), int(rng.integers(1, 7))
    for i in range(n):
        turn = lean + rng.normal(0, 0.15)
        u = np.cos(turn) * x + np.sin(turn) * y - (i - (n - 1) / 2) * 1.5 / n - rng.normal(0, 0.05)
        v = np.cos(turn) * y - np.sin(turn) * x
        joint = np.exp(-((np.abs(np.sin(rng.uniform(1, 4) * v + rng.uniform(0, 3))) / 0.3) ** 2))
        bone = rng.uniform(0.1, 0.35) / n * (1 + 0.6 * joint)
        soft = np.abs(u) < bone * rng.uniform(1.6, 3.5)
        image = np.maximum(image, rng.uniform(0.25, 0.45) * soft)
        shaft = np.where(np.abs(u) > 0.6 * bone, rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.8))
        image = np.where((np.abs(u) < bone) & (np.abs(v) < rng.uniform(0.7, 2)), shaft, image)
    image = image + 0.15 * (_field(rng, size, 1.0) - 0.5)
    blurred = gaussian_filter(image, size * rng.uniform(0.003, 0.015))
    return np.asarray(np.rot90(blurred, int(rng.integers(4))))


@cache
def _samples() -> tuple[Pixels, ...]:
    """Load scikit-learn's two photographs and Matplotlib's portrait and MR slice: (H, W, channels) in [0, 1]."""
    from matplotlib import get_data_path
    from sklearn.datasets import load_sample_images

    folder = Path(get_data_path(), "sample_data")
    with gzip.open(folder / "s1045.ima.gz") as file:
        head = np.frombuffer(file.read(), dtype="<u2").reshape(256, 256, 1)
    portrait = np.asarray(Image.open(folder / "grace_hopper.jpg"))
    images = (*load_sample_images().images, portrait)
    return (*(image.astype(np.float32) / 255 for image in images), stretched(head))


def _photograph(rng: np.random.Generator, size: int) -> Pixels:
    """Cut a piece of a photograph."""
    return _piece_of(_samples()[rng.integers(3)], rng, size, -2.5)


def _piece_of(image: Pixels, rng: np.random.Generator, size: int, smallest: float) -> Pixels:
    """Cut a random piece, its sides at least `exp(smallest)` of the image's, mixed to gray, turned and mirrored."""
    weights = rng.dirichlet(np.full(image.shape[-1], 0.5)).astype(np.float32)
    gray = image @ weights
    height, width = (int(side * np.exp(rng.uniform(smallest, 0.0))) for side in gray.shape)
    top, left = (rng.integers(0, side - part + 1) for side, part in zip(gray.shape, (height, width), strict=True))
    piece = np.rot90(gray[top : top + height, left : left + width], int(rng.integers(4)))[:, :: rng.choice((-1, 1))]
    return np.asarray(Image.fromarray(piece.copy()).resize((size, size), Image.Resampling.BILINEAR))


def _collage(rng: np.random.Generator, size: int) -> Pixels:
    """Combine two other kinds in one image: side by side, or blended."""
    names = [name for name in KINDS if name != "collage"]
    one, other = (KINDS[rng.choice(names)](rng, size) for _ in range(2))
    share = rng.uniform(0.2, 0.8)
    if rng.random() < 0.5:
        return np.asarray(share * one + (1 - share) * other, dtype=np.float32)
    edge = np.indices((size, size))[rng.integers(2)] < share * size
    return np.where(edge, one, other)


KINDS: dict[str, Callable[[np.random.Generator, int], Pixels]] = {
    "noise": _noise,
    "gradient": _gradient,
    "waves": _waves,
    "shapes": _shapes,
    "icon": _icon,
    "page": _page,
    "chart": _chart,
    "section": _section,
    "fan": _fan,
    "limb": _limb,
    "photograph": _photograph,
    "collage": _collage,
}
"""Functions that draw an image (size, size), by the kind of image."""
