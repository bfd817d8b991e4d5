"""Decodes JPEG, PNG and TIFF files to pixels at their full bit depth."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import colour, formats, jpeg, tiff
from pneumoscope.imaging.brightness import Scaled, brightness, unit

_PLUGINS: dict[bytes, type[JpegImageFile | PngImageFile | TiffImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
"""The decoder for each file signature. `Image.open` is not used: its size limit can be changed by any library."""

SIGNATURES = tuple(_PLUGINS)
"""The signatures of the files that `decode` decodes."""

_TELLING = (OSError, SyntaxError, ValueError)
"""Decoder errors whose text describes the image; others describe the decoder's own internals."""

_ON_THE_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap rows and columns."""

_EXIF, _EXPOSURE_TIME, _F_NUMBER = 0x8769, 0x829A, 0x829D
"""Exif tags (CIPA DC-008) that cameras write and film scanners do not."""

_SMALL = 32
"""The smallest side at which the colours of a JPEG are examined."""

_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_STRIPS, _TIFF_PLANAR, _TIFF_TILES = 258, 259, 262, 273, 284, 324
_TIFF_JPEG = (6, 7)

_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

# Pillow's warnings about metadata do not name the file. They are silenced once, for the process: `catch_warnings`
# around each image is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.(Png|Tiff)ImagePlugin")


def decode(
    data: bytes, max_pixels: int, at_least: int | None = None
) -> tuple[NDArray[np.float32], str, int, tuple[int, int], tuple[str, ...]]:
    """Decode the first image of a JPEG, PNG or TIFF file, or of those in `formats`.

    Args:
        data: the bytes of the file.
        max_pixels: the most pixels to decode.
        at_least: a JPEG may be reduced while it is decoded, as long as no side becomes shorter than this.

    Returns:
        float32 (H, W) in [0, 1]; the format; the bits per sample, 0 for floats; the (H, W) in the file; notes such as
        `first_frame_only`.

    Raises:
        UnsupportedError: the file is of another kind, or a kind of TIFF that cannot be decoded here.
        TooLargeError: more than `max_pixels` pixels.
        UnreadableError: the file is damaged.

    Example:
        >>> from pathlib import Path
        >>> pixels, name, bits, shape, notes = decode(Path("image.png").read_bytes(), 10**8)
    """
    try:
        # Pillow rejects a truncated image, unless some library has set LOAD_TRUNCATED_IMAGES.
        data = jpeg.alone(data) if data.startswith(jpeg.START) else data
        header = tiff.header(data)
        if (found := formats.size(data, header)) is not None:
            return _coded(data, found, header, max_pixels)
        image = _open(data, max_pixels)
        if header is not None:
            check_size(*header.tile[::-1], len(image.getbands()), max_pixels)
        width, height = image.size
        coloured = isinstance(image, JpegImageFile) and image.mode == "RGB"
        if at_least and image.mode in ("L", "RGB") and min(width, height) >= 2 * at_least and jpeg.is_reducible(data):
            image.draft("L", (at_least, at_least))
        samples, bits, dark = _samples(image, data)
        turn = image.getexif().get(0x0112, 1)
        pixels = _upright(brightness(samples), turn)
        seen = _seen(image, _small(data) if coloured and samples.ndim == 2 else samples)
        noted = {"first_frame_only": _has_more(image), "dark": dark, **dict.fromkeys(seen, True)}
        notes = tuple(note for note, holds in noted.items() if holds)
    except PneumoscopeError:
        raise
    except MemoryError:
        raise TooLargeError("The image does not fit into memory.") from None
    except Exception as error:  # Pillow's decoders raise every kind of error on corrupt files
        reason = f" ({' '.join(str(error).split())})" if isinstance(error, _TELLING) and str(error) else ""
        raise UnreadableError(
            f"The image cannot be decoded{reason}: copy it again from its source, or export it again."
        ) from error
    shape = (width, height) if turn in _ON_THE_SIDE else (height, width)
    return np.ascontiguousarray(pixels, dtype=np.float32), str(image.format), bits, shape, notes


def _coded(
    data: bytes, found: tuple[str, int, int, int], header: tiff.Header | None, max_pixels: int
) -> tuple[NDArray[np.float32], str, int, tuple[int, int], tuple[str, ...]]:
    """Decode with imagecodecs what Pillow cannot decode, or not at full depth."""
    name, height, width, channels = found
    check_size(width, height, channels, max_pixels)
    stored = formats.decoded(data, name)
    samples, bits, dark = unit(stored[..., 0] if stored.ndim == 3 and stored.shape[2] == 1 else stored)
    seen = colour.remarks(samples) if samples.ndim == 3 and samples.shape[2] >= 3 else []
    if header and header.photometric == 0:
        samples = 1.0 - samples
    noted = {"first_frame_only": header is not None and header.more, "dark": dark, **dict.fromkeys(seen, True)}
    notes = tuple(note for note, holds in noted.items() if holds)
    pixels = _upright(brightness(samples), header.orientation if header else 1)
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    return pixels, name, bits, pixels.shape, notes


def _seen(image: ImageFile.ImageFile, samples: NDArray[np.float32]) -> list[str]:
    """Return the notes that follow from a camera's Exif data and from the colours."""
    if {_EXPOSURE_TIME, _F_NUMBER} & set(image.getexif().get_ifd(_EXIF)):
        return ["photograph_of_screen"]
    return colour.remarks(samples) if samples.ndim == 3 and samples.shape[2] >= 3 else []


def _small(data: bytes) -> NDArray[np.float32]:
    """Decode a reduced colour version of a JPEG that is itself decoded in gray."""
    small = JpegImageFile(io.BytesIO(data))
    small.draft("RGB", (_SMALL, _SMALL))
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    plugin = next((plugin for signature, plugin in _PLUGINS.items() if data.startswith(signature)), None)
    image = plugin(io.BytesIO(data)) if plugin else formats.opened(data)
    check_size(*image.size, len(image.getbands()), max_pixels)
    jpegs = _jpegs(image)
    if jpegs and data.count(jpeg.START_OF_SCAN) > jpeg.MAX_SCANS * jpegs:
        raise TooLargeError(f"Expected at most {jpeg.MAX_SCANS} scans in a JPEG, got more: save the image again.")
    return image


def check_size(width: int, height: int, channels: int, max_pixels: int) -> None:
    """Reject an image that could exhaust the memory when decoded.

    Raises:
        TooLargeError: more than `max_pixels` pixels, or more than twice as many samples; the limit for RGB is therefore
            two thirds of `max_pixels`.

    Example:
        >>> check_size(2000, 1500, 1, 80_000_000)
    """
    if width * height * max(channels, 2) > 2 * max_pixels:
        most = 2 * max_pixels // max(channels, 2)
        raise TooLargeError(f"Expected at most {most:,} pixels, got {width} x {height}: no radiograph is that large.")


def _jpegs(image: ImageFile.ImageFile) -> int:
    """Count the JPEGs in an image that may have several scans: a TIFF may hold one in each strip or tile.

    In a gray JPEG that is not progressive, as most are, the decoder reads one scan, however many there are.
    """
    if isinstance(image, TiffImageFile):
        packed = image.tag_v2.get(_TIFF_COMPRESSION) in _TIFF_JPEG
        return len(image.tag_v2.get(_TIFF_STRIPS) or image.tag_v2.get(_TIFF_TILES) or ()) if packed else 0
    return int(isinstance(image, JpegImageFile) and (image.layers > 1 or "progressive" in image.info))


def _has_more(image: ImageFile.ImageFile) -> bool:
    """Return whether a second image follows. Pillow's own count would visit every page of a TIFF."""
    if image.format not in ("TIFF", "GIF"):
        return getattr(image, "n_frames", 1) > 1
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _samples(image: ImageFile.ImageFile, data: bytes) -> Scaled:
    """Decode without applying the orientation: samples (H, W) or (H, W, channels)."""
    deep = _deep(image, data)
    if deep is not None:
        samples, bits, dark = unit(deep)
        if "transparency" in image.info:  # the one transparent colour of a PNG
            samples[(np.atleast_3d(deep) == image.info["transparency"]).all(axis=-1)] = 0.0
        # Pillow inverts white-is-zero images at 8 bits, but not at more.
        white_is_zero = isinstance(image, TiffImageFile) and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
        return Scaled(1.0 - samples if white_is_zero else samples, bits, dark)
    if isinstance(image, JpegImageFile) and image.mode in ("L", "RGB"):
        whole = jpeg.whole_jpeg(data, image.size, 1 if image.mode == "L" else 3)
        return unit(np.asarray(image) if whole is None else whole)
    samples, _, dark = unit(np.asarray(image.convert(plain_mode(image))))
    return Scaled(samples, 1 if image.mode == "1" else 8, dark)


def plain_mode(image: Image.Image) -> str:
    """Return the 8-bit Pillow mode that represents an image without loss.

    Example:
        >>> plain_mode(Image.new("P", (1, 1))), plain_mode(Image.new("1", (1, 1)))
        ('RGB', 'L')
    """
    if "transparency" in image.info or image.mode == "PA":
        return "RGBA"
    # Everything else becomes RGB: P, CMYK, YCbCr and LAB.
    return {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGBA": "RGBA"}.get(image.mode, "RGB")


def _deep(image: ImageFile.ImageFile, data: bytes) -> NDArray[Any] | None:
    """Decode samples of more than 8 bits, (H, W) or (H, W, channels), as stored; None for any other image.

    Pillow keeps only the high bytes of 16-bit colour. Decoding again with the byte order swapped yields the low bytes.
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
    elif layout == "LA;16B":  # its four bytes per pixel are read as red, green, blue and alpha
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
    """Return Pillow's name for the order and depth of the samples in the file, such as `RGB;16B`."""
    if not image.tile:  # plugins that decode everything at once have none
        return ""
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _set_layout(image: ImageFile.ImageFile, layout: str) -> ImageFile.ImageFile:
    image.tile = [
        tile._replace(args=(layout, *tile.args[1:]) if isinstance(tile.args, tuple) else layout) for tile in image.tile
    ]
    return image


def _upright(samples: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Apply an EXIF orientation (CIPA DC-008, tag 0x0112: 1 to 8, 1 is upright)."""
    if orientation in _ON_THE_SIDE:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
