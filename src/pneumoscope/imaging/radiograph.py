"""The one way to read an image: prediction, training and evaluation all get their pixels here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pneumoscope.errors import NotFoundError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import brightness, colour, formats, raster

Source = str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image

MAX_PIXELS = 80_000_000
"""More than any radiograph has: the largest detectors produce some 30 million. Pillow warns from 89 million on."""

MAX_BYTES = 1_000_000_000

OVERLAY_SUFFIXES = (".evidence.svg", ".evidence.png")
"""Names of the overlays that `predict` draws; in a folder they are skipped, not read as images."""

DICOM_SUFFIXES = (".report.dcm", ".evidence.dcm")
"""Names of the DICOM objects that `predict` writes; skipped likewise."""

CURVE_SUFFIXES = (".curve.svg", ".curve.png")
"""Names of the curves that `evaluate` draws; skipped likewise."""

HEAD = 4096
"""How many bytes from the start of a file are enough to identify its format."""

_SKIPPED_NAMES = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Radiograph:
    """A chest radiograph as numbers.

    Attributes:
        pixels: float32, (H, W), in [0, 1]; bright is dense tissue.
        format: the format of the source: `JPEG`, `PNG`, `TIFF`, `DICOM`, `array`, and so on.
        bits: bits per sample in the source; 0 if it was floating point.
        shape: (H, W) of the source; `pixels` is smaller if a reduced image was requested.
        notes: what a reader of the finding should know, such as `first_frame_only`.
    """

    pixels: NDArray[np.float32]
    format: str
    bits: int
    shape: tuple[int, int]
    notes: tuple[str, ...] = ()


def read(source: Source, *, at_least: int | None = None, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read a chest radiograph from a path, from the bytes of a file, from an array, or from a Pillow image.

    Colour is reduced to brightness, transparency is composited over black, EXIF orientation is applied, and 16-bit
    images keep their depth. If a file holds several images, the first one is read.

    Args:
        source: a path to a JPEG, PNG, TIFF or DICOM file; the bytes of one; or an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4) of unsigned integers, or of floats in [0, 1]; or a Pillow image.
        at_least: a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as neither side becomes
            shorter than this. A caller that squashes the image afterwards should pass the side of the square; training
            and prediction both do, so that they see the same pixels.
        max_pixels: the largest image to read, in pixels.

    Returns:
        The image, its pixels float32 (H, W) in [0, 1].

    Raises:
        NotFoundError: there is no file at the path.
        UnreadableError: the file is empty, truncated or corrupt, or there is no permission to read it.
        UnsupportedError: the file is not an image of a known kind, or the array is not an image.
        TooLargeError: more than `max_pixels` pixels (two thirds of that in colour), more than `MAX_BYTES` bytes, or a
            decompression bomb.
        NotAChestRadiographError: a DICOM header declares something else.

    Example:
        >>> read(np.full((2, 3), 255, dtype=np.uint8)).pixels.shape
        (2, 3)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_image(source, max_pixels)
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise UnsupportedError(
            "Expected a path, the bytes of a file, an array or a Pillow image, got "
            f"'{type(source).__name__}': give one of these."
        )
    data = source if isinstance(source, bytes) else read_bytes(Path(source))
    if not data:
        raise UnreadableError("Expected an image, got an empty file: copy it again from its origin.")
    data = formats.unpacked(data, MAX_BYTES)
    if is_dicom(data):
        from pneumoscope.imaging.dicom import decoder

        pixels, bits, notes = decoder.decode(data, max_pixels)
        return Radiograph(pixels, "DICOM", bits, pixels.shape, notes)
    return Radiograph(*raster.decode(data, max_pixels, at_least))


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes of a file are read as DICOM.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"no image")
        (True, False)
    """
    if data.startswith(raster.SIGNATURES) and data[128:132] != b"DICM":  # a DICOM preamble may look like a TIFF header
        return False
    if data[128:132] != b"DICM" and data[:2] not in (b"\2\0", b"\0\2", b"\10\0", b"\0\10"):  # group 2 or 8
        return False
    from pneumoscope.imaging.dicom import parser  # takes longer to import than to predict an image

    return parser.looks_like_dicom(data)


def begins_as_image(head: bytes) -> bool:
    r"""Return whether a file that begins like this is an image or a volume, whether or not it can be read.

    Args:
        head: the first `HEAD` bytes, or all of a shorter file.

    Example:
        >>> begins_as_image(b"\xff\xd8\xff\xe0"), begins_as_image(b"path,label")
        (True, False)
    """
    head = formats.unpacked_head(head, HEAD)
    return head.startswith(raster.SIGNATURES) or formats.begins_as_image(head) or is_dicom(head)


def resize(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Squash an image to the square that a network takes, averaging where it shrinks.

    The aspect ratio is discarded on purpose: normals and pneumonias differ in it in the training images, and a network
    that sees it learns it instead of the lungs.

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
    """List the files at a path: the path itself, or every file below a folder, sorted, except hidden ones and overlays.

    A path that is not a folder is listed as it is. So is a folder that cannot be opened: reading it raises the reason,
    so that nothing is silently missing.

    Example:
        >>> [file.name for file in files("images")]
        ['a.png', 'b.dcm']
    """
    path = Path(path)
    if not os.path.isdir(path):  # noqa: PTH112 - `Path` raises where a name is too long or may not be looked up
        yield path
        return
    closed: list[Path] = []
    seen: set[tuple[int, int]] = set()  # a folder that links reach twice, or that links to itself, is listed once
    walk = os.walk(path, onerror=lambda error: closed.append(Path(error.filename)), followlinks=True)
    for folder, subfolders, names in walk:
        place = os.stat(folder)  # noqa: PTH116 - `Path` would stat a copy of every name
        if (place.st_dev, place.st_ino) in seen:
            subfolders[:] = []
            continue
        seen.add((place.st_dev, place.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not is_folder_passed_over(name))
        for name in sorted(names):
            if not is_passed_over(name):
                yield Path(folder, name)
    yield from closed


def is_folder_passed_over(name: str) -> bool:
    """Return whether a folder is skipped because of its name: hidden, or created by macOS archives.

    Example:
        >>> is_folder_passed_over("__MACOSX"), is_folder_passed_over("images")
        (True, False)
    """
    return name.startswith((".", "__MACOSX"))


def is_passed_over(name: str) -> bool:
    """Return whether a file in a folder is skipped because of its name: hidden, written here, or a file manager's.

    Example:
        >>> is_passed_over("image.png"), is_passed_over(".DS_Store")
        (False, True)
    """
    made = OVERLAY_SUFFIXES + DICOM_SUFFIXES + CURVE_SUFFIXES
    return name.startswith(".") or name.lower() in _SKIPPED_NAMES or name.endswith(made)


def read_bytes(path: Path) -> bytes:
    """Read all bytes of an image file.

    Raises:
        NotFoundError: there is no such file.
        UnreadableError: there is no permission to read it, or reading fails.
        UnsupportedError: it is a folder, a pipe or a device.
        TooLargeError: more than `MAX_BYTES` bytes.

    Example:
        >>> read_bytes(Path("image.png"))[1:4]
        b'PNG'
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnsupportedError("Expected a file, got a folder: give the files in it, or check its permissions.")
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedError("Expected an ordinary file, got a pipe, socket or device.")
        if status.st_size > MAX_BYTES:
            raise TooLargeError(f"Expected at most {MAX_BYTES:,} bytes, got {status.st_size:,}.")
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("Expected a file, got a name that does not exist.") from None
    except OSError as error:
        what = "its permissions" if isinstance(error, PermissionError) else "its links, its folder and the disk"
        raise UnreadableError(f"The file cannot be read ({error.strerror}): check {what}.") from error
    except ValueError as error:  # a null character in the name
        raise NotFoundError(f"Expected a file name, got one that is not valid ({error}).") from None


def _from_array(array: NDArray[Any], max_pixels: int) -> Radiograph:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or array.size == 0:
        raise UnsupportedError(f"Expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {array.shape}.")
    raster.check_size(array.shape[1], array.shape[0], array[:1, :1].size, max_pixels)
    samples, bits, dark = brightness.unit(array)
    pixels = np.ascontiguousarray(brightness.brightness(samples), dtype=np.float32)
    notes = colour.remarks(samples) if samples.ndim == 3 else []
    return Radiograph(pixels, "array", bits, pixels.shape, (*notes, "dark") if dark else tuple(notes))


def _from_image(image: Image.Image, max_pixels: int) -> Radiograph:
    raster.check_size(*image.size, len(image.getbands()), max_pixels)
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
            samples: NDArray[Any] = np.asarray(upright)
        else:
            plain = raster.plain_mode(upright)
            samples = np.asarray(upright.convert("RGBA" if plain == "LA" else plain))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes lazily
        raise UnreadableError(f"The image cannot be decoded ({error}): open its file again.") from error
    if samples.dtype.kind == "i":
        samples = np.maximum(samples, 0).astype(np.uint32)
    return replace(_from_array(samples, max_pixels), format=image.format or "Pillow image")
