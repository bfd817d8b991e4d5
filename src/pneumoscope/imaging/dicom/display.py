"""Stored values to brightness: modality LUT, VOI window and photometric interpretation, as PS3.4 orders them (N.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging import brightness
from pneumoscope.imaging.dicom import grayscale, shutter

PERCENTILES = (0.5, 99.5)
"""What is shown where no window is of use and values are no brightness: all but the most extreme ones."""

SPREAD = 0.5
"""Where those percentiles span this share of the range that the values use, they are brightness already, and that range
is shown: as of the same image in a PNG or JPEG file."""

SPREAD_WITHIN = 0.35
"""The same within a display shutter, which leaves out what is black and white; of 700 radiographs two in a hundred come
below it in the circle or the diamond that holds their lungs."""

LEAST_CONTRAST = 0.1
"""A window in which those percentiles lie closer together than this, of black to white, shows nothing."""

LEAST_SHOWN = 0.02
"""Nor does one that leaves fewer of the pixels than this between black and white."""

_BLOCK = 2**20
"""Pixels looked up at a time: NumPy makes 8 bytes of each index."""


def displayed(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float32]:
    """Turn stored values into brightness, bright is dense tissue.

    The modality LUT or rescale comes first, then the first VOI LUT or window that shows something of the data. Where
    there is none, the range that the values use is shown, or of values that fill but a part of it the percentiles.
    What is shown inverted is inverted last. Padding, and what lies outside a display shutter, is black and counts for
    nothing, but that the latter may tell how far the bits in use are filled.

    All of it is done once for each level, not for each pixel.

    Args:
        dataset: the header, with all elements that describe the pixels.
        frame: integers or floats (H, W), or integers (H, W, 3) in red, green and blue, as they were decoded.

    Returns:
        float32 (H, W), in [0, 1].

    Raises:
        UnreadableError: the rescaling makes no finite numbers.

    Example:
        >>> displayed(dataset, np.array([[0, 4095]]))
        array([[0., 1.]], dtype=float32)
    """
    shown = shutter.shown(dataset, *frame.shape[:2])
    coloured = colours(dataset, frame)
    pixels = _gray(dataset, frame, shown) if coloured is None else brightness.brightness(coloured)
    if shown is not None:
        pixels[~shown] = 0.0
    return pixels


def colours(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float32] | None:
    """Give red, green and blue in [0, 1] of an image in colour or with a palette; None of a gray one.

    Args:
        dataset: as with `displayed`.
        frame: as with `displayed`.

    Returns:
        float32 (H, W, 3).

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PhotometricInterpretation = "RGB"
        >>> colours(header, np.full((1, 1, 3), 255, dtype=np.uint8))
        array([[[1., 1., 1.]]], dtype=float32)
    """
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        frame = apply_color_lut(frame, dataset)
    elif frame.ndim != 3:
        return None
    return brightness.unit(frame[..., :3]).samples


def inverted(dataset: pydicom.Dataset) -> bool:
    """Say whether a header has small values shown bright: as MONOCHROME1, or by its presentation LUT shape.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PhotometricInterpretation = "MONOCHROME1"
        >>> inverted(header)
        True
    """
    return dataset.PhotometricInterpretation == "MONOCHROME1" or inverse(dataset)


def inverse(dataset: pydicom.Dataset) -> bool:
    """Say whether a header calls for an inverse display of MONOCHROME2, which files in the field mean in both ways.

    Example:
        >>> inverse(pydicom.Dataset())
        False
    """
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return shape == "INVERSE" and dataset.PhotometricInterpretation == "MONOCHROME2"


def values(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float64]:
    """Turn stored values into modality values, in the units that the header names (PS3.3, section C.11.1).

    Args:
        dataset: as with `displayed`.
        frame: integers (H, W), as they were decoded.

    Returns:
        float64 (H, W).

    Example:
        >>> values(dataset, np.array([[0, 4095]]))
        array([[-1024.,  3071.]])
    """
    levels, index = _levels(dataset, frame)
    return np.asarray(grayscale.modality(dataset, levels)[index])


def hidden(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which pixels of a gray frame `displayed` leaves black whatever their values: padding, and what is shuttered.

    Args:
        dataset: as with `displayed`.
        frame: integers (H, W), as they were decoded.

    Returns:
        (H, W); at least one pixel is not hidden.

    Example:
        >>> hidden(dataset, np.array([[0, 4095]])).any()  # doctest: +SKIP
        False
    """
    shown = shutter.shown(dataset, *frame.shape)
    shuttered = np.zeros(frame.shape, dtype=np.bool_) if shown is None else ~shown
    levels, index = _levels(dataset, frame)
    everything = shuttered | _padding(dataset, levels)[index]
    return shuttered if everything.all() else everything


def _gray(dataset: pydicom.Dataset, frame: NDArray[Any], visible: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    levels, index = _levels(dataset, frame)
    counts = _counts(index.ravel() if visible is None else index[visible], len(levels))
    everything = counts if visible is None else _counts(index.ravel(), len(levels))
    padding = _padding(dataset, levels)
    if counts[~padding].any():
        counts[padding] = everything[padding] = 0
    else:  # nothing would be left of the image
        padding[:] = False
    rescaled = grayscale.modality(dataset, levels)
    if not np.isfinite(rescaled).all():
        raise UnreadableError("Expected finite pixels, got some that are none after rescaling: export the image again.")
    shown = _windowed(dataset, levels, rescaled, counts, everything)
    if inverted(dataset):
        shown = 1.0 - shown
    shown[padding] = 0.0
    table, pixels = shown.astype(np.float32), np.empty(index.size, dtype=np.float32)
    for block in _blocks(index):
        pixels[block] = table[index.ravel()[block]]
    return pixels.reshape(frame.shape)


def _counts(index: NDArray[Any], n: int) -> NDArray[np.int64]:
    counts = np.zeros(n, dtype=np.int64)
    for block in _blocks(index):
        counts += np.bincount(index[block], minlength=n)
    return counts


def _blocks(pixels: NDArray[Any]) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, pixels.size, _BLOCK))


def _levels(dataset: pydicom.Dataset, frame: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the levels that the frame's type can hold, and of each pixel the number of its own.

    Bits beyond those stored are cut off: old scanners keep overlays there, others whatever was in memory. A decoder of
    compressed frames leaves those that were compressed with the others, and does not know what is negative either.
    """
    if frame.dtype.kind == "f":
        levels, index = np.unique(frame, return_inverse=True)
        return levels.astype(np.float64), index.reshape(frame.shape)
    allocated, stored, high = (int(dataset[name].value) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    native, signed = not dataset["PixelData"].is_undefined_length, bool(dataset.PixelRepresentation)
    kind = frame.dtype.newbyteorder("=")
    frame = frame.astype(kind, copy=False).view(f"u{kind.itemsize}")
    bits = 8 * kind.itemsize
    whole = native or (kind.kind == "u" and stored < bits and int(frame.max()) >= 2**stored)
    if whole and bits == allocated and stored <= high + 1 <= bits:
        frame = frame >> (high + 1 - stored) if high + 1 > stored else frame
    if (whole or (signed and kind.kind == "u")) and stored < bits:
        frame = frame & (2**stored - 1)
    else:
        stored = bits
    if bits > 16:
        levels, index = np.unique(frame, return_inverse=True)
        levels, index = levels.astype(np.int64), index.reshape(frame.shape)
    else:
        levels, index = np.arange(2**stored), frame
    if signed:
        levels = np.where(levels < 2 ** (stored - 1), levels, levels - 2**stored)
    return levels, index


def _padding(dataset: pydicom.Dataset, levels: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which levels are no part of the image (PS3.3, section C.7.5.1.1.2): one value, or all up to a limit."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(len(levels), dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    room = 2 ** int(dataset.BitsAllocated)
    least = -room // 2 if dataset.PixelRepresentation else 0  # the sign is wrong now and then
    ends = [(end - least) % room + least for end in (value, limit if isinstance(limit, int) else value)]
    return np.asarray((levels >= min(ends)) & (levels <= max(ends)))


def _windowed(
    dataset: pydicom.Dataset,
    levels: NDArray[Any],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    everything: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Show modality values in the first VOI LUT or window that shows something, else all of them that count.

    Whatever a shutter leaves counts; `everything` is how often each value is there without it.
    """
    low, high = _percentiles(values, counts)
    for shown in grayscale.candidates(dataset, values):
        between = counts[(shown > 0.01) & (shown < 0.99)].sum()
        darkest, brightest = _percentiles(shown, counts)
        if brightest - darkest >= LEAST_CONTRAST and between >= LEAST_SHOWN * counts.sum():
            return np.clip(shown, 0.0, 1.0)
    least, most = _used(dataset, levels, values, counts, everything)
    spread = SPREAD if everything is counts else SPREAD_WITHIN
    if np.isfinite(most - least) and high - low >= spread * (most - least):
        low, high = least, most
    return np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)


def _used(
    dataset: pydicom.Dataset,
    levels: NDArray[Any],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    everything: NDArray[np.int64],
) -> tuple[float, float]:
    """Give the modality values at both ends of the range that the stored values use, of as many bits as count."""
    tabled = bool(dataset.get("ModalityLUTSequence"))
    ranged = values if tabled else levels
    order = np.argsort(ranged, kind="stable")
    known = 255.0 if dataset.BitsStored == 8 and not tabled else None

    def span(counted: NDArray[np.int64]) -> brightness.Span:
        there = order[counted[order] > 0]
        return brightness.span(ranged[there], counted[there], known)

    used = span(counts)
    if everything is not counts and (whole := span(everything)).bits == used.bits:
        used = whole
    ends = np.array([used.low, used.high])
    least, most = sorted(ends if tabled else grayscale.modality(dataset, ends))
    return float(least), float(most)


def _percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Give the percentiles of values of which each is there so often, between neighbours as `np.percentile` does."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(counts[order])
    places = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    below, above = (values[order[np.searchsorted(up_to, part(places), side="right")]] for part in (np.floor, np.ceil))
    low, high = below + (above - below) * (places - np.floor(places))
    return float(low), float(high)
