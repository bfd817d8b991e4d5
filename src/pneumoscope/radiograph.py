"""The one way to read a picture: every door, the training and the evaluation get their pixels here."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pneumoscope import dicom
from pneumoscope.errors import (
    NotFoundError,
    PneumoscopeError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)

Source = str | os.PathLike[str] | bytes | NDArray[Any]

MAX_PIXELS = 100_000_000
"""No radiograph has more: the largest detectors give some 30 million."""

MAX_BYTES = 1_000_000_000

FORMATS = ("JPEG", "PNG", "TIFF")

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601-7, section 2.5.1), as Pillow uses them."""

_WHITE_IS_ZERO = 0
_TIFF_PHOTOMETRIC = 262
_SKIPPED_NAMES = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Radiograph:
    """A chest film as numbers.

    Attributes:
        pixels: float32, (H, W), in [0, 1]; bright is dense tissue.
        format: what the film came as: `JPEG`, `PNG`, `TIFF`, `DICOM` or `array`.
        bits: bits a sample in the source; 0 where the source was floating point.
        notes: what a reader of the verdict should know, such as `first_frame_only`.
    """

    pixels: NDArray[np.float32]
    format: str
    bits: int
    notes: tuple[str, ...] = ()


def read(source: Source) -> Radiograph:
    """Read a chest film from a path, from the bytes of a file, or from an array.

    Colour is reduced to brightness, transparency is laid over black, EXIF orientation is applied, and 16-bit
    pictures keep their depth. Of a file with several pictures the first one is read.

    Args:
        source: a path to a JPEG, PNG, TIFF or DICOM file; the bytes of one; or an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4) of unsigned integers, or of floats in [0, 1].

    Returns:
        The film, its pixels float32 (H, W) in [0, 1].

    Raises:
        NotFoundError: there is no file at the path.
        UnreadableError: the file is empty, truncated or corrupt, or may not be read.
        UnsupportedError: the file is no picture of a known kind, or the array no picture.
        TooLargeError: more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes.

    Example:
        >>> read(np.full((2, 3), 255, dtype=np.uint8)).pixels.shape
        (2, 3)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    data = source if isinstance(source, bytes) else _bytes_of(Path(source))
    if not data:
        raise UnreadableError("Expected a picture, got an empty file: copy it again from its origin.")
    if dicom.looks_like_dicom(data):
        pixels, bits, notes = dicom.decode(data, MAX_PIXELS)
        return Radiograph(pixels, "DICOM", bits, notes)
    return _from_picture(data)


def resize(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Squash a film to the square a network looks at, averaging where it shrinks.

    The aspect is given up on purpose: in the training films normals and pneumonias differ in aspect, and a network
    that sees the aspect learns it instead of the lungs.

    Args:
        pixels: float32 (H, W) in [0, 1].
        size: the side of the square, in pixels.

    Returns:
        float32 (size, size) in [0, 1].

    Example:
        >>> resize(np.ones((4, 6), dtype=np.float32), 2)
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    if pixels.shape == (size, size):
        return pixels
    squashed = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(squashed, dtype=np.float32), 0.0, 1.0)


def files(path: str | os.PathLike[str]) -> Iterator[Path]:
    """List the files at a path: the path itself, or every file below a folder, sorted, hidden ones left out.

    Whatever is not a folder is listed as it is, and so is a folder that may not be opened: reading it tells why it
    gives no film, so that nothing is silently missing.

    Example:
        >>> [file.name for file in files("films")]  # doctest: +SKIP
        ['a.png', 'b.dcm']
    """
    path = Path(path)
    if not path.is_dir():
        yield path
        return
    closed: list[Path] = []
    for folder, subfolders, names in os.walk(path, onerror=lambda error: closed.append(Path(error.filename))):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in _SKIPPED_NAMES:
                yield Path(folder, name)
    yield from closed


def _bytes_of(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnsupportedError("Expected a file, got a folder; if it was found below another one, it may not be opened.")
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedError("Expected an ordinary file, got a pipe, socket or device.")
        if status.st_size > MAX_BYTES:
            raise TooLargeError(f"Expected at most {MAX_BYTES:,} bytes, got {status.st_size:,}.")
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("Expected a file, got a name that does not exist.") from None
    except OSError as error:
        raise UnreadableError(f"The file cannot be read ({error.strerror}): check its permissions.") from error
    except ValueError as error:  # a null character in the name
        raise NotFoundError(f"Expected the name of a file, got one that no file can have ({error}).") from None


def _from_picture(data: bytes) -> Radiograph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size limit and EXIF remarks; ours is checked below
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise TooLargeError(
                    f"Expected at most {MAX_PIXELS:,} pixels, got {width} x {height}: no radiograph is that large."
                )
            pixels, bits = _brightness(picture, data)
    except PneumoscopeError:
        raise
    except UnidentifiedImageError:
        raise UnsupportedError(
            "Expected a JPEG, PNG, TIFF or DICOM file, got something else: export the film in one of these."
        ) from None
    except MemoryError:
        raise TooLargeError("The picture does not fit into memory.") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise every kind of error on corrupt files
        raise UnreadableError(f"The picture is damaged ({_one_line(error)}): copy it again from its origin.") from error
    notes = ("first_frame_only",) if getattr(picture, "n_frames", 1) > 1 else ()
    return Radiograph(pixels, str(picture.format), bits, notes)


def _brightness(picture: Image.Image, data: bytes) -> tuple[NDArray[np.float32], int]:
    """Decode to float32 (H, W) in [0, 1], and say how many bits a sample had."""
    samples, bits = _samples(picture, data)
    if samples.ndim == 3:
        channels = samples.shape[-1]
        alpha = samples[..., -1] if channels in (2, 4) else None
        samples = samples[..., :3] @ LUMA if channels >= 3 else samples[..., 0]
        if alpha is not None:
            samples = samples * alpha
    orientation = picture.getexif().get(0x0112, 1)
    return np.ascontiguousarray(_upright(samples, orientation), dtype=np.float32), bits


def _samples(picture: Image.Image, data: bytes) -> tuple[NDArray[np.float32], int]:
    """Decode without turning: float32 in [0, 1], (H, W) or (H, W, channels)."""
    mode = picture.mode
    deep = _deep_colour(picture, data)
    if deep is not None:
        return deep, 16
    if mode == "F":
        return _unit_floats(np.asarray(picture)), 0
    if mode == "I" or mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.int64)
        scaled, bits = _unit_integers(values)
        # Pillow turns white-is-zero pictures the right way round for 8 bits, not for 16.
        if picture.format == "TIFF" and picture.tag_v2.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
            scaled = 1.0 - scaled
        return scaled, bits
    if mode in ("L", "LA", "RGB", "RGBA"):
        converted = picture
    elif mode == "1":
        converted = picture.convert("L")
    elif "transparency" in picture.info or mode in ("PA", "La", "RGBa"):
        converted = picture.convert("RGBA")
    else:  # P, CMYK, YCbCr, LAB, HSV
        converted = picture.convert("RGB")
    return np.asarray(converted, dtype=np.float32) / 255.0, 1 if mode == "1" else 8


def _deep_colour(picture: Image.Image, data: bytes) -> NDArray[np.float32] | None:
    """Colour and gray-with-alpha of 16 bits, of which Pillow keeps the high bytes only; None for any other picture.

    The same data are decoded twice: once as they are, once with the byte order turned, which yields the low bytes.
    """
    modes = [str(tile[3] if isinstance(tile[3], str) else tile[3][0]) for tile in picture.tile]
    if not modes or not all(mode.startswith(("RGB", "LA")) and ";16" in mode for mode in modes):
        return None
    high = np.asarray(picture, dtype=np.float32)
    turned = Image.open(io.BytesIO(data), formats=FORMATS)
    swap = {"B": "L", "L": "B"}
    tiles = []
    for tile, mode in zip(turned.tile, modes, strict=True):
        other = mode[:-1] + swap.get(mode[-1], mode[-1])
        arguments = other if isinstance(tile[3], str) else (other, *tile[3][1:])
        tiles.append(tile._replace(args=arguments))
    turned.tile = tiles
    low = np.asarray(turned, dtype=np.float32)
    return (high * 256.0 + low) / 65535.0


def _unit_integers(values: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
    """Scale unsigned integers of unknown depth to [0, 1] by the depth they use: 12-bit films often travel in 16."""
    low, high = int(values.min()), int(values.max())
    if low < 0:
        values, high = values - low, high - low
    bits = max(8, high.bit_length())
    return (values / float(2**bits - 1)).astype(np.float32), bits


def _unit_floats(values: NDArray[Any]) -> NDArray[np.float32]:
    """Take floats in [0, 1] as they are and stretch any others from their smallest to their largest."""
    if not np.isfinite(values).all():
        raise UnreadableError("Expected finite pixels, got some that are infinite or not a number.")
    low, high = float(values.min()), float(values.max())
    if low >= 0.0 and high <= 1.0:
        return values.astype(np.float32)
    spread = (high - low) or 1.0
    return ((values.astype(np.float64) - low) / spread).astype(np.float32)


def _upright(samples: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Turn a picture as its EXIF orientation says (CIPA DC-008, tag 0x0112: 1 to 8, 1 upright)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _from_array(array: NDArray[Any]) -> Radiograph:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or array.size == 0:
        raise UnsupportedError(f"Expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {array.shape}.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise TooLargeError(f"Expected at most {MAX_PIXELS:,} pixels, got {array.shape[1]} x {array.shape[0]}.")
    if array.dtype == np.bool_:
        unit, bits = array.astype(np.float32), 1
    elif array.dtype == np.uint8:
        unit, bits = array.astype(np.float32) / np.float32(255.0), 8
    elif np.issubdtype(array.dtype, np.integer):
        unit, bits = _unit_integers(array.astype(np.int64))
    elif np.issubdtype(array.dtype, np.floating):
        unit, bits = _unit_floats(array), 0
    else:
        raise UnsupportedError(f"Expected an array of integers or floats, got {array.dtype}.")
    if unit.ndim == 3:
        alpha = unit[..., 3] if unit.shape[-1] == 4 else np.float32(1.0)
        unit = (unit[..., :3] @ LUMA) * alpha
    return Radiograph(np.ascontiguousarray(unit, dtype=np.float32), "array", bits)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
