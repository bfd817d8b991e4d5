"""Parses JPEG files segment by segment: finds their end, strips their metadata and detects damage."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from pneumoscope.errors import UnreadableError

START = b"\xff\xd8\xff"
START_OF_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
JPEG_LS = 0xF7
_JPEG_LOSSLESS = 0xC3
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, _JPEG_LOSSLESS, JPEG_LS)
"""Baseline, extended, progressive, lossless, JPEG-LS (ITU-T T.81, table B.1; ITU-T T.87, section C.1.1)."""

_JPEG_OF_THE_IMAGE = (0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDC, 0xDD)
_JPEG_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xd9-\xfe])")
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # excludes restart markers and stuffed bytes
_JPEG_NEXT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # also the start of another image
_JPEG_ENDS = re.compile(rb"\xff[\xd8\xd9]")  # the end, or another image; two `bytes.find` take five times as long
_JPEG_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_JPEG_ASIDE = re.compile("JFIF|ICC|Adobe")  # in libjpeg's messages about metadata

MAX_SCANS = 100
"""A progressive JPEG has some ten scans. Each is a pass over the whole image, and thousands fit into a few bytes."""

MOST_LEFT_OVER = 3
"""The most extra bytes before the end marker that are tolerated; more mean that a part of the image was lost."""


def alone(data: bytes) -> bytes:
    r"""Cut off what follows the end of a JPEG: thumbnails, a phone's motion photo, or data that a program appended.

    Args:
        data: the bytes of a file that begins as a JPEG does.

    Returns:
        The bytes up to the end of the image; all bytes if there is unknown data between its segments.

    Raises:
        UnreadableError: the image has no end, or another image begins before it.

    Example:
        >>> alone(b"\xff\xd8\xff\xd9 and a note")
        b'\xff\xd8\xff\xd9'
    """
    at = 2
    while segment := _JPEG_SEGMENT.match(data, at):
        marker = segment[1][0]
        if marker == 0xD9:
            return data[: segment.end()]
        at = segment.end() + int.from_bytes(data[segment.end() : segment.end() + 2], "big")
        if marker == 0xDA:  # the coded image follows, up to the next marker
            end = _JPEG_ENDS.search(data, at)
            if end and end.end() == len(data) and end[0] == _JPEG_END:  # the usual case, found quickly
                return data
            following = _JPEG_NEXT.search(data, at)
            at = following.start() if following else len(data)
    cut = at >= len(data) or data.startswith(START[:2], at)
    if cut or data.find(START_OF_SCAN, max(0, data.rfind(_JPEG_END))) >= 0:
        raise UnreadableError("The end of the image is missing: copy it again from its source.")
    return data


def bare_jpeg(data: bytes) -> tuple[bytes, tuple[int, int]] | None:
    """Strip all metadata from a JPEG file: camera, time, comments, names.

    Only the segments that a decoder needs are kept (ITU-T T.81, section B.2), and the part of the JFIF and Adobe
    segments that says how colours are stored; anything after the image is dropped. Text burnt into the pixels stays.

    Args:
        data: the bytes of a file that `decode` can decode.

    Returns:
        The file and the (H, W) of its image. None if it is not a JPEG, is upright only because of its metadata, or is
        neither gray nor RGB with 8 bits, which programs display differently.

    Example:
        >>> bare_jpeg(b"GIF89a") is None
        True
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    jpeg = JpegImageFile(io.BytesIO(data))
    if jpeg.mode not in ("L", "RGB") or jpeg.getexif().get(0x0112, 1) != 1:
        return None
    bare = _bare(data)
    return (bare, (jpeg.height, jpeg.width)) if bare else None


def _bare(data: bytes) -> bytes | None:
    """Return a JPEG without its metadata; None if it has no end."""
    kept, at = [data[:2]], 2
    while segment := _JPEG_SEGMENT.match(data, at):
        marker = segment[1][0]
        length = int.from_bytes(data[segment.end() : segment.end() + 2], "big")
        at = segment.end() + length
        if marker == 0xD9:
            kept.append(_JPEG_END)
            return b"".join(kept)
        if marker == 0xDA:  # the coded image follows, up to the next marker
            following = _JPEG_MARKER.search(data, at)
            at = following.start() if following else len(data)
        body = data[segment.end() + 2 : segment.end() + length]
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            kept.append(b"\xff\xe0\x00\x10JFIF\0\1\1" + body[7:12] + b"\0\0")  # without its thumbnail
        elif marker == 0xEE and body.startswith(b"Adobe"):
            kept.append(b"\xff\xee\x00\x0e" + body[:12])
        elif marker in _JPEG_OF_THE_IMAGE:
            kept.append(data[segment.start() : at])
    return None


def whole_jpeg(data: bytes, size: tuple[int, int], channels: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG of 8 bits per sample, rejecting damage that other decoders silently ignore.

    Args:
        data: the bytes of the JPEG.
        size: its (width, height), or a half, a quarter or an eighth of them to decode it reduced.
        channels: 1 for gray, 3 for red, green and blue.

    Returns:
        (H, W) or (H, W, 3), identical to the output of Pillow and imagecodecs. None if another decoder must be used,
        because of unusual chroma subsampling or a few extra bytes at the end, which some programs leave there.

    Raises:
        ValueError: the image is damaged.

    Example:
        >>> from pathlib import Path
        >>> whole_jpeg(Path("image.jpeg").read_bytes(), (1776, 1416), 1).shape
        (1416, 1776)
    """
    width, height = size
    frame = jpeg_frame(data)
    if frame is None or frame[1] != 8 or (frame[0] == _JPEG_LOSSLESS and frame[2:4] != (height, width)):
        return None  # simplejpeg would overrun its buffer when reducing a lossless image
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "GRAY" if channels == 1 else "RGB", min_height=height, min_width=width
        )
    except ValueError as error:
        reason = str(error)
        if _JPEG_ASIDE.search(reason):  # only the first fault is reported, and others may be in the image itself
            bare = _bare(data)
            return None if bare in (None, data) else whole_jpeg(bare, size, channels)
        left_over = _JPEG_LEFT_OVER.search(reason)
        if "subsampling" in reason or (left_over and int(left_over[1]) <= MOST_LEFT_OVER):
            return None
        raise
    if pixels.shape != (height, width, channels):
        return None
    return pixels[..., 0] if channels == 1 else pixels


def jpeg_frame(data: bytes) -> tuple[int, int, int, int, int] | None:
    """Read the frame header of a JPEG (ITU-T T.81, section B.2.2).

    Args:
        data: the bytes of the JPEG.

    Returns:
        The marker's second byte, bits per sample, rows, columns and samples per pixel; None if the data are not a JPEG
        with a frame of a known kind.

    Example:
        >>> from pathlib import Path
        >>> jpeg_frame(Path("image.jpeg").read_bytes())
        (192, 8, 1416, 1776, 1)
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while (segment := _JPEG_SEGMENT.match(data, at)) and segment[1][0] not in (0xD9, 0xDA):
        if segment[1][0] in _JPEG_FRAMES and len(data) >= segment.end() + 8:
            return segment[1][0], *struct.unpack_from(">BHHB", data, segment.end() + 2)
        at = segment.end() + int.from_bytes(data[segment.end() : segment.end() + 2], "big")
    return None


def is_reducible(data: bytes) -> bool:
    """Return whether a JPEG can be decoded at a half, a quarter or an eighth of its size.

    Example:
        >>> is_reducible(b"no JPEG")
        False
    """
    frame = jpeg_frame(data)
    return frame is not None and frame[0] != _JPEG_LOSSLESS
