"""Decodes the first frame of a DICOM image as stored: native, any JPEG, JPEG-LS, JPEG 2000 or RLE Lossless."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels import convert_color_space, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import RLELossless

from pneumoscope.errors import TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging.jpeg import JPEG_LS, MAX_SCANS, jpeg_frame, whole_jpeg

_EOI = b"\xff\xd9"
_JPEG_2000 = b"\xff\x4f\xff\x51"
"""The SOC and SIZ markers at the start of a codestream (ITU-T T.800, annex A)."""

_JP2 = b"\0\0\0\x0cjP"
"""The start of a JP2 file, which contains a codestream. DICOM does not allow it in a frame, but it occurs."""

MAX_TILES, MAX_LAYERS = 1000, 100
"""Ordinary images have one or a few."""

LEAST_PRECINCT = 4
"""The exponent of two of the smallest precinct allowed; ordinary images have 7 or more."""

_START_OF_TILE, _CODING_STYLE, _COMPONENTS_CODING_STYLE = 0x90, 0x52, 0x53


def first(dataset: pydicom.Dataset) -> NDArray[Any]:
    """Decode the first frame of a DICOM data set.

    The compression is detected in the frame itself, because some headers name the wrong transfer syntax. imagecodecs
    decodes it: GDCM, pydicom's first choice, crashes the process on damaged frames.

    Args:
        dataset: the data set, with its pixel data and all elements that describe it.

    Returns:
        (H, W), or (H, W, 3) in red, green and blue; integers, signed if the decoder knows that they are, or floats.

    Raises:
        UnsupportedError: the compression cannot be decoded here.
        TooLargeError: decoding the frame would take gigabytes or minutes.
        UnreadableError: the frame is damaged.

    Example:
        >>> first(pydicom.dcmread("image.dcm")).shape
        (592, 968)
    """
    if "PixelData" not in dataset:
        return _floats(dataset)
    if not dataset["PixelData"].is_undefined_length:
        # A few extra bytes are common; twice the expected length means that the header is wrong.
        if len(dataset.PixelData) >= 2 * get_expected_length(dataset):
            raise _other("size")
        return np.asarray(pixel_array(dataset, index=0, correct_unused_bits=False))

    frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        stored, converted = _run_lengths(frame, rows, columns, samples, int(dataset.BitsAllocated) // 8), False
    else:
        stored, converted = _coded(frame, (rows, columns, samples), dataset.file_meta.TransferSyntaxUID)
    colours = str(dataset.PhotometricInterpretation)
    if samples == 3 and not converted and colours in ("YBR_FULL", "YBR_FULL_422"):
        return np.asarray(convert_color_space(stored, colours, "RGB"))
    return stored


def _floats(dataset: pydicom.Dataset) -> NDArray[Any]:
    """Read the first frame of float or double float pixel data, which is never compressed (PS3.3, C.7.6.24)."""
    name, size = ("FloatPixelData", 4) if "FloatPixelData" in dataset else ("DoubleFloatPixelData", 8)
    rows, columns, data = int(dataset.Rows), int(dataset.Columns), dataset[name].value
    if dataset.SamplesPerPixel != 1 or len(data) < rows * columns * size:
        raise _other("size")
    order = "<" if dataset.original_encoding[1] else ">"
    frame = np.frombuffer(data, f"{order}f{size}", count=rows * columns).reshape(rows, columns)
    if not np.isfinite(frame).all():
        raise UnreadableError("Expected finite pixels, got some that are infinite or not a number.")
    return frame


def _coded(frame: bytes, shape: tuple[int, int, int], syntax: pydicom.uid.UID) -> tuple[NDArray[Any], bool]:
    """Decode a JPEG, JPEG-LS or JPEG 2000 frame, and return whether the decoder has already converted it to RGB.

    The size in the frame's own header is checked first: a damaged one could request any amount of memory.
    """
    import imagecodecs

    kind, *size = _codestream(frame)
    if kind is None:
        name = f"'{syntax.name}'" if syntax.is_transfer_syntax else "an unknown compression"
        raise UnsupportedError(
            f"Expected a DICOM image that can be decoded here, got one in {name}: export it uncompressed."
        )
    if tuple(size) != shape:
        raise _other("size")
    if kind == "JPEG 2000":
        _check_jpeg_2000(frame[frame.find(_JPEG_2000) :])
        return imagecodecs.jpeg2k_decode(frame, verbose=0), True
    if frame.rfind(_EOI) < 0:  # the decoder would fill the missing part with gray
        raise UnreadableError("The end of the image is missing: copy it again from its source.")
    if frame.count(b"\xff\xda") > MAX_SCANS:
        raise TooLargeError(f"Expected at most {MAX_SCANS} scans in a JPEG, got more: export the image again.")
    if kind == "JPEG-LS":
        return imagecodecs.jpegls_decode(frame), False
    pixels = whole_jpeg(frame, (shape[1], shape[0]), shape[2]) if shape[2] in (1, 3) else None
    return imagecodecs.jpeg8_decode(frame) if pixels is None else pixels, True


def _codestream(frame: bytes) -> tuple[str | None, int, int, int]:
    """Return a codestream's format, rows, columns and samples per pixel, read from its own header."""
    start = frame.find(_JPEG_2000) if frame.startswith(_JP2) else 0
    if start >= 0 and frame.startswith(_JPEG_2000, start):
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return "JPEG 2000", bottom - top, right - left, struct.unpack_from(">H", frame, start + 40)[0]
    if (found := jpeg_frame(frame)) is None:
        return None, 0, 0, 0
    marker, _, rows, columns, samples = found
    return "JPEG-LS" if marker == JPEG_LS else "JPEG", rows, columns, samples


def _check_jpeg_2000(codestream: bytes) -> None:
    """Reject a codestream with so many tiles, layers or precincts that decoding takes gigabytes or minutes.

    The main header is read up to the first tile: its size, and the coding styles of the image and its components
    (ITU-T T.800, sections A.5.1, A.6.1 and A.6.2).
    """
    right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", codestream, 8)
    tiles = -(-(right - left) // max(width, 1)) * -(-(bottom - top) // max(height, 1))
    layers, precincts, place = 0, b"\x88", 2
    while (marker := codestream[place + 1]) != _START_OF_TILE:
        length = struct.unpack_from(">H", codestream, place + 2)[0]
        if marker == _CODING_STYLE:
            layers = struct.unpack_from(">H", codestream, place + 6)[0]
            precincts += codestream[place + 14 : place + 2 + length]
        elif marker == _COMPONENTS_CODING_STYLE:
            precincts += codestream[place + 11 : place + 2 + length]
        place += 2 + max(length, 2)
    least = min(min(sides & 15, sides >> 4) for sides in precincts)
    if tiles > MAX_TILES or layers > MAX_LAYERS or least < LEAST_PRECINCT:
        raise TooLargeError(
            f"Expected JPEG 2000 of at most {MAX_TILES} tiles, {MAX_LAYERS} layers and precincts of at least "
            f"{2**LEAST_PRECINCT} pixels a side, got {tiles}, {layers} and {2**least}: export the image again."
        )


def _other(what: str) -> UnreadableError:
    return UnreadableError(f"The image and its DICOM header disagree about its {what}: export the image again.")


def _run_lengths(frame: bytes, rows: int, columns: int, samples: int, size: int) -> NDArray[Any]:
    """Decode RLE Lossless (PS3.5, annex G): one segment for each byte of each sample, the most significant first.

    Returns:
        (H, W), or (H, W, samples) for colour, unsigned, `size` bytes per sample.
    """
    import imagecodecs

    planes = samples * size
    count, *starts = struct.unpack_from("<16I", frame)
    if count != planes:
        raise _other("depth")
    pixels_expected = rows * columns
    decoded = np.empty((pixels_expected, planes), dtype=np.uint8)
    for plane, (start, end) in enumerate(zip(starts, [*starts[1:count], len(frame)], strict=False)):
        # one byte more, because segments of odd length are padded
        segment = imagecodecs.packbits_decode(frame[start:end], out=pixels_expected + 1)
        if len(segment) < pixels_expected:
            raise UnreadableError("The end of the image is missing: copy it again from its source.")
        decoded[:, plane] = np.frombuffer(segment, dtype=np.uint8, count=pixels_expected)
    pixels = decoded.reshape(rows, columns, planes).view(f">u{size}")
    return pixels if samples > 1 else pixels[..., 0]
