"""Reads TIFF headers, and finds the TIFF files that Pillow cannot read and imagecodecs can."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL.TiffImagePlugin import TiffImageFile

_CLASSIC, _BIG = 42, 43
_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR = 256, 257, 258, 262, 274, 277, 284
_TILE_WIDTH, _TILE_LENGTH, _DEPTH, _TILE_DEPTH = 322, 323, 32997, 32998
_READ = {
    *(_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR),
    *(_TILE_WIDTH, _TILE_LENGTH, _DEPTH, _TILE_DEPTH),
}
_FORMS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""`struct` formats of the integer types that libtiff accepts for these tags."""

_MOST_TAGS = 1000


@dataclass(frozen=True)
class Header:
    """What a TIFF header says about its first image (TIFF 6.0, section 8).

    Attributes:
        width: in pixels, before the orientation is applied.
        height: in pixels, before the orientation is applied.
        bits: bits per sample.
        samples: samples per pixel.
        photometric: 0 if zero is white, 1 if zero is black, 2 for red, green and blue.
        orientation: 1 to 8 as in Exif; 1 is upright.
        planar: whether each colour has its own plane.
        tile: (H, W) of a tile, which may be larger than the image; (0, 0) without tiles.
        more: whether another image follows.
    """

    width: int
    height: int
    bits: int
    samples: int
    photometric: int
    orientation: int
    planar: bool
    tile: tuple[int, int]
    more: bool


def header(data: bytes) -> Header | None:
    r"""Read the header of a TIFF or a BigTIFF; None if it is damaged, or the file is a volume.

    If a tag occurs twice, the first one counts, as in libtiff.

    Args:
        data: the bytes of a file.

    Example:
        >>> header(b"II*\0 and nothing") is None
        True
    """
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        version = struct.unpack_from(f"{order}H", data, 2)[0]
        number, count, room = {_CLASSIC: ("I", "H", 4), _BIG: ("Q", "Q", 8)}[version]
        start = struct.unpack_from(f"{order}{number}", data, room)[0]
        entries = struct.unpack_from(f"{order}{count}", data, start)[0]
        at, step = start + struct.calcsize(f"={count}"), 4 + 2 * room
        if entries > _MOST_TAGS:
            return None
        tags: dict[int, int] = {}
        for place in range(at, at + entries * step, step):
            tag, kind, values = struct.unpack_from(f"{order}HH{number}", data, place)
            if tag in _READ and tag not in tags:
                size = struct.calcsize(f"={_FORMS[kind]}") * values
                inside = place + 4 + room
                where = inside if size <= room else struct.unpack_from(f"{order}{number}", data, inside)[0]
                tags[tag] = struct.unpack_from(f"{order}{_FORMS[kind]}", data, where)[0]
        if tags.get(_DEPTH, 1) != 1 or tags.get(_TILE_DEPTH, 1) != 1:
            return None
        return Header(
            tags[_WIDTH],
            tags[_LENGTH],
            tags.get(_BITS, 1),
            tags.get(_SAMPLES, 1),
            tags.get(_PHOTOMETRIC, 1),
            tags.get(_ORIENTATION, 1),
            tags.get(_PLANAR, 1) == 2 and tags.get(_SAMPLES, 1) > 1,
            (tags.get(_TILE_LENGTH, 0), tags.get(_TILE_WIDTH, 0)),
            struct.unpack_from(f"{order}{number}", data, at + entries * step)[0] != 0,
        )
    except (KeyError, OverflowError, struct.error):
        return None


def is_beyond_pillow(data: bytes, header: Header) -> bool:
    """Return whether imagecodecs must decode a TIFF, because Pillow cannot read it.

    Pillow does not support floats in colour or of other than 32 bits, white-is-zero at most depths, big-endian 32-bit
    integers, or big-endian BigTIFF.

    Args:
        data: the bytes of the file.
        header: what `header` returns for them.

    Example:
        >>> import imagecodecs
        >>> import numpy as np
        >>> data = imagecodecs.tiff_encode(np.zeros((20, 30), np.float16))
        >>> is_beyond_pillow(data, header(data))
        True
    """
    if header.planar or header.bits < 8:
        return False
    if header.samples not in {0: (1,), 1: (1,), 2: (3, 4)}.get(header.photometric, ()):
        return False
    try:
        TiffImageFile(io.BytesIO(data))
    except (SyntaxError, ValueError):  # an unknown pixel mode, or the wrong order of bytes
        return True
    except Exception:  # noqa: BLE001 - the file is damaged, and decoding it with Pillow will say how
        return False
    return False
