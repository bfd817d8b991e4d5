"""Stored values to brightness: modality LUT, VOI window and photometric interpretation, as PS3.4 orders them (N.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_color_lut

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.brightness import LUMA

PERCENTILES = (0.5, 99.5)
"""What is shown where no window is of use: all but the most extreme values."""

FILLED = 0.5
"""Where those percentiles span this share of what the stored bits can hold, the values are brightness already, and all
that they can hold is shown: as of the same image in a PNG or JPEG file."""

LEAST_CONTRAST = 0.1
"""A window in which those percentiles lie closer together than this, of black to white, shows nothing."""

LEAST_SHOWN = 0.02
"""Nor does one that leaves fewer of the pixels than this between black and white."""

_BLOCK = 2**20
"""Pixels looked up at a time: NumPy makes 8 bytes of each index."""


def displayed(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float32]:
    """Turn stored values into brightness, bright is dense tissue.

    The modality LUT or rescale comes first, then the first VOI LUT or window that shows something of the data. Where
    there is none, all that the stored bits can hold is shown, or of values that fill but a part of it the percentiles.
    MONOCHROME1 is inverted last. Padding is black and counts for nothing.

    All of it is done once for each level, not for each pixel.

    Args:
        dataset: the header, with all elements that describe the pixels.
        frame: integers (H, W), or (H, W, 3) in red, green and blue, as they were decoded.

    Returns:
        float32 (H, W), in [0, 1].

    Raises:
        UnreadableError: the rescaling makes no finite numbers.

    Example:
        >>> displayed(dataset, np.array([[0, 4095]])).max()  # doctest: +SKIP
        1.0
    """
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        frame = apply_color_lut(frame, dataset)
        return _brightness(frame, int(dataset.RedPaletteColorLookupTableDescriptor[2]))
    if frame.ndim == 3:
        return _brightness(frame, int(dataset.BitsStored))
    levels, index = _levels(dataset, frame)
    counts = np.zeros(len(levels), dtype=np.int64)
    for block in _blocks(index):
        counts += np.bincount(index.ravel()[block], minlength=len(levels))
    padding = _padding(dataset, levels)
    if counts[~padding].any():
        counts[padding] = 0
    else:  # nothing would be left of the image
        padding[:] = False
    values = _modality(dataset, levels)
    if not np.isfinite(values).all():
        raise UnreadableError("Expected finite pixels, got some that are none after rescaling: export the image again.")
    shown = _windowed(dataset, values, counts)
    if photometric == "MONOCHROME1":
        shown = 1.0 - shown
    shown[padding] = 0.0
    table, pixels = shown.astype(np.float32), np.empty(index.size, dtype=np.float32)
    for block in _blocks(index):
        pixels[block] = table[index.ravel()[block]]
    return pixels.reshape(frame.shape)


def values(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float64]:
    """Turn stored values into modality values, in the units that the header names (PS3.3, section C.11.1).

    Args:
        dataset: as with `displayed`.
        frame: integers (H, W), as they were decoded.

    Returns:
        float64 (H, W).

    Example:
        >>> values(dataset, np.array([[0, 4095]])).max()  # doctest: +SKIP
        3071.0
    """
    levels, index = _levels(dataset, frame)
    return np.asarray(_modality(dataset, levels)[index])


def windows(dataset: pydicom.Dataset) -> list[tuple[str, float, float]]:
    """List the header's windows that can be applied: name, centre and width, in modality values.

    Example:
        >>> windows(dataset)  # doctest: +SKIP
        [('NORMAL', 2047.0, 4096.0)]
    """
    names = dataset.get("WindowCenterWidthExplanation") or []
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    pairs = zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False)
    named = [(names[i] if i < len(names) else "", *pair) for i, pair in enumerate(pairs)]
    return [window for window in named if np.isfinite(window[1:]).all() and window[2] > 0]


def window(values: NDArray[Any], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float64]:
    """Apply a VOI window (PS3.3, section C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: modality values, any shape.
        center: window centre, in modality values.
        width: window width; at least 1 for `LINEAR`, above 0 for the others.
        function: `LINEAR`, `LINEAR_EXACT` or `SIGMOID`.

    Returns:
        float64 of the same shape, in [0, 1].

    Raises:
        UnreadableError: the width is not positive or the function not one of the three.

    Example:
        >>> window(np.array([0, 50, 100]), 50.0, 100.0, "LINEAR_EXACT")
        array([0. , 0.5, 1. ])
    """
    values = np.asarray(values, dtype=np.float64)
    if not (width >= 1 if function == "LINEAR" else width > 0):
        least = "at least 1" if function == "LINEAR" else "above 0"
        raise UnreadableError(f"Expected a window width of {least}, got {width:g}: the header is damaged.")
    if function == "LINEAR":
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        shown = (values - (center - 0.5)) / (width - 1) + 0.5
    elif function == "LINEAR_EXACT":
        shown = (values - center) / width + 0.5
    elif function == "SIGMOID":
        shown = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -500, 500)))
    else:
        raise UnreadableError(f"Expected a window function LINEAR, LINEAR_EXACT or SIGMOID, got '{function}'.")
    return np.clip(shown, 0.0, 1.0)


def _brightness(colours: NDArray[Any], bits: int) -> NDArray[np.float32]:
    return np.clip(colours[..., :3] / np.float32(2**bits - 1), 0.0, 1.0).astype(np.float32) @ LUMA


def _blocks(pixels: NDArray[Any]) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, pixels.size, _BLOCK))


def _levels(dataset: pydicom.Dataset, frame: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Give the levels that the frame's type can hold, and of each pixel the number of its own.

    Bits beyond those stored are cut off: old scanners keep overlays there, others whatever was in memory. A decoder
    of compressed frames leaves none, but does not know what is negative either.
    """
    allocated, stored, high = (int(dataset[name].value) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    native, signed = not dataset["PixelData"].is_undefined_length, bool(dataset.PixelRepresentation)
    kind = frame.dtype.newbyteorder("=")
    frame = frame.astype(kind, copy=False).view(f"u{kind.itemsize}")
    bits = 8 * kind.itemsize
    if native and bits == allocated and stored <= high + 1 <= bits:
        frame = frame >> (high + 1 - stored) if high + 1 > stored else frame
    if (native or (signed and kind.kind == "u")) and stored < bits:
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


def _padding(dataset: pydicom.Dataset, levels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which levels are no image (PS3.3, section C.7.5.1.1.2): one value, or all from it to the other limit."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(len(levels), dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    room = 2 ** int(dataset.BitsAllocated)
    least = -room // 2 if dataset.PixelRepresentation else 0  # the sign is wrong now and then
    ends = [(end - least) % room + least for end in (value, limit if isinstance(limit, int) else value)]
    return np.asarray((levels >= min(ends)) & (levels <= max(ends)))


def _modality(dataset: pydicom.Dataset, levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Apply the modality LUT, or else the rescale slope and intercept (PS3.3, section C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(levels, dataset.ModalityLUTSequence[0], dataset.original_encoding[1])[0]
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return np.asarray(levels * float(1.0 if slope is None else slope) + float(intercept or 0.0), dtype=np.float64)


def _windowed(dataset: pydicom.Dataset, values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Show modality values in the first VOI LUT or window that shows something, else all of them that count."""
    low, high = _percentiles(values, counts)
    for shown in _candidates(dataset, values):
        between = counts[(shown > 0.01) & (shown < 0.99)].sum()
        darkest, brightest = _percentiles(shown, counts)
        if brightest - darkest >= LEAST_CONTRAST and between >= LEAST_SHOWN * counts.sum():
            return np.clip(shown, 0.0, 1.0)
    stored = int(dataset.BitsStored)
    least = -(2 ** (stored - 1)) if dataset.PixelRepresentation else 0
    least, most = sorted(_modality(dataset, np.array([least, least + 2**stored - 1])))
    if np.isfinite(most - least) and high - low >= FILLED * (most - least):
        low, high = least, most
    return np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)


def _candidates(dataset: pydicom.Dataset, values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for table in dataset.get("VOILUTSequence") or ():
        if "LUTDescriptor" in table and table.get("LUTData") is not None:
            shown, depth = _looked_up(values, table, dataset.original_encoding[1])
            yield shown / (2**depth - 1)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    function = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    for center, width in zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False):
        if np.isfinite([center, width]).all() and (width >= 1 if function == "LINEAR" else width > 0):
            yield window(values, center, width, function)


def _percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Give the percentiles of values of which each is there so often, between neighbours as `np.percentile` does."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(counts[order])
    places = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    below, above = (values[order[np.searchsorted(up_to, part(places), side="right")]] for part in (np.floor, np.ceil))
    low, high = below + (above - below) * (places - np.floor(places))
    return float(low), float(high)


def _looked_up(values: NDArray[Any], table: pydicom.Dataset, little: bool) -> tuple[NDArray[np.float64], int]:
    """Look values up in a modality or VOI LUT (PS3.3, section C.11.1.1), and give the bits of its entries.

    pydicom's own function counts the entries in as many bits as they have, which garbles 4,096 entries of 8 bits.
    """
    entries, first, depth = (int(number) for number in table.LUTDescriptor)
    entries = entries or 65536
    if first > 32767 and values.min() < 0:  # a negative number written as one that cannot be
        first -= 65536
    lut = table.LUTData
    if isinstance(lut, bytes):
        lut = np.frombuffer(lut, f"{'<' if little else '>'}u{len(lut) // entries}")
    # The same bytes may be written as numbers of the other sign.
    lut = np.asarray(lut, dtype=np.float64) % 65536
    return lut[np.clip(values - float(first), 0, entries - 1).astype(np.int64)], depth


def numbers(dataset: pydicom.Dataset, name: str) -> list[float]:
    """Give the numbers of an element; none where one is no number, as with a decimal comma.

    Example:
        >>> numbers(pydicom.Dataset(), "WindowCenter")
        []
    """
    try:
        value = dataset.get(name)
        values = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
        return [float(number) for number in values if number not in (None, "")]
    except (TypeError, ValueError):
        return []
