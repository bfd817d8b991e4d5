"""Formats besides JPEG, PNG, TIFF and DICOM: other images, gzip files, and kinds of file that are not supported."""

from __future__ import annotations

import importlib
import io
import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from pneumoscope.errors import TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import jpeg, tiff

GZIP = b"\x1f\x8b\x08"

_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_JPEG_XL = (b"\0\0\0\x0cJXL ", b"\xff\x0a")

_EXPORT = "export one frontal image of it as DICOM or PNG"
_ORIGINAL = "give the file that the device made, or export it as PNG"
_REFUSED_IMAGES = (
    (0, b"NRRD000", "an NRRD volume", _EXPORT),
    *((344, mark, "a NIfTI volume", _EXPORT) for mark in (b"n+1\0", b"ni1\0")),
    *((4, mark + b"\0\r\n\x1a\n", "a NIfTI volume", _EXPORT) for mark in (b"n+2", b"ni2")),
    *((0, mark, "a MetaImage (.mha)", _EXPORT) for mark in (b"ObjectType", b"NDims")),
    (0, b"\x93NUMPY", "a NumPy array in a file", "give the array itself in Python, or save it as PNG"),
    *((4, b"ftyp" + brand, "a HEIC photograph", _ORIGINAL) for brand in (b"hei", b"hev", b"mif1", b"msf1")),
)
"""Offset and signature of unsupported image files, what they are, and what to do instead."""

_REFUSED = (
    *_REFUSED_IMAGES,
    (0, b"%PDF", "a PDF document", "export the image itself from where it was made"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it and give the files in it"),
)
"""The same, including files that need not hold an image at all."""

_ARRAYS = re.compile(rb"PK\x03\x04.{26}[^\0]{1,200}?\.npy", re.DOTALL)
"""The start of a NumPy .npz: a zip archive whose first member is an array."""

_PLUGINS = (
    (0, b"BM", "BmpImagePlugin.BmpImageFile"),
    (0, b"GIF8", "GifImagePlugin.GifImageFile"),
    (8, b"WEBP", "WebPImagePlugin.WebPImageFile"),
    (4, b"ftypavi", "AvifImagePlugin.AvifImageFile"),
    *((0, b"P%d" % kind, "PpmImagePlugin.PpmImageFile") for kind in range(1, 7)),
)
"""Offset and signature of the files that Pillow decodes, and its class for each."""


def unpacked(data: bytes, most: int) -> bytes:
    """Unpack a gzip file; return any other file as it is.

    Args:
        data: the bytes of a file.
        most: the most bytes to unpack.

    Raises:
        TooLargeError: it holds more.
        UnreadableError: it is damaged or truncated.

    Example:
        >>> unpacked(b"BM", 100)
        b'BM'
    """
    if not data.startswith(GZIP):
        return data
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, most)
    except zlib.error:
        raise UnreadableError("The compressed file is damaged: copy it again from its source.") from None
    if inflater.unconsumed_tail:
        raise TooLargeError(f"Expected at most {most:,} bytes when unpacked, got more: no radiograph is that large.")
    if not inflater.eof:
        raise UnreadableError("The end of the compressed file is missing: copy it again from its source.")
    return plain


def opened(data: bytes) -> ImageFile.ImageFile:
    """Open a BMP, GIF, WebP, AVIF, PBM, PGM or PPM file.

    Raises:
        UnsupportedError: it is none of these; the message names what it is, if known.

    Example:
        >>> opened(b"%PDF-1.7")
        Traceback (most recent call last):
        pneumoscope.errors.UnsupportedError: Expected a radiograph, got a PDF document: export the image itself ...
    """
    for place, mark, what, way in _REFUSED:
        if data.startswith(mark, place):
            raise UnsupportedError(f"Expected a radiograph, got {what}: {way}.")
    for place, mark, plugin in _PLUGINS:
        if data.startswith(mark, place) and (mark != b"WEBP" or data.startswith(b"RIFF")):
            module, name = plugin.split(".")
            kind: type[ImageFile.ImageFile] = getattr(importlib.import_module(f"PIL.{module}"), name)
            return kind(io.BytesIO(data))
    raise UnsupportedError(
        "Expected a JPEG, PNG, TIFF or DICOM file, got something else: export the image in one of these formats."
    )


def unpacked_head(head: bytes, most: int) -> bytes:
    r"""Unpack as much as possible from the beginning of a gzip file; return any other beginning as it is.

    Args:
        head: the first bytes of a file.
        most: the most bytes to unpack.

    Example:
        >>> import gzip
        >>> unpacked_head(gzip.compress(b"BM"), 16), unpacked_head(b"GIF8", 16)
        (b'BM', b'GIF8')
    """
    if not head.startswith(GZIP):
        return head
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, most)
    except zlib.error:
        return b""


def begins_as_image(head: bytes) -> bool:
    r"""Return whether a file begins like one that `opened` or imagecodecs decodes, a JPEG, or a volume.

    Args:
        head: the first 352 bytes or more.

    Example:
        >>> begins_as_image(b"P5\n640 480\n255\n"), begins_as_image(b"P5 is a page")
        (True, False)
    """
    if head.startswith((jpeg.START, *_JPEG_2000, *_JPEG_XL)):
        return True
    if any(head.startswith(mark, place) for place, mark, *_ in _REFUSED_IMAGES) or _ARRAYS.match(head):
        return True
    kind = next((mark for place, mark, _ in _PLUGINS if head.startswith(mark, place)), None)
    # Text may begin with these two letters as well; in an image a reserved zero or the size follows.
    return bool(kind) and (
        head[6:10] == bytes(4) if kind == b"BM" else len(kind or b"") > 2 or bool(re.match(rb"P\d\s+[\d#]", head))
    )


def size(data: bytes, header: tiff.Header | None) -> tuple[str, int, int, int] | None:
    """Read the format, rows, columns and samples per pixel of a file that imagecodecs will decode.

    These are JPEG 2000, JPEG XL, JPEG-LS, JPEG with more than 8 bits per sample, and TIFFs that Pillow cannot read; for
    these, rows and columns are those of a tile if it is larger than the image.

    Args:
        data: the bytes of the file.
        header: what `tiff.header` returns for them.

    Returns:
        None for any other file.

    Raises:
        UnreadableError: the size is missing or damaged.

    Example:
        >>> size(b"BM", None) is None
        True
    """
    if data.startswith(_JPEG_XL):
        return ("JPEG XL", *_jpeg_xl_size(data), 3)
    if data.startswith(_JPEG_2000):
        at = data.find(_JPEG_2000[1])
        if at < 0 or len(data) < at + 42:
            raise UnreadableError("The image's size is missing: copy it again from its source.")
        right, bottom, left, top = (int.from_bytes(data[at + i : at + i + 4], "big") for i in (8, 12, 16, 20))
        return "JPEG 2000", bottom - top, right - left, int.from_bytes(data[at + 40 : at + 42], "big")
    if header is not None:
        if not tiff.is_beyond_pillow(data, header):
            return None
        return "TIFF", max(header.height, header.tile[0]), max(header.width, header.tile[1]), header.samples
    found = jpeg.jpeg_frame(data) if data.startswith(jpeg.START) else None
    if found and (found[0] == jpeg.JPEG_LS or found[1] > 8):
        return ("JPEG-LS" if found[0] == jpeg.JPEG_LS else "JPEG", *found[2:])
    return None


def decoded(data: bytes, name: str) -> NDArray[Any]:
    """Decode a file of a format that `size` returned: samples (H, W) or (H, W, channels), as stored.

    Example:
        >>> import imagecodecs
        >>> decoded(imagecodecs.jpeg2k_encode(np.zeros((20, 30), np.uint8)), "JPEG 2000").shape
        (20, 30)
    """
    import imagecodecs

    if name == "JPEG 2000":
        if b"\xff\xd9" not in data[-1024:]:
            raise UnreadableError("The end of the image is missing: copy it again from its source.")
        return np.asarray(imagecodecs.jpeg2k_decode(data, verbose=0))
    decode = {
        "JPEG XL": imagecodecs.jpegxl_decode,
        "JPEG-LS": imagecodecs.jpegls_decode,
        "TIFF": imagecodecs.tiff_decode,
    }.get(name, imagecodecs.jpeg8_decode)
    return np.asarray(decode(data))


def _jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Read rows and columns from the size header of a JPEG XL codestream (ISO/IEC 18181-1, annex D.2)."""
    start = 0 if data.startswith(_JPEG_XL[1]) else data.find(_JPEG_XL[1])
    bits, at = int.from_bytes(data[start + 2 : start + 16], "little"), 0
    if start < 0 or len(data) < start + 16:
        raise UnreadableError("The image's size is missing: copy it again from its source.")

    def read(n: int) -> int:
        nonlocal at
        at += n
        return (bits >> (at - n)) & ((1 << n) - 1)

    small = read(1)

    def side() -> int:
        return (read(5) + 1) * 8 if small else read((9, 13, 18, 30)[read(2)]) + 1

    rows = side()
    ratio = read(3)
    shares = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
    return rows, rows * shares[ratio - 1][0] // shares[ratio - 1][1] if ratio else side()
