"""Finds near-duplicate images: re-encoded, resized, cropped, rotated, brightened, padded or mirrored copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope import parallel
from pneumoscope.imaging import radiograph

SIDE = 64
"""The side of the thumbnails that are compared, in pixels; smaller images are not compared.

At 28 x 28, as in the smallest MedMNIST archives, 8 pairs of different images among 5,190 would exceed `LIMIT`.
"""

LIMIT = 0.93
"""Two images with at least this correlation are copies.

Measured on 5,190 images of children at 64 x 64 to 224 x 224: the most similar different images, two exposures of one
child, reach 0.91, and images of two children 0.89. 99 % of copies lie above 0.95 if cropped by 3 % on each side, above
0.97 if rotated by 2 degrees, and above 0.98 if re-encoded, resized or brightened; 93 % of those cropped by 5 % are
found.
"""

_COARSE = 16
_CANDIDATE = 0.91
_NEIGHBOURS = 4
_CROPS = (0, 2)
_CORRELATIONS = 2**22  # at a time: 16 MB, and ten times as much if nearly all images are alike
_PAIRS_AT_ONCE = 32  # fits into the processor's cache
_DARK = 0.04
_COARSE_ROUNDS, _FINE_ROUNDS = 4, 3
_HOPEFUL = 0.85
"""The least correlation after `_COARSE_ROUNDS` at half the size of a pair that may be copies.

Of 600 thumbnails cropped by up to 6 %, turned by up to 4 degrees or resized, those found have at least 0.89. Of 7,709
pairs of different images that are compared because they are most alike, 99 % have at most 0.86.
"""


@dataclass(frozen=True)
class Pair:
    """Two images that are copies of one.

    Attributes:
        first: the position of one image.
        second: the position of the other, larger than `first`.
        similarity: their correlation after alignment, from `LIMIT` to 1.
        mirrored: whether left and right are swapped in one of them.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


Border = tuple[float, tuple[slice, slice]]
"""The share of an image that is covered by an even frame, in [0, 1], and the rows and columns inside."""


def thumbnails(pixels: NDArray[np.float32], frames: tuple[Border, Border] | None = None) -> list[NDArray[np.uint8]]:
    """Make the thumbnails that are compared; an image with a border has one with and one without it.

    Args:
        pixels: float32 (H, W) in [0, 1].
        frames: the output of `borders`, if the caller already has it.

    Returns:
        Arrays uint8 (SIDE, SIDE), stretched to the image's own range of brightness; none for an image that is smaller
        than that, or blank.

    Example:
        >>> len(thumbnails(np.random.default_rng(0).random((80, 100), dtype=np.float32)))
        1
    """
    if min(pixels.shape) < SIDE:
        return []
    images = [pixels]
    for share, inside in frames or borders(pixels):
        if 0.02 < share < 0.75 and min(pixels[inside].shape) >= SIDE // 2:
            images.append(pixels[inside])
    squashed = (radiograph.resize(np.ascontiguousarray(image), SIDE) for image in images)
    return [_stretched(image) for image in squashed if np.ptp(image) > 0]


def borders(pixels: NDArray[np.float32]) -> tuple[Border, Border]:
    """Find the black and the white frame around an image with `border`.

    Example:
        >>> [round(share, 2) for share, _ in borders(np.pad(np.full((8, 8), 0.5, dtype=np.float32), 1))]
        [0.36, 0.0]
    """
    return border(pixels), border(pixels, white=True)


def border(pixels: NDArray[np.float32], white: bool = False) -> Border:
    """Find the black or white frame around an image: outer rows and columns with hardly any pixels of another tone.

    Letters in it are part of it, and its tone may tell the class. `preprocessing.inside`, which cuts a frame off before
    the network, asks another question: which rows and columns of a small image are even, in whatever tone.

    Args:
        pixels: float32 (H, W) in [0, 1].
        white: whether to look for white instead of black.

    Returns:
        The frame; for a blank image, the rows and columns inside are all of them.

    Example:
        >>> border(np.pad(np.full((8, 8), 0.5, dtype=np.float32), 1))[0]
        0.36
    """

    def shows(lines: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray((lines < 1 - _DARK if white else lines > _DARK).mean(axis=1) > 0.01)

    if all(shows(lines[[0, -1]]).all() for lines in (pixels, pixels.T)):  # true of most images
        return 0.0, (slice(0, len(pixels)), slice(0, len(pixels.T)))
    rows, columns = (np.flatnonzero(shows(lines)) for lines in (pixels, pixels.T))
    if not len(rows) or not len(columns):
        return 1.0, (slice(None), slice(None))
    inside = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return 1.0 - pixels[inside].size / pixels.size, inside


def near(
    images: NDArray[np.uint8],
    owners: NDArray[np.int64],
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> list[Pair]:
    """Find the pairs of images that are copies of one another.

    Chest radiographs are so similar that no hash or thumbnail distinguishes a cropped copy from another child. So there
    are two steps: small descriptors find each image's nearest neighbours, also mirrored and cropped; each neighbour is
    then aligned with the image, and their locally normalised thumbnails are correlated. Memory grows with the number of
    images, not of pairs.

    Args:
        images: (M, SIDE, SIDE), the output of `thumbnails` for all images.
        owners: (M,), the image that each thumbnail shows.
        progress: called with a description, the steps done and the total.

    Returns:
        The pairs, each once, the most similar first. For an image with many copies not every pair is listed, but enough
        to connect them all.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE), dtype=np.uint8)
        >>> images = np.concatenate([images, images[:1, :, ::-1]])
        >>> [(pair.first, pair.second, pair.mirrored) for pair in near(images, np.arange(3))]
        [(0, 2, True)]
    """
    if len(images) < 2:
        return []
    candidates = _candidates(images, owners, progress)
    parts = [candidates[start : start + _PAIRS_AT_ONCE] for start in range(0, len(candidates), _PAIRS_AT_ONCE)]
    pairs = ((images[part[:, 0]], images[part[:, 1]], part[:, 2] == 1) for part in parts)
    similarities = parallel.on_all_cores(_similarities, pairs, processes=len(images) >= parallel.MANY, together=1)
    best: dict[tuple[int, int], Pair] = {}
    done = 0
    for part, similarity in zip(parts, similarities, strict=True):
        first, second, mirrored = part.T
        for i in np.flatnonzero(similarity >= LIMIT):
            a, b = sorted((int(owners[first[i]]), int(owners[second[i]])))
            if (a, b) not in best or similarity[i] > best[a, b].similarity:
                best[a, b] = Pair(a, b, min(1.0, float(similarity[i])), bool(mirrored[i]))
        done += len(part)
        progress("comparing the most alike", done, len(candidates))
    return sorted(best.values(), key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _candidates(
    images: NDArray[np.uint8], owners: NDArray[np.int64], progress: Callable[[str, int, int], object]
) -> NDArray[np.int64]:
    """Return candidate pairs: (K, 3), two positions in `images` and whether one is mirrored."""
    blocks = _blocks(len(images))
    described = np.concatenate([_descriptors(images[block]) for block in blocks])
    found: list[NDArray[np.int64]] = []
    passes = [(block, crop, mirrored) for block in blocks for crop in _CROPS for mirrored in (False, True)]
    for step, (block, crop, mirrored) in enumerate(passes, start=1):
        rows, b = _nearest(_descriptors(images[block], crop, mirrored) @ described.T)
        a = rows + block.start
        pairs = np.stack([np.minimum(a, b), np.maximum(a, b), np.full(len(a), mirrored)], axis=1)
        found.append(np.unique(pairs[owners[a] != owners[b]], axis=0))
        progress("searching for copies", step, len(passes))
    return np.unique(np.concatenate(found), axis=0)


def _blocks(n: int) -> list[slice]:
    """Divide n images so that the correlations of a block with all images fit into memory."""
    size = max(1, _CORRELATIONS // n)
    return [slice(start, start + size) for start in range(0, n, size)]


def _nearest(correlations: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the highest correlations of each row that are above `_CANDIDATE`; return their rows and columns.

    There are at most `_NEIGHBOURS + 1` in a row, because each image is its own neighbour.
    """
    rows, columns = np.nonzero(correlations > _CANDIDATE)
    order = np.lexsort((-correlations[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return rows[rank <= _NEIGHBOURS], columns[rank <= _NEIGHBOURS]


def _similarities(pairs: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Align images (B, SIDE, SIDE), mirrored where (B,) says so, with their partners, and correlate them: (B,)."""
    first, second, mirrored = pairs
    turned = np.where(mirrored[:, None, None], first[:, :, ::-1], first)
    return _aligned_correlation(_detail(turned, 4), _detail(second, 4))


def _descriptors(images: NDArray[np.uint8], crop: int = 0, mirrored: bool = False) -> NDArray[np.float32]:
    """Describe images (N, SIDE, SIDE), without `crop` rows at top and bottom, by unit vectors (N, 256)."""
    eye = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    average = np.asarray(eye.resize((SIDE, _COARSE), Image.Resampling.BOX, (0, crop, SIDE, SIDE - crop)))
    turned = images[:, :, ::-1] if mirrored else images
    flat = _detail(average @ turned.astype(np.float32) @ average.T, 3).reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6), dtype=np.float32)


def _detail(images: NDArray[np.uint8] | NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Normalise brightness and contrast locally, which leaves the fine detail of the anatomy.

    Args:
        images: (N, H, W), from 0 to 255.
        sigma: the standard deviation of the neighbourhood, in pixels.
    """
    down, across = (_blur(side, sigma) for side in images.shape[1:])
    values = images / np.float32(255)
    values -= down @ values @ across.T
    spread = np.sqrt(down @ values**2 @ across.T)
    return np.asarray(values / (spread + np.float32(0.02)), dtype=np.float32)


@cache
def _blur(n: int, sigma: float) -> NDArray[np.float32]:
    """Return the matrix (n, n) that blurs n pixels with a Gaussian, cut off at two deviations and mirrored at the ends.

    For such small images the product with a matrix is several times as fast as a filter.
    """
    reach = int(2 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    blurring = np.zeros((n, n))
    for pixel in range(n):
        for step, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
            place = (pixel + step) % (2 * n)
            blurring[pixel, min(place, 2 * n - 1 - place)] += weight
    return blurring.astype(np.float32)


def _aligned_correlation(moving: NDArray[np.float32], fixed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Align each image with its partner by an affine map and correlate their overlap.

    Most pairs are images of two patients. They are given up after a few rounds on images of half the size.

    Args:
        moving: (B, SIDE, SIDE), from `_detail`.
        fixed: (B, SIDE, SIDE), from `_detail`.

    Returns:
        (B,), at most 1; 0 if they are certainly no copies, or if the overlap is too small.
    """
    result = np.zeros(len(moving))
    half, target = _halved(moving), _halved(fixed)
    maps = _aligned(half, target, np.tile(np.eye(3, dtype=np.float32), (len(moving), 1, 1)), _COARSE_ROUNDS)
    hopeful = np.flatnonzero(_overlap_correlation(half, target, maps) > _HOPEFUL)
    if len(hopeful):
        moving, fixed = moving[hopeful], fixed[hopeful]
        maps = _aligned(half[hopeful], target[hopeful], maps[hopeful], _COARSE_ROUNDS)
        maps = _aligned(moving, fixed, maps, _FINE_ROUNDS)
        result[hopeful] = _overlap_correlation(moving, fixed, maps)
    return result


def _aligned(
    moving: NDArray[np.float32], fixed: NDArray[np.float32], maps: NDArray[np.float32], rounds: int
) -> NDArray[np.float32]:
    """Improve affine maps that align images.

    This is the inverse compositional algorithm (Baker & Matthews 2004, Int J Comput Vis 56:221, section 3.2).

    Args:
        moving: (B, n, n).
        fixed: (B, n, n).
        maps: (B, 3, 3), from coordinates of `fixed` to those of `moving`, in [-1, 1] whatever the size.
        rounds: how many steps to make.
    """
    places = _places(fixed.shape[-1])
    u, v, _ = places
    flat = fixed.reshape(len(fixed), -1)
    down, right = (slope.reshape(flat.shape) * fixed.shape[-1] / 2 for slope in np.gradient(fixed, axis=(1, 2)))
    slopes = np.stack([right, right * u, right * v, down, down * u, down * v], axis=1)  # (B, 6, n * n)
    for _ in range(rounds):
        warped, inside = _sampled(moving, maps @ places)
        seen = slopes * inside[:, None]
        square = seen @ slopes.transpose(0, 2, 1)
        damping = 1e-3 * np.trace(square, axis1=1, axis2=2)[:, None, None] / 6 + 1e-6
        error = (warped - flat) * inside
        step = np.linalg.solve(square + damping * np.eye(6, dtype=np.float32), seen @ error[:, :, None])
        change = np.clip(step.reshape(-1, 2, 3), -0.2, 0.2)  # no larger, so that it can be inverted
        homogeneous = np.tile(np.eye(3, dtype=np.float32), (len(moving), 1, 1))
        homogeneous[:, :2] += change[:, :, [1, 2, 0]]
        maps = np.clip(maps @ np.linalg.inv(homogeneous), -3, 3)
    return maps


def _overlap_correlation(
    moving: NDArray[np.float32], fixed: NDArray[np.float32], maps: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Correlate images (B, n, n) where they overlap after alignment; 0 if the overlap is too small."""
    warped, inside = _sampled(moving, maps @ _places(fixed.shape[-1]))
    return np.where(inside.mean(axis=1) > 0.7, _correlation(warped, fixed.reshape(len(fixed), -1), inside), 0.0)


def _places(n: int) -> NDArray[np.float32]:
    """Return the homogeneous coordinates (3, n * n) of the pixels of an image, in [-1, 1]."""
    v, u = ((2 * np.mgrid[:n, :n].reshape(2, -1) + 1) / n - 1).astype(np.float32)
    return np.stack([u, v, np.ones_like(u)])


def _sampled(images: NDArray[np.float32], places: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Interpolate images (B, n, n) at coordinates (B, 3, P), and return which of these lie inside the image."""
    n = images.shape[-1]
    x, y = ((places[:, axis] + 1) * n / 2 - 0.5 for axis in (0, 1))
    left, top = (np.clip(np.floor(at), 0, n - 2).astype(np.int64) for at in (x, y))
    across, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat, corner = images.reshape(len(images), -1), top * n + left
    at = [np.take_along_axis(flat, corner + offset, axis=1) for offset in (0, 1, n, n + 1)]
    upper, lower = at[0] + (at[1] - at[0]) * across, at[2] + (at[3] - at[2]) * across
    inside = (x >= 0) & (x <= n - 1) & (y >= 0) & (y <= n - 1)
    return upper + (lower - upper) * down, inside.astype(np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    total = weights.sum(axis=1, keepdims=True) + 1e-6
    a, b = ((x - (x * weights).sum(axis=1, keepdims=True) / total) * weights for x in (a, b))
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1) + 1e-6), dtype=np.float64)


def _halved(images: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = images[:, ::2] + images[:, 1::2]
    return np.asarray((rows[:, :, ::2] + rows[:, :, 1::2]) / np.float32(4))


def _stretched(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, [1, 99])
    return np.asarray(np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255, dtype=np.uint8)
