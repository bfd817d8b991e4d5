"""Writes PNG, TIFF and other image files for tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import PneumoscopeError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import Radiograph, read
from tests.conftest import drawn_image

EXACT = 1e-6
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Columns and rows of the passes of an interlaced PNG: first column, first row, step, step (PNG, section 8.2)."""


def png(values: NDArray[Any], depth: int, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """Write a PNG of any depth; Pillow writes no colour of 16 bits and no gray of 2 or 4."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def lines(part: NDArray[Any]) -> bytes:
        samples = part.reshape(len(part), -1).astype(np.int64)
        bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
        return b"".join(
            b"\0" + line.tobytes() for line in np.packbits(bits.reshape(len(part), -1).astype(bool), axis=1)
        )

    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[row::rows, column::columns] for column, row, columns, rows in passes]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, interlaced)
    body = zlib.compress(b"".join(lines(part) for part in parts if part.size))
    all_chunks = [(b"IHDR", head), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in all_chunks)


def tiff(
    values: NDArray[Any],
    photometric: int,
    *,
    order: str = "<",
    deflated: bool = False,
    predicted: bool = False,
    tags: dict[int, int] | None = None,
    big: bool = False,
    following: int = 0,
) -> bytes:
    """Write a TIFF or BigTIFF of one strip, and where a second page would be.

    Pillow writes no colour of 16 bits and no gray that is white where it is zero.
    """
    height, width, channels = (*values.shape, 1)[:3]
    stored = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1])) if predicted else values
    data = stored.astype(values.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    data = zlib.compress(data) if deflated else data
    data += bytes(len(data) % 2)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    fields: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [values.dtype.itemsize * 8] * channels,
        259: [8 if deflated else 1],
        262: [photometric],
        273: [8],
        277: [channels],
        278: [height],
        279: [len(data)],
        317: [2 if predicted else 1],
        339: [kind] * channels,
    }
    fields |= {tag: [value] for tag, value in (tags or {}).items()}
    head, number, room = (16, "Q", 8) if big else (8, "I", 4)
    fields[273] = [head]
    place = head + len(data) + (8 if big else 2) + (20 if big else 12) * len(fields) + room
    entries, beyond = b"", b""
    for tag, numbers in sorted(fields.items()):
        form, code = ("I", 4) if tag in (256, 257, 273, 278, 279) else ("H", 3)
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(packed) > room:
            beyond, packed = beyond + packed, struct.pack(f"{order}{number}", place + len(beyond))
        entries += struct.pack(f"{order}HH{number}", tag, code, len(numbers)) + packed.ljust(room, b"\0")
    mark = {"<": b"II", ">": b"MM"}[order] + struct.pack(
        f"{order}HHH" if big else f"{order}H", *((43, 8, 0) if big else (42,))
    )
    first = struct.pack(f"{order}{number}", head + len(data))
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(fields))
    return mark + first + data + count + entries + struct.pack(f"{order}{number}", following) + beyond


def saved(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """Write an image, or the pixels of one, as Pillow does."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int, bits: int = 16) -> NDArray[np.uint16]:
    values = np.random.default_rng(0).integers(0, 2**bits, shape, dtype=np.uint16)
    values.flat[0] = 2**bits - 1  # so that the depth shows
    return values


def outcome(source: radiograph.Source) -> Radiograph | PneumoscopeError:
    try:
        return read(source)
    except PneumoscopeError as error:
        return error


def brightness(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """What `read` promises: colour weighed to brightness, transparency laid over black."""
    unit = values / (2**bits - 1)
    if unit.ndim == 2:
        return np.asarray(unit)
    gray = unit[..., :3] @ [0.299, 0.587, 0.114] if unit.shape[-1] >= 3 else unit[..., 0]
    return np.asarray(gray * unit[..., -1] if unit.shape[-1] in (2, 4) else gray)


IMAGE = drawn_image(1, seed=3, size=48)

COLOUR = np.stack([IMAGE, IMAGE // 2, 255 - IMAGE], axis=-1)


def other_formats(values: NDArray[np.uint8]) -> dict[str, bytes]:
    """Write an image (H, W) in every format that is read but JPEG of 8 bits, PNG, TIFF and DICOM."""
    gray, colour = Image.fromarray(values), Image.fromarray(np.stack([values] * 3, axis=-1))
    deep = values.astype(np.uint16) * 16 + values // 16  # 12 bits, all in use
    return {
        "BMP": saved(gray, "BMP"),
        "BMP in colour": saved(colour, "BMP"),
        "GIF": saved(gray, "GIF"),
        "WebP": saved(colour, "WEBP", lossless=True),
        "AVIF": saved(colour, "AVIF", quality=100),
        "PGM": saved(gray, "PPM"),
        "PGM of 12 bits": saved(Image.fromarray(deep), "PPM"),
        "JPEG XL": bytes(imagecodecs.jpegxl_encode(values, lossless=True)),
        "JPEG XL in colour": bytes(imagecodecs.jpegxl_encode(np.asarray(colour), lossless=True)),
        "JPEG XL of 12 bits": bytes(imagecodecs.jpegxl_encode(deep, lossless=True)),
        "JPEG 2000": bytes(imagecodecs.jpeg2k_encode(values, codecformat="jp2", reversible=True, level=0)),
        "JPEG 2000 of 12 bits": bytes(imagecodecs.jpeg2k_encode(deep, codecformat="j2k", reversible=True, level=0)),
        "JPEG of 12 bits": bytes(imagecodecs.jpeg8_encode(deep, level=95, bitspersample=12)),
        "lossless JPEG of 12 bits": bytes(imagecodecs.jpeg8_encode(deep, lossless=True, bitspersample=12)),
        "JPEG-LS": bytes(imagecodecs.jpegls_encode(deep)),
    }


LOSSY = {"AVIF": 0.02, "JPEG of 12 bits": 0.03}
"""How far the pixels of `other_formats` may lie from the image; 0.001 in the others."""
