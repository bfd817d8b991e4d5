"""The stored values of an image at full depth, for a viewer that applies windows itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.imaging import radiograph, tiff
from pneumoscope.imaging.dicom import decoder, display, grayscale
from pneumoscope.imaging.radiograph import Radiograph

MOST_PIXELS = 12_000_000
"""Larger images are subsampled to every second, third, ... row and column, so that a browser can hold them."""

CURVE_POINTS = 1024
"""The most points of the curve from values to brightness."""

_CODES = 65536
_ORIENTATION = 0x0112  # of EXIF and TIFF


@dataclass(frozen=True)
class Window:
    """A window from the file's header: values from `center - width / 2` to `center + width / 2` are shown."""

    name: str
    center: float
    width: float


@dataclass(frozen=True)
class StoredValues:
    """An image as numbers in the units of its file.

    Attributes:
        codes: uint16, (H, W); a pixel's value is `slope * code + intercept`. Padding and pixels outside a display
            shutter have the value of the darkest other pixel, so that no window brightens them.
        slope: see `codes`.
        intercept: see `codes`.
        unit: the unit of the values, as DICOM names it, such as `HU`; empty if the file names none.
        curve: float32, (n,); the brightness, in [0, 1], that the detector gives to codes spaced evenly from 0 to the
            largest.
        inverted: whether small values are dense tissue (MONOCHROME1), so that windows are shown inverted.
        windows: the windows of the header, in the unit of the values.
        spacing: height and width of a pixel in mm; None if the file does not say. On a radiograph this is usually the
            spacing at the detector, so anatomy appears magnified.
    """

    codes: NDArray[np.uint16]
    slope: float
    intercept: float
    unit: str
    curve: NDArray[np.float32]
    inverted: bool
    windows: tuple[Window, ...]
    spacing: tuple[float, float] | None

    def png(self) -> bytes:
        """Write the codes as a PNG of 16 bits."""
        file = io.BytesIO()
        Image.fromarray(self.codes).save(file, "PNG", compress_level=1)
        return file.getvalue()


def read(data: bytes, *, max_pixels: int = radiograph.MAX_PIXELS) -> StoredValues:
    """Read the values of an image.

    For DICOM these are the modality values; for a gray PNG or TIFF of more than 8 bits, its samples; for anything else,
    including colour, the brightness that the detector sees, in [0, 1].

    Args:
        data: the bytes of a file.
        max_pixels: the largest image to read, in pixels.

    Returns:
        The values; images above `MOST_PIXELS` are subsampled.

    Raises:
        PneumoscopeError: the image cannot be read, as with `radiograph.read`.

    Example:
        >>> read(data).windows
        (Window(name='NORMAL', center=1024.0, width=4096.0),)
    """
    if radiograph.is_dicom(data):
        return _of_dicom(data, max_pixels)
    image = radiograph.read(data, max_pixels=max_pixels)
    samples = _samples(data, image)
    if samples is None:
        return _of_brightness(_thinned(image.pixels))
    codes, slope, intercept = _coded(_thinned(samples).astype(np.float64))
    return StoredValues(codes, slope, intercept, "", _curve(codes, _thinned(image.pixels)), False, (), None)


def _of_dicom(data: bytes, max_pixels: int) -> StoredValues:
    dataset, frame = decoder.opened(data, max_pixels)
    with np.errstate(all="ignore"):
        if frame.ndim != 2 or frame.dtype.kind not in "iu" or dataset.PhotometricInterpretation == "PALETTE COLOR":
            return _of_brightness(_thinned(display.displayed(dataset, frame)))
        gray = display.Gray(dataset, frame)
        shown, values, hidden = _thinned(gray.brightness()), _thinned(gray.values()), _thinned(gray.hidden())
    inverted = display.inverted(dataset)
    if hidden.any() and not hidden.all():
        seen = values[~hidden]
        values[hidden] = seen.max() if inverted else seen.min()
    codes, slope, intercept = _coded(values)
    unit = str(dataset.get("RescaleType") or "")
    unit = "" if unit == "US" else unit  # unspecified
    windows = tuple(Window(*window) for window in grayscale.windows(dataset))
    spacing = _spacing(dataset, frame.shape[0] / codes.shape[0], frame.shape[1] / codes.shape[1])
    return StoredValues(codes, slope, intercept, unit, _curve(codes, shown), inverted, windows, spacing)


def _of_brightness(pixels: NDArray[np.float32]) -> StoredValues:
    codes = np.round(pixels * np.float32(_CODES - 1)).astype(np.uint16)
    return StoredValues(codes, 1 / (_CODES - 1), 0.0, "", _curve(codes, pixels), False, (), None)


def _samples(data: bytes, image: Radiograph) -> NDArray[Any] | None:
    """Decode the samples of a gray, upright PNG or TIFF of more than 8 bits; None for any other image."""
    if image.format not in ("PNG", "TIFF") or image.bits <= 8:
        return None
    if image.format == "TIFF":
        header = tiff.header(data)
        whole = header is not None and (header.height, header.width) == image.shape
        turn = header.orientation if header and whole else 0
    else:
        with Image.open(io.BytesIO(data)) as file:
            turn = file.getexif().get(_ORIENTATION, 1)
    if turn != 1:
        return None
    try:
        decode = imagecodecs.png_decode if image.format == "PNG" else imagecodecs.tiff_decode
        samples = np.asarray(decode(data))
    except Exception:  # noqa: BLE001 - whatever this decoder cannot do, the image has been read and can be shown
        return None
    return samples if samples.shape == image.pixels.shape and np.isfinite(samples).all() else None


def _coded(values: NDArray[np.float64]) -> tuple[NDArray[np.uint16], float, float]:
    """Encode values as 16-bit codes, exactly if they are integers or equally spaced, otherwise rounded."""
    low, high = float(values.min()), float(values.max())
    step = 1.0
    if not np.array_equal(values, np.round(values)):
        levels = np.unique(values)
        step = float(np.diff(levels).min()) if len(levels) > 1 else 1.0
        if not np.allclose((levels - low) / step, np.round((levels - low) / step), atol=1e-3):
            step = (high - low) / (_CODES - 1)
    if (high - low) / step > _CODES - 1:
        step = (high - low) / (_CODES - 1)
    return np.round((values - low) / step).astype(np.uint16), step, low


def _curve(codes: NDArray[np.uint16], shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """Derive from an image how bright each code is shown, interpolating codes that do not occur.

    A code's brightest pixel counts, because other pixels with that code may be blacked out, by a shutter for example.
    """
    brightest = np.full(_CODES, -1.0, dtype=np.float32)
    np.maximum.at(brightest, codes.ravel(), shown.ravel())
    (known,) = np.nonzero(brightest >= 0)
    n = int(known[-1]) + 1
    places = np.linspace(0, n - 1, min(n, CURVE_POINTS))
    return np.interp(places, known, brightest[known]).astype(np.float32)


def _thinned(pixels: NDArray[Any]) -> NDArray[Any]:
    every = int(np.ceil(np.sqrt(pixels.size / MOST_PIXELS)))
    return pixels[::every, ::every] if every > 1 else pixels


def _spacing(dataset: pydicom.Dataset, taller: float, wider: float) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers = grayscale.numbers(dataset, name)
        if len(numbers) == 2 and all(0 < number < 100 for number in numbers):
            return numbers[0] * taller, numbers[1] * wider
    return None
