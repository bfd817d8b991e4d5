"""The grayscale transformations of a DICOM header: modality LUT or rescaling, VOI LUTs and windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from pneumoscope.errors import UnreadableError
from pneumoscope.imaging.brightness import FILLED

_NAMES = {"RescaleSlope": "Rescale Slope", "RescaleIntercept": "Rescale Intercept"}


def modality(dataset: pydicom.Dataset, stored: NDArray[Any]) -> NDArray[np.float64]:
    """Apply the modality LUT, or else the rescale slope and intercept (PS3.3, section C.11.1).

    Args:
        dataset: the header.
        stored: values of any shape.

    Returns:
        float64 of the same shape.

    Raises:
        UnreadableError: the slope or intercept is not a number, or the slope is 0.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.RescaleSlope, header.RescaleIntercept = 2, -1000
        >>> modality(header, np.array([0, 500]))
        array([-1000.,     0.])
    """
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0], dataset.original_encoding[1])[0]
    slope, intercept = slope_of(dataset), _number(dataset, "RescaleIntercept", 0.0)
    return np.asarray(stored * slope + intercept, dtype=np.float64)


def slope_of(dataset: pydicom.Dataset) -> float:
    """Return the rescale slope, or 1 if the header has none.

    Raises:
        UnreadableError: it is not a number, or is 0.

    Example:
        >>> slope_of(pydicom.Dataset())
        1.0
    """
    slope = _number(dataset, "RescaleSlope", 1.0)
    if slope == 0.0:
        raise UnreadableError(
            "Expected a Rescale Slope other than 0 in the DICOM header, got 0: export the image again."
        )
    return slope


def candidates(dataset: pydicom.Dataset, values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Apply each of the header's VOI LUTs and windows in turn to modality values.

    Args:
        dataset: the header.
        values: modality values, any shape.

    Yields:
        float64 of the same shape; in [0, 1] unless a table is damaged.

    Example:
        >>> header = pydicom.Dataset()
        >>> header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 50, 100, "LINEAR_EXACT"
        >>> next(candidates(header, np.array([0.0, 50.0, 100.0])))
        array([0. , 0.5, 1. ])
    """
    for table in dataset.get("VOILUTSequence") or ():
        if "LUTDescriptor" in table and table.get("LUTData") is not None:
            shown, most = _looked_up(values, table, dataset.original_encoding[1])
            if most > 0:
                yield shown / most
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    # The 1 and 0.5 in the standard's formula assume integers; fractional values are counted in steps of the slope.
    step = 1.0 if dataset.get("ModalityLUTSequence") else min(1.0, abs(slope_of(dataset)))
    for _, center, width in windows(dataset):
        if function != "LINEAR":
            yield window(values, center, width, function)
        elif width >= step:
            yield window(values / step, center / step, width / step)
        else:
            yield window(values, center, width, "LINEAR_EXACT")


def windows(dataset: pydicom.Dataset) -> list[tuple[str, float, float]]:
    """List the usable windows of a header: name, centre and width, in modality values.

    Example:
        >>> windows(dataset)
        [('NORMAL', 1024.0, 4096.0)]
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
        UnreadableError: the width is too small, or the function is not one of the three.

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


def numbers(dataset: pydicom.Dataset, name: str) -> list[float]:
    """Return the numbers of an element; an empty list if any of them is not a number, such as one with a decimal comma.

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


def _number(dataset: pydicom.Dataset, name: str, usual: float) -> float:
    try:
        value = dataset.get(name)
        return usual if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise UnreadableError(
            f"Expected one number with a decimal point as {_NAMES[name]} in the DICOM header, got something else: "
            "export the image again."
        ) from None


def _looked_up(values: NDArray[Any], table: pydicom.Dataset, little: bool | None) -> tuple[NDArray[np.float64], float]:
    """Look values up in a modality or VOI LUT (PS3.3, section C.11.1.1), and return them with the value of white.

    White is what the declared bits can hold, or the largest entry if that is far below: computed radiography declares
    16 bits and uses 12 or 14. pydicom's own function assumes that entries have as many bits as declared, which garbles
    tables of 4,096 entries of 8 bits.
    """
    entries, first, depth = (int(number) for number in table.LUTDescriptor)
    entries = entries or 65536
    if first > 32767 and values.min() < 0:  # a negative number written as unsigned
        first -= 65536
    lut = table.LUTData
    if isinstance(lut, bytes):
        size = 1 if len(lut) in (entries, entries + 1) and depth <= 8 else 2
        lut = np.frombuffer(lut[: len(lut) // size * size], f"{'<' if little else '>'}u{size}")
    # Entries may have been written as signed numbers.
    lut = np.atleast_1d(np.asarray(lut, dtype=np.float64)) % 65536
    most, full = float(lut[:entries].max()), 2.0**depth - 1
    place = np.clip(values - float(first), 0, min(entries, len(lut)) - 1).astype(np.int64)
    return lut[place], full if FILLED * full <= most <= full else most
