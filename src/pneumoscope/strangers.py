"""Pictures that are no chest radiographs, drawn or made from films and three photographs, to be learnt from."""

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
Films = NDArray[np.floating[Any]]
Kind = Callable[[np.random.Generator, int, Films], Pixels]


def draw(kind: str, rng: np.random.Generator, size: int, films: Films) -> NDArray[np.float32]:
    """Draw one picture that is no chest radiograph.

    Args:
        kind: a key of `KINDS`.
        rng: what is random comes from here.
        size: the side of the square picture, in pixels, at least 16.
        films: (N, S, S) in [0, 1]; the kinds with `film` in their names are made from them.

    Returns:
        (size, size) in [0, 1]; contrast and brightness are random, and a part of them is inverted.

    Raises:
        KeyError: there is no such kind.

    Example:
        >>> draw("shapes", np.random.default_rng(0), 32, np.zeros((1, 32, 32))).shape
        (32, 32)
    """
    picture = np.clip(np.nan_to_num(KINDS[kind](rng, size, films)), 0.0, 1.0)
    if rng.random() < 0.2:  # a chest is even on both sides, and so are these
        picture = np.maximum(picture, picture[:, ::-1]) if rng.random() < 0.5 else (picture + picture[:, ::-1]) / 2
    if rng.random() < 0.3:
        picture = 1.0 - picture
    low, high = np.sort(rng.uniform(0.0, 1.0, 2)) if rng.random() < 0.3 else (0.0, 1.0)
    return np.asarray(low + (high - low) * picture ** np.exp(rng.uniform(-0.7, 0.7)), dtype=np.float32)


def _field(rng: np.random.Generator, size: int, slope: float) -> Pixels:
    """Draw a random field in [0, 1] whose amplitude falls with the frequency to the power of `slope`."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0 / size
    return _unit(np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) / frequency**slope, s=(size, size)))


def _unit(values: NDArray[Any]) -> Pixels:
    """Stretch from the 1st to the 99th percentile."""
    low, high = np.percentile(values, (1, 99))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0), dtype=np.float32)


def _noise(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """Noise of any grain, from white to clouds; some of it cut into patches."""
    picture = _field(rng, size, rng.uniform(0.0, 2.5))
    return np.round(picture * (levels := rng.integers(1, 6))) / levels if rng.random() < 0.3 else picture


def _gradient(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A nearly blank picture: a slow slope or a spot of light, and a little noise."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angle, (cx, cy) = rng.uniform(0, 2 * np.pi), rng.uniform(-1, 1, 2)
    slope = np.cos(angle) * x + np.sin(angle) * y
    spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.1, 4.0))
    picture = rng.uniform() + rng.uniform(0, 0.6) * (slope if rng.random() < 0.5 else spot)
    return np.asarray(picture + rng.uniform(0, 0.05) * rng.normal(size=(size, size)), dtype=np.float32)


def _waves(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """Gratings, rings, checkers and weaves."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] + rng.uniform(-0.5, 0.5, (2, 1, 1))
    a, b, c = rng.uniform(0, 2 * np.pi), rng.uniform(2, 40), rng.uniform(2, 40)
    u, v = np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x
    forms = (np.sin(b * u), np.sin(b * u) * np.sin(c * v), np.sin(b * np.hypot(x, y)), np.sin(b * u + 3 * np.sin(v)))
    picture = forms[rng.integers(len(forms))]
    return _unit(np.sign(picture) if rng.random() < 0.4 else picture + 0.3 * rng.random() * _field(rng, size, 1.0))


def _shapes(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A drawing: filled and outlined shapes and lines; few and large, or many; some shaded."""
    ground = rng.random() if rng.random() < 0.5 else 1.0
    picture = Image.fromarray(np.full((2 * size, 2 * size), ground, dtype=np.float32))
    pen = ImageDraw.Draw(picture)
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
    drawn = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    return drawn * (0.4 + 0.6 * _gradient(rng, size, films)) if rng.random() < 0.4 else drawn


@cache
def _signs() -> ImageFont.FreeTypeFont:
    """Matplotlib's own copy of DejaVu Sans: its signs are drawings of their own."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 96)


def _icon(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """One sign, or a few, large on a plain ground, as in clip art: figures, tools, plants, letters."""
    picture = Image.fromarray(np.ones((160, 160), dtype=np.float32))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 4)):
        sign = chr(rng.choice((rng.integers(0x2600, 0x26FF), rng.integers(0x2701, 0x27BF), rng.integers(0x41, 0x5A))))
        width = int(rng.integers(4))
        pen.text(tuple(rng.normal(70, 12, 2)), sign, rng.uniform(0, 0.8), _signs(), "mm", stroke_width=width)
    inner = rng.uniform(10, 60, 2)
    box = (*inner, *(inner + rng.uniform(50, 110, 2)))
    picture = picture.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR, fillcolor=1)
    drawn = np.asarray(picture)
    return drawn * (0.4 + 0.6 * _gradient(rng, size, films)) if rng.random() < 0.3 else drawn


@cache
def _letters(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _page(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A document: lines of letters, some under a headline, some with a ruled table or a picture among them."""
    picture = Image.fromarray(np.ones((2 * size, 2 * size), dtype=np.float32))
    pen = ImageDraw.Draw(picture)
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
        inset = Image.fromarray(_photograph(rng, size, films))
        picture.paste(inset, (int(corner[0]), int(corner[1])))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _ellipses(rng: np.random.Generator, size: int, parts: int, reach: float) -> tuple[Pixels, NDArray[np.bool_]]:
    """A body of one big ellipse with smaller ones in it, and where it is."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j] + 0.05 * (_field(rng, 2 * size, 2.0)[:size, :size] - 0.5)

    def inside(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
        turn = rng.uniform(0, np.pi)
        u, v = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy), np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)
        return np.asarray((u / rx) ** 2 + (v / ry) ** 2 < 1)

    sides = reach * rng.uniform(0.6, 1.0, 2)
    body = (x / sides[0]) ** 2 + (y / sides[1]) ** 2 < 1
    picture = np.where(body, rng.uniform(0.2, 0.9), 0.0)
    if rng.random() < 0.7:  # a rim, as skull or skin make it
        within = sides * rng.uniform(0.8, 0.97)
        picture[body & ~((x / within[0]) ** 2 + (y / within[1]) ** 2 < 1)] = rng.random() ** 0.5
    for _ in range(parts):
        part = inside(*rng.uniform(-0.6, 0.6, 2) * reach, *rng.uniform(0.03, 0.5, 2) * reach)
        picture[part & body] = rng.random()
    return picture.astype(np.float32), body


def _section(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A section through a body, as CT and MR give it: round, on black, tissue of even shades with fine noise.

    One in ten is a real one: a piece of the MR of a head that comes with Matplotlib.
    """
    if rng.random() < 0.1:
        return _piece_of(_samples()[-1], rng, size, -0.8)
    from scipy.ndimage import gaussian_filter

    picture, body = _ellipses(rng, size, int(rng.integers(1, 25)), rng.uniform(0.5, 1.05))
    texture = rng.uniform(0, 0.4) * (_field(rng, size, rng.uniform(0.5, 2.0)) - 0.5)
    return np.asarray(gaussian_filter(picture + body * texture, rng.uniform(0.2, 2.0) * size / 128), dtype=np.float32)


def _fan(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """An ultrasound frame: speckle in a fan or a box on black, dark vessels in it, some with letters around it."""
    y, x = np.mgrid[0 : 1 : size * 1j, -0.5 : 0.5 : size * 1j]
    apex, opening = rng.uniform(-0.4, 0.1), rng.uniform(0.3, 1.1)
    radius, angle = np.hypot(x, y - apex), np.arctan2(x, y - apex)
    window = (np.abs(angle) < opening) & (radius > rng.uniform(0, 0.3)) & (radius < rng.uniform(0.8, 1.2))
    if rng.random() < 0.3:
        window = (np.abs(x) < rng.uniform(0.2, 0.5)) & (y > 0.05) & (y < rng.uniform(0.6, 1.0))
    tissue = _ellipses(rng, size, int(rng.integers(3, 20)), 2.0)[0] + _field(rng, size, 1.5)
    speckle = rng.rayleigh(size=(size, size)) if rng.random() < 0.5 else 2 * _field(rng, size, rng.uniform(0, 1))
    picture = Image.fromarray((window * np.clip(0.5 * tissue * speckle, 0, 1)).astype(np.float32))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 6)):
        word = "".join(rng.choice(list(string.ascii_uppercase + string.digits), 8))
        pen.text(tuple(rng.uniform(0, 0.9, 2) * size), word, 1.0, _letters(max(6, round(size / 20))))
    return np.asarray(picture)


def _limb(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """Long bones, fingers or a joint on a dark film: bright shafts with thick rims in soft tissue."""
    from scipy.ndimage import gaussian_filter

    picture = np.full((size, size), rng.uniform(0, 0.15))
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lean, n = rng.normal(0, 0.5), int(rng.integers(1, 7))
    for i in range(n):
        turn = lean + rng.normal(0, 0.15)
        u = np.cos(turn) * x + np.sin(turn) * y - (i - (n - 1) / 2) * 1.5 / n - rng.normal(0, 0.05)
        v = np.cos(turn) * y - np.sin(turn) * x
        joint = np.exp(-((np.abs(np.sin(rng.uniform(1, 4) * v + rng.uniform(0, 3))) / 0.3) ** 2))
        bone = rng.uniform(0.1, 0.35) / n * (1 + 0.6 * joint)
        soft = np.abs(u) < bone * rng.uniform(1.6, 3.5)
        picture = np.maximum(picture, rng.uniform(0.25, 0.45) * soft)
        shaft = np.where(np.abs(u) > 0.6 * bone, rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.8))
        picture = np.where((np.abs(u) < bone) & (np.abs(v) < rng.uniform(0.7, 2)), shaft, picture)
    picture = picture + 0.15 * (_field(rng, size, 1.0) - 0.5)
    blurred = gaussian_filter(picture, size * rng.uniform(0.003, 0.015))
    return np.asarray(np.rot90(blurred, int(rng.integers(4))))


@cache
def _samples() -> tuple[Pixels, ...]:
    """Two photographs of scikit-learn's, a portrait and an MR slice of Matplotlib's: (H, W, channels) in [0, 1]."""
    from matplotlib import get_data_path
    from sklearn.datasets import load_sample_images

    folder = Path(get_data_path(), "sample_data")
    with gzip.open(folder / "s1045.ima.gz") as file:
        head = np.frombuffer(file.read(), dtype="<u2").reshape(256, 256, 1)
    portrait = np.asarray(Image.open(folder / "grace_hopper.jpg"))
    pictures = (*load_sample_images().images, portrait)
    return (*(picture.astype(np.float32) / 255 for picture in pictures), _unit(head))


def _photograph(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A piece of a photograph."""
    return _piece_of(_samples()[rng.integers(3)], rng, size, -2.5)


def _piece_of(picture: Pixels, rng: np.random.Generator, size: int, smallest: float) -> Pixels:
    """Cut a piece, its sides at least `exp(smallest)` of the picture's, in one colour or gray, turned and mirrored."""
    weights = rng.dirichlet(np.full(picture.shape[-1], 0.5)).astype(np.float32)
    gray = picture @ weights
    height, width = (int(side * np.exp(rng.uniform(smallest, 0.0))) for side in gray.shape)
    top, left = (rng.integers(0, side - part + 1) for side, part in zip(gray.shape, (height, width), strict=True))
    piece = np.rot90(gray[top : top + height, left : left + width], int(rng.integers(4)))[:, :: rng.choice((-1, 1))]
    return np.asarray(Image.fromarray(piece.copy()).resize((size, size), Image.Resampling.BILINEAR))


def _collage(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """Two other kinds in one picture: side by side, or one seen through the other."""
    names = [name for name in KINDS if name != "collage" and "film" not in name]
    one, other = (KINDS[rng.choice(names)](rng, size, films) for _ in range(2))
    share = rng.uniform(0.2, 0.8)
    if rng.random() < 0.5:
        return np.asarray(share * one + (1 - share) * other, dtype=np.float32)
    edge = np.indices((size, size))[rng.integers(2)] < share * size
    return np.where(edge, one, other)


def _one_of(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    film = films[rng.integers(len(films))].astype(np.float32)
    return np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.BILINEAR))


def _shuffled(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A film cut into a grid of tiles, which change places; some also turn."""
    film, n = _one_of(rng, size, films), int(rng.integers(2, 9))
    edges = np.linspace(0, size, n + 1).astype(int)
    order = rng.permutation(n * n)
    while n == 2 and (order.reshape(2, 2) == np.arange(4).reshape(2, 2)).sum() > 1:
        order = rng.permutation(4)  # a film with two of its quarters swapped still shows half a chest
    picture, turned = np.zeros_like(film), rng.random() < 0.3
    for place, tile in enumerate(order):
        (r, c), (i, j) = divmod(place, n), divmod(int(tile), n)
        piece = film[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
        piece = np.rot90(piece, int(rng.integers(4))) if turned else piece
        shape = edges[c + 1] - edges[c], edges[r + 1] - edges[r]
        picture[edges[r] : edges[r + 1], edges[c] : edges[c + 1]] = np.asarray(
            Image.fromarray(piece.copy()).resize(shape)
        )
    return picture


def _piece(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A small piece of a film: a ninth of it at most, of any place."""
    film = _one_of(rng, size, films)
    height, width = (max(4, int(size * share)) for share in rng.uniform(0.08, 0.33, 2))
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    piece = np.rot90(film[top : top + height, left : left + width], int(rng.integers(4))).copy()
    return np.asarray(Image.fromarray(piece).resize((size, size), Image.Resampling.BILINEAR))


def _scrambled(rng: np.random.Generator, size: int, films: Films) -> Pixels:
    """A film's frequencies, each as strong as it was, in other places: its shades and grain without its picture."""
    film = _one_of(rng, size, films)
    phases = np.exp(1j * np.angle(np.fft.rfft2(rng.normal(size=film.shape))))
    return _unit(np.fft.irfft2(np.abs(np.fft.rfft2(film - film.mean())) * phases, s=film.shape))


KINDS: dict[str, Kind] = {
    "noise": _noise,
    "gradient": _gradient,
    "waves": _waves,
    "shapes": _shapes,
    "icon": _icon,
    "page": _page,
    "section": _section,
    "fan": _fan,
    "limb": _limb,
    "photograph": _photograph,
    "collage": _collage,
    "shuffled film": _shuffled,
    "piece of a film": _piece,
    "scrambled film": _scrambled,
}
"""Kinds of pictures that are no chest radiographs, by name."""
