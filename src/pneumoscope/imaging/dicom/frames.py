"""The first frame of a DICOM image as it is stored: native, JPEG of every kind, JPEG-LS, JPEG 2000 or run lengths."""

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
"""Start of a codestream, and its size (ITU-T T.800, annex A)."""

_JP2 = b"\0\0\0\x0cjP"
"""Start of a file that has such a codestream inside; headers say that it should not be here, and it is."""


MAX_TILES, MAX_LAYERS = 1000, 100
"""Images have one, or a few."""

LEAST_PRECINCT = 4
"""Power of two; images have 7 or more."""

_START_OF_TILE, _CODING_STYLE, _COMPONENTS_CODING_STYLE = 0x90, 0x52, 0x53


def first(dataset: pydicom.Dataset) -> NDArray[Any]:
    """Decode the first frame.

    What compressed it is read from the frame itself: headers name the wrong syntax now and then. GDCM, which pydicom
    would ask first, brings the process down on damaged frames; imagecodecs does not, and says nothing by itself.

    Args:
        dataset: with its image, and all elements that describe it.

    Returns:
        (H, W), or (H, W, 3) in red, green and blue; integers, signed where the decoder knows that they are.

    Raises:
        UnsupportedError: a compression that is not decoded here.
        TooLargeError: a frame that would take gigabytes or minutes.
        UnreadableError: the frame is damaged.

    Example:
        >>> first(pydicom.dcmread("image.dcm")).shape
        (592, 968)
    """
    if "PixelData" not in dataset:
        return _floats(dataset)
    if not dataset["PixelData"].is_undefined_length:
        # A few bytes more are common, half an image is not.
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
    """Read the first frame of float or double float pixel data, which are never compressed (PS3.3, C.7.6.24)."""
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
    """Decode a frame in one of JPEG's formats, and say whether its decoder has made red, green and blue of it.

    The frame's own size is compared first: damaged, it could ask for any amount of memory.
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
    if frame.rfind(_EOI) < 0:  # what is missing would be filled with gray
        raise UnreadableError("The end of the image is missing: copy it again from its origin.")
    if frame.count(b"\xff\xda") > MAX_SCANS:
        raise TooLargeError(f"Expected at most {MAX_SCANS} scans in a JPEG, got more: export the image again.")
    if kind == "JPEG-LS":
        return imagecodecs.jpegls_decode(frame), False
    pixels = whole_jpeg(frame, (shape[1], shape[0]), shape[2]) if shape[2] in (1, 3) else None
    return imagecodecs.jpeg8_decode(frame) if pixels is None else pixels, True


def _codestream(frame: bytes) -> tuple[str | None, int, int, int]:
    """Give a codestream's kind, rows, columns and samples a pixel, as its own header has them."""
    start = frame.find(_JPEG_2000) if frame.startswith(_JP2) else 0
    if start >= 0 and frame.startswith(_JPEG_2000, start):
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return "JPEG 2000", bottom - top, right - left, struct.unpack_from(">H", frame, start + 40)[0]
    if (found := jpeg_frame(frame)) is None:
        return None, 0, 0, 0
    marker, _, rows, columns, samples = found
    return "JPEG-LS" if marker == JPEG_LS else "JPEG", rows, columns, samples


def _check_jpeg_2000(codestream: bytes) -> None:
    """Reject a codestream cut into so many parts that keeping account of them takes gigabytes and minutes.

    The main header is read up to the first tile: size, and the coding styles of the image and its components
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
    return UnreadableError(f"The image and its DICOM header do not agree about its {what}: export the image again.")


def _run_lengths(frame: bytes, rows: int, columns: int, samples: int, size: int) -> NDArray[Any]:
    """Decode run lengths (PS3.5, annex G): one segment for each byte of each sample, the most significant first.

    Returns:
        (H, W), or (H, W, samples) for colour, unsigned, of `size` bytes a sample.
    """
    import imagecodecs

    planes = samples * size
    count, *starts = struct.unpack_from("<16I", frame)
    if count != planes:
        raise _other("depth")
    room = rows * columns
    decoded = np.empty((room, planes), dtype=np.uint8)
    for plane, (start, end) in enumerate(zip(starts, [*starts[1:count], len(frame)], strict=False)):
        # one byte more: segments of odd length are padded
        segment = imagecodecs.packbits_decode(frame[start:end], out=room + 1)
        if len(segment) < room:
            raise UnreadableError("The end of the image is missing: copy it again from its origin.")
        decoded[:, plane] = np.frombuffer(segment, dtype=np.uint8, count=room)
    pixels = decoded.reshape(rows, columns, planes).view(f">u{size}")
    return pixels if samples > 1 else pixels[..., 0]
