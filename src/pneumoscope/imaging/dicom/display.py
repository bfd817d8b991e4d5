"""Turns stored values into brightness: modality LUT, VOI LUT, then presentation, in the order of PS3.4, section N.2."""

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
"""The percentiles shown as black and white if no window is usable and the values are not brightness already."""

SPREAD = 0.5
"""If those percentiles span at least this share of the range in use, the values are taken for brightness and the whole
range is shown, just as for the same image in a PNG or JPEG file."""

SPREAD_WITHIN = 0.35
"""The same within a display shutter, which hides the black and white borders. Two percent of 700 radiographs fall below
it within the circle or diamond that holds their lungs."""

LEAST_CONTRAST = 0.1
"""A window that shows those percentiles closer together than this, from black (0) to white (1), is unusable."""

LEAST_SHOWN = 0.02
"""So is a window that shows a smaller share of the pixels than this between black and white."""

_BLOCK = 2**20
"""Pixels looked up at a time: NumPy needs 8 bytes for each index."""


def displayed(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float32]:
    """Turn stored values into brightness; bright is dense tissue.

    The modality LUT or rescaling is applied first, then the first VOI LUT or window that leaves enough contrast. If
    there is none, the range in use is shown, or the percentiles if the values fill only a part of it. Inversion
    comes last. Padding and everything outside a display shutter become black and do not influence the range, except
    that pixels outside a shutter may help to determine how many bits are in use.

    All of this is computed once for each level, not for each pixel.

    Args:
        dataset: the header, with all elements that describe the pixels.
        frame: the decoded frame: integers or floats (H, W), or integers (H, W, 3) in red, green and blue.

    Returns:
        float32 (H, W), in [0, 1].

    Raises:
        UnreadableError: the rescaled values are not finite.

    Example:
        >>> displayed(dataset, np.array([[0, 4095]]))
        array([[0., 1.]], dtype=float32)
    """
    coloured = colours(dataset, frame)
    if coloured is None:
        return Gray(dataset, frame).brightness()
    pixels = brightness.brightness(coloured)
    visible = shutter.shown(dataset, *frame.shape[:2])
    if visible is not None:
        pixels[~visible] = 0.0
    return pixels


def colours(dataset: pydicom.Dataset, frame: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return red, green and blue in [0, 1] of a colour or palette image; None for a gray one.

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
    """Return whether small values are shown bright, because of MONOCHROME1 or of the presentation LUT shape.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.PhotometricInterpretation = "MONOCHROME1"
        >>> inverted(header)
        True
    """
    return dataset.PhotometricInterpretation == "MONOCHROME1" or inverse(dataset)


def inverse(dataset: pydicom.Dataset) -> bool:
    """Return whether a header requests an inverse display of MONOCHROME2; in practice files use it with either meaning.

    Example:
        >>> inverse(pydicom.Dataset())
        False
    """
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return shape == "INVERSE" and dataset.PhotometricInterpretation == "MONOCHROME2"


class Gray:
    """A gray frame, whose levels are looked up once for its brightness, its values and what is hidden.

    Args:
        dataset: as with `displayed`.
        frame: the decoded frame, integers or floats (H, W).
    """

    def __init__(self, dataset: pydicom.Dataset, frame: NDArray[Any]) -> None:
        self._dataset = dataset
        self._visible = shutter.shown(dataset, *frame.shape)
        self._levels, self._index = _levels(dataset, frame)
        self._values = grayscale.modality(dataset, self._levels)
        n = len(self._levels)
        self._counts = _counts(self._index.ravel() if self._visible is None else self._index[self._visible], n)
        self._everything = self._counts if self._visible is None else _counts(self._index.ravel(), n)
        self._padding = _padding(dataset, self._levels)
        if not self._counts[~self._padding].any():  # all pixels would be padding
            self._padding[:] = False
        self._counts[self._padding] = self._everything[self._padding] = 0

    def brightness(self) -> NDArray[np.float32]:
        """Return the brightness as `displayed` does.

        Raises:
            UnreadableError: the rescaled values are not finite.

        Example:
            >>> Gray(dataset, np.array([[0, 4095]])).brightness()
            array([[0., 1.]], dtype=float32)
        """
        if not np.isfinite(self._values).all():
            raise UnreadableError(
                "Expected finite pixels, got some that are not after rescaling: export the image again."
            )
        shown = _windowed(self._dataset, self._levels, self._values, self._counts, self._everything)
        if inverted(self._dataset):
            shown = 1.0 - shown
        shown[self._padding] = 0.0
        table, pixels = shown.astype(np.float32), np.empty(self._index.shape, dtype=np.float32)
        for block in _blocks(self._index):
            pixels.ravel()[block] = table[self._index.ravel()[block]]
        if self._visible is not None:
            pixels[~self._visible] = 0.0
        return pixels

    def values(self) -> NDArray[np.float64]:
        """Return the modality values (H, W), in the units that the header names (PS3.3, section C.11.1).

        Example:
            >>> Gray(dataset, np.array([[0, 4095]])).values()
            array([[-1024.,  3071.]])
        """
        return np.asarray(self._values[self._index])

    def hidden(self) -> NDArray[np.bool_]:
        """Return which pixels (H, W) are always black: padding, and those outside a shutter; never all of them.

        Example:
            >>> bool(Gray(dataset, np.array([[0, 4095]])).hidden().any())
            False
        """
        padding = self._padding[self._index]
        return np.asarray(padding if self._visible is None else padding | ~self._visible)


def _counts(index: NDArray[Any], n: int) -> NDArray[np.int64]:
    counts = np.zeros(n, dtype=np.int64)
    for block in _blocks(index):
        counts += np.bincount(index[block], minlength=n)
    return counts


def _blocks(pixels: NDArray[Any]) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, pixels.size, _BLOCK))


def _levels(dataset: pydicom.Dataset, frame: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the levels that the frame's type can hold, and the index of each pixel's level.

    Bits beyond Bits Stored are masked: old scanners keep overlays there, others arbitrary memory. Decoders of
    compressed frames keep such bits if they were compressed too, and do not know which values are negative either.
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
    """Return which levels are padding (PS3.3, section C.7.5.1.1.2): one value, or all from it to a limit."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(len(levels), dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    codes = 2 ** int(dataset.BitsAllocated)
    least = -codes // 2 if dataset.PixelRepresentation else 0  # some headers give the wrong sign
    ends = [(end - least) % codes + least for end in (value, limit if isinstance(limit, int) else value)]
    return np.asarray((levels >= min(ends)) & (levels <= max(ends)))


def _windowed(
    dataset: pydicom.Dataset,
    levels: NDArray[Any],
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    everything: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Apply the first usable VOI LUT or window to modality values, or else stretch their range.

    `counts` are the frequencies of the values within the shutters, `everything` those without any shutter.
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
    """Return the modality values at both ends of the range that the stored values use."""
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
    """Return `PERCENTILES` of values with these frequencies, interpolated like `np.percentile`."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(counts[order])
    places = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    below, above = (values[order[np.searchsorted(up_to, part(places), side="right")]] for part in (np.floor, np.ceil))
    low, high = below + (above - below) * (places - np.floor(places))
    return float(low), float(high)
