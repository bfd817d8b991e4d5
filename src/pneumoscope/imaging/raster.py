"""JPEG, PNG and TIFF files to pixels, at the depth they have."""

from __future__ import annotations

import io
import re
import struct
import sys
import warnings
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging.brightness import Scaled, brightness, unit

_PLUGINS: dict[bytes, type[JpegImageFile | PngImageFile | TiffImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
"""How a file begins, and what decodes it: `Image.open` has a size limit of its own, which any library may change."""

SIGNATURES = tuple(_PLUGINS)
"""How the files begin that `decode` decodes."""

_JPEG_START_OF_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
JPEG_LS = 0xF7
_JPEG_LOSSLESS = 0xC3
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, _JPEG_LOSSLESS, JPEG_LS)
"""Baseline, extended, progressive, lossless, JPEG-LS (ITU-T T.81, table B.1; ITU-T T.87, section C.1.1)."""

_JPEG_OF_THE_IMAGE = (0xC0, 0xC1, 0xC2, 0xC4, 0xDA, 0xDB, 0xDC, 0xDD)
_JPEG_SEGMENT = re.compile(rb"\xff+([\xc0-\xcf\xd9-\xfe])")
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # within an image, restarts and stuffed bytes are none
_JPEG_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_JPEG_ASIDE = re.compile("JFIF|ICC|Adobe")  # in what libjpeg says of metadata
_TELLING = (OSError, SyntaxError, ValueError)
"""Errors of decoders whose text says something of the image; the others are of their own making."""

_ON_THE_SIDE = (5, 6, 7, 8)
"""EXIF orientations whose rows are the columns of the file."""

_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_STRIPS, _TIFF_PLANAR, _TIFF_TILES = 258, 259, 262, 273, 284, 324
_TIFF_JPEG = (6, 7)

MAX_SCANS = 100
"""A progressive JPEG has some ten; each is a pass over all of the image, and thousands fit into a few bytes."""

MOST_LEFT_OVER = 3
"""Bytes at the end of a JPEG that say nothing; more of them are a part of the image that was lost."""

_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

# Pillow's remarks on metadata name no file. Silenced once, because `catch_warnings` around each image is not safe in
# threads: it would leave the filters of one of them to the whole process.
warnings.filterwarnings("ignore", module=r"PIL\.(Png|Tiff)ImagePlugin")


def decode(
    data: bytes, max_pixels: int, at_least: int | None = None
) -> tuple[NDArray[np.float32], str, int, tuple[int, int], tuple[str, ...]]:
    """Decode the first image of a JPEG, PNG or TIFF file.

    Args:
        data: the bytes of the file.
        max_pixels: the most pixels to decode.
        at_least: a JPEG may be reduced while it is decoded, as long as no side gets shorter than this.

    Returns:
        float32 (H, W) in [0, 1]; the format; the bits a sample, 0 for floats; the (H, W) in the file; notes such as
        `first_frame_only`.

    Raises:
        UnsupportedError: the file is of another kind, or of a kind of TIFF that cannot be decoded here.
        TooLargeError: more than `max_pixels` pixels.
        UnreadableError: the file is damaged.

    Example:
        >>> pixels, name, bits, shape, notes = decode(open("image.png", "rb").read(), 10**8)  # doctest: +SKIP
    """
    try:
        image = _open(data, max_pixels)
        width, height = image.size
        if at_least and image.mode in ("L", "RGB") and min(width, height) >= 2 * at_least and _is_reducible(data):
            image.draft("L", (at_least, at_least))
        samples, bits, dark = _samples(image, data)
        turn = image.getexif().get(0x0112, 1)
        pixels = _upright(brightness(samples), turn)
        noted = {"first_frame_only": _has_more(image), "dark": dark}
        notes = tuple(note for note, holds in noted.items() if holds)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The image does not fit into memory.") from None
    except Exception as error:  # Pillow's decoders raise every kind of error on corrupt files
        reason = f" ({' '.join(str(error).split())})" if isinstance(error, _TELLING) and str(error) else ""
        raise UnreadableError(
            f"The image cannot be decoded{reason}: copy it again from its origin, or export it anew."
        ) from error
    shape = (width, height) if turn in _ON_THE_SIDE else (height, width)
    return np.ascontiguousarray(pixels, dtype=np.float32), str(image.format), bits, shape, notes


def bare_jpeg(data: bytes) -> tuple[bytes, tuple[int, int]] | None:
    """Give a JPEG file with nothing in it but its image: no camera, no time, no comment, no name.

    Only the segments that a decoder needs are kept (ITU-T T.81, section B.2), and of JFIF's and Adobe's what says how
    colours are stored; whatever follows the image is dropped. What is burnt into the pixels stays.

    Args:
        data: the bytes of a file that `decode` can decode.

    Returns:
        The file and the (H, W) of its image; None where it is no JPEG, or one that stands upright only by its
        metadata, or that not every program shows alike: neither gray nor colour of 8 bits.

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
    """Give a JPEG without its metadata; None where it has no end."""
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


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    plugin = next((plugin for signature, plugin in _PLUGINS.items() if data.startswith(signature)), None)
    if plugin is None:
        raise UnsupportedError(
            "Expected a JPEG, PNG, TIFF or DICOM file, got something else: export the image in one of these."
        )
    # Pillow rejects an image without its end, but not where any other library has set LOAD_TRUNCATED_IMAGES.
    if plugin is JpegImageFile and data.find(_JPEG_START_OF_SCAN, max(0, data.rfind(_JPEG_END))) >= 0:
        raise UnreadableError("The end of the image is missing: copy it again from its origin.")
    image = plugin(io.BytesIO(data))
    check_size(*image.size, len(image.getbands()), max_pixels)
    jpegs = _jpegs(image)
    if jpegs and data.count(_JPEG_START_OF_SCAN) > MAX_SCANS * jpegs:
        raise TooLargeError(f"Expected at most {MAX_SCANS} scans in a JPEG, got more: save the image again.")
    return image


def whole_jpeg(data: bytes, size: tuple[int, int], channels: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG of 8 bits a sample unless it is damaged; other decoders pass over damage without a word.

    Args:
        data: the bytes of the JPEG.
        size: its (width, height), or a half, a quarter or an eighth of them to decode it reduced.
        channels: 1 for gray, 3 for red, green and blue.

    Returns:
        (H, W) or (H, W, 3), to the pixel what Pillow and imagecodecs give; None where another decoder is to be asked:
        for colours sampled in an unusual way, or a few bytes too many at the end, as some programs leave there.

    Raises:
        ValueError: it is damaged.

    Example:
        >>> whole_jpeg(open("image.jpeg", "rb").read(), (1776, 1416), 1).shape  # doctest: +SKIP
        (1416, 1776)
    """
    width, height = size
    frame = jpeg_frame(data)
    if frame is None or frame[1] != 8 or (frame[0] == _JPEG_LOSSLESS and frame[2:4] != (height, width)):
        return None  # above all what cannot be reduced: simplejpeg would write beyond the room for the reduced image
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "GRAY" if channels == 1 else "RGB", min_height=height, min_width=width
        )
    except ValueError as error:
        reason = str(error)
        if _JPEG_ASIDE.search(reason):  # only the first fault is told: the others may be in the image
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
    """Read what a JPEG says of its image: the frame header (ITU-T T.81, section B.2.2).

    Args:
        data: the bytes of the JPEG.

    Returns:
        The marker's second byte, bits a sample, rows, columns, and samples a pixel; None where these are no segments
        up to a frame of `_JPEG_FRAMES`.

    Example:
        >>> jpeg_frame(open("image.jpeg", "rb").read())  # doctest: +SKIP
        (192, 8, 1416, 1776, 1)
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while (segment := _JPEG_SEGMENT.match(data, at)) and segment[1][0] not in (0xD9, 0xDA):
        if segment[1][0] in _JPEG_FRAMES and len(data) >= segment.end() + 8:
            return segment[1][0], *struct.unpack_from(">BHHB", data, segment.end() + 2)
        at = segment.end() + int.from_bytes(data[segment.end() : segment.end() + 2], "big")
    return None


def _is_reducible(data: bytes) -> bool:
    """Say whether this is a JPEG that may be decoded at a half, a quarter or an eighth of its size."""
    frame = jpeg_frame(data)
    return frame is not None and frame[0] != _JPEG_LOSSLESS


def check_size(width: int, height: int, channels: int, max_pixels: int) -> None:
    """Reject an image whose decoding could exhaust the memory, colour from two thirds of the pixels on.

    Raises:
        TooLargeError: more than `max_pixels` pixels, or twice as many samples.

    Example:
        >>> check_size(2000, 1500, 1, 80_000_000)
    """
    if width * height * max(channels, 2) > 2 * max_pixels:
        most = 2 * max_pixels // max(channels, 2)
        raise TooLargeError(f"Expected at most {most:,} pixels, got {width} x {height}: no radiograph is that large.")


def _jpegs(image: ImageFile.ImageFile) -> int:
    """Count the JPEGs of several scans that an image is made of: a TIFF may have one in each strip or tile.

    Of a JPEG that is gray and not progressive, as most images are, the decoder reads one scan, however many there are.
    """
    if isinstance(image, TiffImageFile):
        packed = image.tag_v2.get(_TIFF_COMPRESSION) in _TIFF_JPEG
        return len(image.tag_v2.get(_TIFF_STRIPS) or image.tag_v2.get(_TIFF_TILES) or ()) if packed else 0
    return int(isinstance(image, JpegImageFile) and (image.layers > 1 or "progressive" in image.info))


def _has_more(image: ImageFile.ImageFile) -> bool:
    """Say whether a second image follows. Pillow's count would visit each page of a TIFF that has a million."""
    if not isinstance(image, TiffImageFile):
        return getattr(image, "n_frames", 1) > 1
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _samples(image: ImageFile.ImageFile, data: bytes) -> Scaled:
    """Decode without turning: samples (H, W) or (H, W, channels)."""
    deep = _deep(image, data)
    if deep is not None:
        samples, bits, dark = unit(deep)
        if "transparency" in image.info:  # the one colour of a PNG that is
            samples[(np.atleast_3d(deep) == image.info["transparency"]).all(axis=-1)] = 0.0
        # Pillow turns white-is-zero images the right way round for 8 bits, not for more.
        white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
        return Scaled(1.0 - samples if white_is_zero else samples, bits, dark)
    if isinstance(image, JpegImageFile) and image.mode in ("L", "RGB"):
        whole = whole_jpeg(data, image.size, 1 if image.mode == "L" else 3)
        return unit(np.asarray(image) if whole is None else whole)
    mode = image.mode
    if "transparency" in image.info or mode == "PA":
        plain = "RGBA"
    else:  # the others are P, CMYK, YCbCr and LAB
        plain = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGBA": "RGBA"}.get(mode, "RGB")
    samples, _, dark = unit(np.asarray(image.convert(plain)))
    return Scaled(samples, 1 if mode == "1" else 8, dark)


def _deep(image: ImageFile.ImageFile, data: bytes) -> NDArray[Any] | None:
    """Decode samples of more than 8 bits, (H, W) or (H, W, channels), as they are stored; None for any other image.

    Of 16-bit colour Pillow keeps the high bytes only. Decoded again, as if the bytes of each sample stood the other
    way round, the image yields the low ones.
    """
    layout = _layout(image)
    kind, _, order = layout.partition(";16")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        if image.tile[0].codec_name == "libtiff":  # it gives the machine's byte order; Pillow forgets that for some
            _set_layout(image, layout.replace("B", "N"))
        values: NDArray[Any] = np.asarray(image)
        return values.view(np.uint32) if layout == "I;32N" else values
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PLANAR) == 2:
        if max(image.tag_v2.get(_TIFF_BITS, (1,))) > 8:
            raise UnsupportedError("Expected 16-bit colour pixel by pixel, got it plane by plane: export it as gray.")
    elif layout == "LA;16B":  # read as if its four bytes a pixel were red, green, blue and alpha
        pairs = np.asarray(_set_layout(image, "RGBA")).astype(np.uint16)
        return pairs[..., ::2] * 256 + pairs[..., 1::2]
    elif kind in ("RGB", "RGBX", "RGBA") and order:
        high = np.asarray(image).astype(np.uint16)
        turned = _set_layout(_open(data, high.size), f"{kind};16{_OTHER_BYTE[order]}")
        return high * 256 + np.asarray(turned, dtype=np.uint16)
    elif order:
        raise UnsupportedError(f"Expected 16-bit colour as RGB or RGBA, got {kind}: export it as gray.")
    return None


def _layout(image: ImageFile.ImageFile) -> str:
    """Give Pillow's name of the samples' order and depth in the file, such as `RGB;16B`."""
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _set_layout(image: ImageFile.ImageFile, layout: str) -> ImageFile.ImageFile:
    image.tile = [
        tile._replace(args=(layout, *tile.args[1:]) if isinstance(tile.args, tuple) else layout) for tile in image.tile
    ]
    return image


def _upright(samples: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Turn an image as its EXIF orientation says (CIPA DC-008, tag 0x0112: 1 to 8, 1 upright)."""
    if orientation in _ON_THE_SIDE:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
