"""Scales samples of any type and depth to brightness in [0, 1], and reduces colour to gray."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumoscope.errors import UnreadableError, UnsupportedError

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601-7, section 2.5.1), as used by Pillow."""

HOT = 1e-4
"""The share of the brightest samples that is ignored when finding the range: hot pixels of a detector."""

BULK = 0.995
"""The share of the samples, from the darkest on, taken for the image; those above are markers, text and faults."""

GAP = 2.5
"""Samples brighter than this times the top of the bulk are ignored. Markers on radiographs stay below twice the top."""

FILLED = 0.75
"""If samples reach this share of what their bits can hold, white is the full range of the bits; otherwise white is the
top of the samples, because ranges such as 0 to 10,000 are not a power of two."""

DIM = 0.55
"""The same if white is known, as for bytes and floats up to 1. The dimmest radiographs reach 0.58."""

OVERSHOOT = 1 / 8
"""How far resizing with a Lanczos kernel overshoots, as a share of the range, mostly at the edges of white markers."""

DARK = 0.5
"""At least a tenth of a radiograph is brighter than this: true of all but four of 1,536 from two hospitals, and of none
of them at half their brightness."""

SATURATED = 0.04
"""The largest share of a radiograph that may be white; it is at most 0.031 in those same 1,536."""

_SAMPLE = 2**20
"""How many samples of floats and deep integers are sorted to find the range; larger images are subsampled evenly."""

_BLOCK = 2**15
"""Samples scaled at a time, so that they fit into the processor's cache."""


class Scaled(NamedTuple):
    """Samples scaled from black to white.

    Attributes:
        samples: float32, in [0, 1], of the given shape.
        bits: bits that the values use, at least 8 except for booleans; 0 for floats.
        dark: all samples were far below the known value of white, and were brightened.
    """

    samples: NDArray[np.float32]
    bits: int
    dark: bool = False


class Span(NamedTuple):
    """The values that are black and white.

    Attributes:
        low: the value of black.
        high: the value of white; above `low`.
        bits: bits that the values use, at most 64.
        dark: as in `Scaled`.
    """

    low: float
    high: float
    bits: int
    dark: bool = False


def unit(values: NDArray[Any]) -> Scaled:
    """Scale samples of any type to [0, 1].

    Neither the brightest sample nor the type alone decides what is white: 12-bit images are stored in 16 bits, resizing
    pushes a few samples beyond the range, and some ranges are not a power of two.

    Args:
        values: samples, of any shape.

    Raises:
        UnsupportedError: the values are not numbers.
        UnreadableError: some values are not finite.

    Example:
        >>> unit(np.array([0, 4095], dtype=np.uint16))
        Scaled(samples=array([0., 1.], dtype=float32), bits=12, dark=False)
        >>> unit(np.array([0, 2500, 5000, 10000], dtype=np.uint16)).samples
        array([0.  , 0.25, 0.5 , 1.  ], dtype=float32)
    """
    if values.dtype == np.bool_:
        return Scaled(values.astype(np.float32), 1)
    if values.dtype == np.uint8:
        return _bytes(values)
    if np.issubdtype(values.dtype, np.integer):
        found = span(*_levels(values))
        exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
        return Scaled(_between(values, exact, found.low, found.high), found.bits)
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise UnreadableError("Expected finite pixels, got some that are infinite or not a number.")
        levels, counts = _levels(values)
        top, least = _top(levels, counts), float(levels[0])
        if least > top / 2 > 0.5:  # far from black, range unknown
            return Scaled(_between(values, np.float64, least, max(top, least + 1.0)), 0)
        found = span(levels, counts, 1.0 if top <= 1.0 or _overshoots(levels, counts, top, 1.0) else None)
        return Scaled(_between(values, np.float64, found.low, found.high), 0, found.dark)
    raise UnsupportedError(f"Expected an array of integers or floats, got {values.dtype}.")


def span(levels: NDArray[Any], counts: NDArray[np.int64] | None = None, known: float | None = None) -> Span:
    """Find which values are black and white.

    Args:
        levels: (n,) the values, ascending.
        counts: (n,) how often each occurs; by default once.
        known: the value of white if the values come near it, such as 255 for bytes; by default the bits in use
            determine it.

    Returns:
        Black is 0, or the lowest value if values go well below 0. White is what the bits in use can hold, or the top
        of the values if they do not fill the bits.

    Example:
        >>> span(np.arange(4000)), span(np.arange(2101)), span(np.arange(120), known=255)
        (Span(low=0.0, high=4095.0, bits=12, dark=False), Span(low=0.0, high=2100.0, bits=12, dark=False),
        Span(low=0.0, high=119.0, bits=7, dark=True))
    """
    counts = np.ones(len(levels), dtype=np.int64) if counts is None else counts
    top = _top(levels, counts)
    bottom = -_top(-levels[::-1].astype(np.float64), counts[::-1])
    if bottom < -OVERSHOOT * max(top, 0.0):
        bits = next((b for b in range(8, 65) if max(-bottom, top) <= 2 ** (b - 1)), 64)
        half = known if known and -bottom <= known * (1 + OVERSHOOT) else 2.0 ** (bits - 1)
        if top - bottom >= FILLED * 2 * half:
            return Span(-half, half - 1 if half > 1 else half, bits)
        return Span(bottom, top if top > bottom else bottom + 1.0, bits)
    bits = next((b for b in range(8, 65) if top <= 2**b - 1 or _overshoots(levels, counts, top, 2**b - 1)), 64)
    full = known or 2.0**bits - 1
    if top >= (DIM if known else FILLED) * full:
        return Span(0.0, full, bits)
    dark = bool(known) and top > 0
    return Span(0.0, top if top > 0 else full, max(int(top).bit_length(), 1) if dark else bits, dark)


def remarks(pixels: NDArray[np.floating[Any]]) -> list[str]:
    """Return `dark` or `saturated` if an image (H, W) in [0, 1] is so in a way that may affect the finding.

    Example:
        >>> remarks(np.full((32, 32), 0.2)), remarks(np.ones((32, 32))), remarks(np.full((32, 32), 0.6))
        (['dark'], ['saturated'], [])
    """
    some = pixels[:: max(1, pixels.shape[0] // 64), :: max(1, pixels.shape[1] // 64)]
    dark = np.count_nonzero(some > DARK) < 0.1 * some.size
    return ["dark"] if dark else ["saturated"] if np.count_nonzero(some > 0.98) > SATURATED * some.size else []


def brightness(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce (H, W, channels) to (H, W): colours are weighted, and alpha (of 2 or 4 channels) is composited over black.

    Example:
        >>> brightness(np.ones((1, 1, 4), dtype=np.float32) / 2)
        array([[0.25]], dtype=float32)
    """
    if samples.ndim == 2:
        return samples
    channels = samples.shape[-1]
    gray = samples[..., :3] @ LUMA if channels >= 3 else samples[..., 0]
    return gray * samples[..., -1] if channels in (2, 4) else gray


def _bytes(values: NDArray[np.uint8]) -> Scaled:
    scaled = values.astype(np.float32)
    # Nearly all images come near 255; a full histogram would take longer than decoding some JPEGs.
    if np.count_nonzero(values > np.uint8(255 * DIM)) > HOT * values.size:
        scaled /= 255.0
        return Scaled(scaled, 8)
    found = span(np.arange(256), np.bincount(values.ravel(), minlength=256), known=255.0)
    scaled /= np.float32(found.high)
    return Scaled(np.minimum(scaled, 1.0), 8, found.dark)


def _levels(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values, ascending, and their counts; large images are subsampled evenly."""
    if values.dtype.itemsize <= 2 and values.dtype.kind in "iu":
        shift = 2**15 if values.dtype.kind == "i" else 0
        counts = np.bincount(values.ravel().astype(np.int64) + shift, minlength=2**16)
        there = np.flatnonzero(counts)
        return there - shift, counts[there]
    flat = values.ravel()
    levels, counts = np.unique(flat[:: -(-flat.size // _SAMPLE)], return_counts=True)
    return levels.astype(np.float64), counts


def _top(levels: NDArray[Any], counts: NDArray[np.int64]) -> float:
    """Return the highest of ascending levels that belongs to the image, ignoring hot pixels and outliers."""
    up_to = np.cumsum(counts)
    bulk = float(levels[np.searchsorted(up_to, BULK * up_to[-1])])
    top = float(levels[np.searchsorted(up_to, up_to[-1] - int(HOT * up_to[-1]))])
    if top > GAP * bulk > 0.0:
        return float(levels[np.searchsorted(levels, GAP * bulk, side="right") - 1])
    return top


def _overshoots(levels: NDArray[Any], counts: NDArray[np.int64], top: float, white: float) -> bool:
    """Return whether the samples above white are few, only slightly brighter, and of many levels, unlike a marker's."""
    above = counts[levels > white]
    few = len(above) and above.sum() <= (1 - BULK) * counts.sum()
    return bool(top <= white * (1 + OVERSHOOT) and few and above.max() <= max(0.2 * above.sum(), 4))


def _between(values: NDArray[Any], exact: type[np.floating[Any]], low: float, high: float) -> NDArray[np.float32]:
    """Scale from low to high, a block at a time to save memory: a large image would otherwise be copied three times."""
    flat, scaled = values.reshape(-1), np.empty(values.size, dtype=np.float32)
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = (flat[block].astype(exact) - exact(low)) / exact((high - low) or 1.0)
        scaled[block] = np.clip(part, 0.0, 1.0)
    return scaled.reshape(values.shape)
