"""`radiograph`: whatever an image comes as, the same pixels; whatever is no image, one of the few errors."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from pneumoscope.errors import (
    NotFoundError,
    PneumoscopeError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.brightness import LUMA
from pneumoscope.imaging.jpeg import MOST_LEFT_OVER
from pneumoscope.imaging.radiograph import MAX_BYTES, MAX_PIXELS, Radiograph, read, resize
from tests.conftest import CALM, drawn_image

pytestmark = pytest.mark.filterwarnings("error")

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


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
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


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_in_gray_in_colour_and_in_print_colours(mode: str, progressive: bool) -> None:
    original = Image.fromarray(IMAGE).convert(mode)
    image = read(saved(original, "JPEG", quality=95, subsampling=0, progressive=progressive))
    assert (image.format, image.bits, image.notes) == ("JPEG", 8, ())
    assert image.pixels.dtype == np.float32
    assert np.abs(image.pixels - IMAGE / 255).max() < 0.03


def test_colour_is_weighed_to_brightness() -> None:
    for channel, weight in enumerate(LUMA):
        one = np.zeros((8, 8, 3), dtype=np.uint8)
        one[..., channel] = 255
        assert np.allclose(read(one).pixels, weight, atol=EXACT)
        assert np.allclose(read(saved(Image.fromarray(one), "PNG")).pixels, weight, atol=EXACT)


def test_of_a_camera_s_several_images_the_first_is_read() -> None:
    one, two = Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)
    image = read(saved(one, "MPO", save_all=True, append_images=[two], quality=95))
    assert image.format == "JPEG"
    assert np.abs(image.pixels - IMAGE / 255).max() < 0.03


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_gray_png_of_every_depth_is_read_exactly(depth: int, interlaced: bool) -> None:
    values = noise(13, 11, bits=depth)
    image = read(png(values, depth, interlaced=interlaced))
    assert (image.format, image.bits) == ("PNG", depth if depth in (1, 16) else 8)
    assert np.abs(image.pixels - brightness(values, depth)).max() < EXACT


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [2, 3, 4], ids=["LA", "RGB", "RGBA"])
def test_a_png_in_colour_or_with_transparency_keeps_its_depth(channels: int, depth: int, interlaced: bool) -> None:
    values = noise(13, 11, channels, bits=depth)
    image = read(png(values, depth, interlaced=interlaced))
    assert (image.format, image.bits) == ("PNG", depth)
    assert np.abs(image.pixels - brightness(values, depth)).max() < EXACT


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(COLOUR).quantize(64)
    expected = brightness(np.asarray(image.convert("RGB")), 8)
    assert np.abs(read(saved(image, "PNG")).pixels - expected).max() < EXACT
    assert np.abs(read(saved(image, "TIFF")).pixels - expected).max() < EXACT


def test_transparency_in_a_palette_is_laid_over_black() -> None:
    original = Image.fromarray(COLOUR).quantize(64)
    alphas = np.linspace(0, 255, 64).astype(np.uint8)
    image = read(saved(original, "PNG", transparency=alphas.tobytes()))
    opaque = brightness(np.asarray(original.convert("RGB")), 8)
    assert np.abs(image.pixels - opaque * alphas[np.asarray(original)] / 255).max() < EXACT


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_one_transparent_colour_of_a_png_is_black(depth: int, channels: int) -> None:
    values = noise(7, 5, channels, bits=depth)
    key = struct.pack(f">{channels}H", *values[3, 2])
    image = read(png(values[..., 0] if channels == 1 else values, depth, (b"tRNS", key)))
    expected = brightness(values[..., 0] if channels == 1 else values, depth)
    assert expected[3, 2] > 0
    expected[3, 2] = 0
    assert np.abs(image.pixels - expected).max() < EXACT


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("deflated", [False, True])
def test_a_gray_tiff_is_read_exactly(dtype: str, deflated: bool) -> None:
    bits = np.iinfo(dtype).bits
    values = noise(6, 9, bits=bits).astype(dtype)
    for order in "<>":
        image = read(tiff(values, 1, order=order, deflated=deflated))
        assert (image.format, image.bits) == ("TIFF", bits)
        assert np.abs(image.pixels - brightness(values, bits)).max() < EXACT


@pytest.mark.parametrize("values", [noise(6, 9, bits=8).astype(np.uint8), noise(6, 9), noise(6, 9) / np.float32(65535)])
def test_a_tiff_that_is_white_where_it_is_zero_is_turned_round(values: NDArray[Any]) -> None:
    for deflated in (False, True):
        light, dark = (read(tiff(values, photometric, deflated=deflated)).pixels for photometric in (1, 0))
        assert light.std() > 0.1
        assert np.abs(light + dark - 1).max() < EXACT


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("channels", "extra"), [(3, None), (4, 0), (4, 2)], ids=["RGB", "RGBX", "RGBA"])
def test_a_tiff_in_16_bit_colour_keeps_its_depth(channels: int, extra: int | None, order: str, deflated: bool) -> None:
    values = noise(6, 9, channels)
    image = read(tiff(values, 2, order=order, deflated=deflated, tags={} if extra is None else {338: extra}))
    expected = brightness(values if extra else values[..., :3], 16)
    assert (image.format, image.bits) == ("TIFF", 16)
    assert np.abs(image.pixels - expected).max() < EXACT


def test_a_tiff_stored_as_differences_is_added_up() -> None:
    values = noise(6, 9, 3)
    image = read(tiff(values, 2, deflated=True, predicted=True))
    assert np.abs(image.pixels - brightness(values, 16)).max() < EXACT


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_packed_tiff_is_read_exactly(compression: str, dtype: str) -> None:
    bits = np.iinfo(dtype).bits
    values = noise(16, 16, bits=bits).astype(dtype)
    image = read(saved(Image.fromarray(values), "TIFF", compression=compression))
    assert np.abs(image.pixels - brightness(values, bits)).max() < EXACT


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_floating_point_tiff_is_taken_as_it_is(order: str, deflated: bool) -> None:
    values = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    image = read(tiff(values, 1, order=order, deflated=deflated))
    assert image.bits == 0
    assert np.array_equal(image.pixels, values)


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int16"])
def test_a_tiff_of_other_integers_keeps_the_order_of_its_levels(dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.linspace(info.min, info.max, 48).astype(dtype).reshape(6, 8)
    for deflated in (False, True):
        image = read(tiff(values, 1, deflated=deflated))
        assert np.abs(image.pixels - np.linspace(0, 1, 48).reshape(6, 8)).max() < 1e-4


@pytest.mark.parametrize(
    ("photometric", "tags"), [(2, {284: 2}), (2, {338: 1}), (5, {})], ids=["plane by plane", "premultiplied", "CMYK"]
)
@pytest.mark.parametrize("deflated", [False, True])
def test_16_bit_colour_that_would_lose_its_depth_is_rejected(
    photometric: int, tags: dict[int, int], deflated: bool
) -> None:
    values = noise(6, 9, 3 if 284 in tags else 4)
    with pytest.raises(UnsupportedError, match=r"Expected 16-bit colour .* export it as gray"):
        read(tiff(values, photometric, tags=tags, deflated=deflated))


def test_of_several_pages_the_first_is_read_and_a_note_says_so() -> None:
    pages = [Image.fromarray(IMAGE), Image.fromarray(255 - IMAGE)]
    image = read(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert image.notes == ("first_frame_only",)
    assert np.abs(image.pixels - IMAGE / 255).max() < EXACT
    image = read(saved(pages[0], "PNG", save_all=True, append_images=pages[1:]))
    assert image.notes == ("first_frame_only",)
    assert np.abs(image.pixels - IMAGE / 255).max() < EXACT


# 16 bits are never clipped to 8


@pytest.mark.parametrize("level", [0, 1, 254, 255, 256, 32767, 65533, 65534])
def test_two_neighbouring_16_bit_levels_stay_two(level: int) -> None:
    values = np.full((4, 4), 65535, dtype=np.uint16)
    values[0, :2] = level, level + 1
    rgb, rgba = np.stack([values] * 3, axis=-1), np.stack([values] * 3 + [np.full_like(values, 65535)], axis=-1)
    for source in (
        values,
        png(values, 16),
        tiff(values, 1),
        tiff(values, 0),
        saved(Image.fromarray(values), "TIFF", compression="tiff_lzw"),
        rgb,
        png(rgb, 16),
        png(rgba[..., 2:], 16),
        png(rgba, 16),
        tiff(rgb, 2),
        tiff(rgb, 2, deflated=True),
    ):
        dark, light = read(source).pixels[0, :2]
        assert abs(light - dark) * 65535 == pytest.approx(1, abs=0.02)


def test_a_12_bit_image_in_a_16_bit_file_fills_the_range() -> None:
    image = read(png(noise(6, 9, bits=12), 16))
    assert image.bits == 12
    assert image.pixels.max() == 1.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_an_image_is_turned_upright_as_pillow_turns_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(drawn_image(1, seed=3)[:, :20]), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) / 255
    assert expected.shape == ((20, 32) if orientation > 4 else (32, 20))
    image = read(data)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels - expected).max() < EXACT


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_is_turned_upright_once(orientation: int) -> None:
    values = noise(6, 9, 3)
    upright = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values, -1),
        7: np.rot90(values, 2).swapaxes(0, 1),
        8: np.rot90(values),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for data in (
        png(values, 16, (b"eXIf", exif.tobytes()[6:])),
        tiff(values, 2, tags={274: orientation}),
        tiff(values, 2, tags={274: orientation}, deflated=True),
    ):
        image = read(data)
        assert image.pixels.shape == upright.shape[:2]
        assert np.abs(image.pixels - brightness(upright, 16)).max() < EXACT


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_an_array_of_unsigned_integers_is_scaled_by_its_depth(dtype: str, shape: tuple[int, ...]) -> None:
    bits = np.iinfo(dtype).bits
    values = (np.random.default_rng(0).random(shape) * np.iinfo(dtype).max).astype(dtype)
    values.flat[0] = np.iinfo(dtype).max
    image = read(values)
    coloured = ("pseudo_coloured",) if shape[2:] in ((3,), (4,)) else ()  # colours at random are
    assert (image.format, image.bits, image.notes) == ("array", bits, coloured)
    expected = brightness(values[..., 0] if shape[-1] == 1 else values, bits)
    assert np.abs(image.pixels - expected).max() < EXACT


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_an_array_of_signed_integers_fills_the_range_from_its_smallest(dtype: str) -> None:
    info = np.iinfo(dtype)
    image = read(np.array([[info.min, 0, info.max]], dtype=dtype))
    assert image.bits == info.bits
    assert image.pixels[0] == pytest.approx([0.0, 0.5, 1.0], abs=0.003)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble"])
def test_an_array_of_floats_in_0_to_1_is_taken_as_it_is_and_any_other_is_stretched(dtype: str) -> None:
    image = read(np.array([[0.25, 0.5, 0.75]], dtype=dtype))
    assert image.bits == 0
    assert image.pixels.tolist() == [[0.25, 0.5, 0.75]]
    assert read(np.array([[-10, 0, 10]], dtype=dtype)).pixels.tolist() == [[0.0, 0.5, 1.0]]
    assert read(np.array([[7, 7]], dtype=dtype)).pixels.tolist() == [[0.0, 0.0]]


def test_an_array_of_booleans_is_black_and_white() -> None:
    image = read(np.array([[True, False]]))
    assert (image.bits, image.pixels.tolist()) == (1, [[1.0, 0.0]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_array_with_a_value_that_is_no_number_is_unreadable(value: float) -> None:
    with pytest.raises(UnreadableError, match="Expected finite pixels"):
        read(np.array([[0.5, value]]))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5),
        np.zeros((0, 5)),
        np.zeros((5, 5, 2)),
        np.zeros((2, 5, 5, 3)),
        np.array(0.5),
        np.zeros((5, 5), dtype=complex),
        np.array([["image"]]),
        np.array([[None]]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_that_is_no_image_is_unsupported(array: NDArray[Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"Expected an array .*, got "):
        read(array)


def test_an_array_is_never_written_to() -> None:
    array = noise(5, 7, 4)
    before = array.copy()
    read(array).pixels[:] = 0
    assert np.array_equal(array, before)


@given(
    hnp.arrays(
        st.sampled_from(["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=4),
    )
)
@settings(CALM, max_examples=300)
def test_any_array_of_numbers_gives_pixels_from_0_to_1_in_the_same_order(array: NDArray[Any]) -> None:
    found = outcome(array)
    if isinstance(found, PneumoscopeError):
        assert isinstance(found, UnreadableError)
        low, high = float(array.min()), float(array.max())
        assert not np.isfinite(high - low)
    else:
        assert found.pixels.shape == array.shape
        assert found.pixels.min() >= 0
        assert found.pixels.max() <= 1
        assert np.all(np.diff(found.pixels.ravel()[np.argsort(array, axis=None, kind="stable")]) >= 0)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 4)], ids=["L", "RGB", "RGBA"])
def test_the_same_pixels_come_through_a_path_bytes_and_an_array(
    tmp_path: Path, shape: tuple[int, ...], depth: int
) -> None:
    values = noise(*shape, bits=depth)
    data = png(values, depth)
    (tmp_path / "image.png").write_bytes(data)
    array = read(values if depth == 16 else values.astype(np.uint8)).pixels
    for source in (tmp_path / "image.png", str(tmp_path / "image.png"), data):
        assert np.array_equal(read(source).pixels, array)


@pytest.mark.parametrize("name", ["image", "image.txt", "image.jpg", "image\n.png", "-", "日本.png", "image\udcff.png"])
def test_the_name_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(png(IMAGE, 8))
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system rejects the name")
    assert np.abs(read(tmp_path / name).pixels - IMAGE / 255).max() < EXACT


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "image.png", tmp_path / "no" / "image.png", "image\0.png"):
        with pytest.raises(NotFoundError, match="Expected "):
            read(path)


def test_an_empty_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "image.png").touch()
    for source in (tmp_path / "image.png", b""):
        with pytest.raises(UnreadableError, match="empty file: copy it again"):
            read(source)


@pytest.mark.parametrize("data", [b"Patient has pneumonia.", b"\0" * 1000, b"\x89PN"])
def test_what_is_no_image_is_unsupported_whatever_its_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image.png").write_bytes(data)
    with pytest.raises(UnsupportedError, match="Expected a JPEG, PNG, TIFF or DICOM file, got something else"):
        read(tmp_path / "image.png")


def test_a_document_is_unsupported_and_told_how_to_export_the_image(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(UnsupportedError, match="got a PDF document: export the image"):
        read(tmp_path / "image.png")


@pytest.mark.parametrize("data", [b"GIF89a", b"BM"])
def test_the_first_bytes_of_an_image_alone_are_unreadable(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image.png").write_bytes(data)
    with pytest.raises(UnreadableError, match="copy it again"):
        read(tmp_path / "image.png")


def test_a_folder_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Expected a file, got a folder"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_unsupported_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(UnsupportedError, match="got a pipe"):
        read(tmp_path / "image.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(IMAGE, 8))
    (tmp_path / "image.png").chmod(0)
    with pytest.raises(UnreadableError, match=r"Permission denied.*check its permissions"):
        read(tmp_path / "image.png")


def test_a_link_to_itself_is_unreadable_and_permissions_are_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "image.png").symlink_to(tmp_path / "image.png")
    with pytest.raises(UnreadableError, match="check its links"):
        read(tmp_path / "image.png")


def test_an_enormous_file_is_too_large_and_never_read(tmp_path: Path) -> None:
    with (tmp_path / "image.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room
    with pytest.raises(TooLargeError, match=r"at most 1,000,000,000 bytes, got 1,000,000,001"):
        read(tmp_path / "image.png")


def header(kind: str, side: int) -> bytes:
    """An image that claims to be enormous and holds next to nothing."""
    data = {"PNG": png(IMAGE, 8), "JPEG": saved(Image.fromarray(IMAGE), "JPEG"), "TIFF": tiff(IMAGE, 1)}[kind]
    if kind == "PNG":
        head = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    small, large = (struct.pack({"JPEG": ">HH", "TIFF": "<I"}[kind], *[n] * (1 + (kind == "JPEG"))) for n in (48, side))
    start = data.index(b"\xff\xc0") if kind == "JPEG" else data.rindex(struct.pack("<HH", 256, 4))
    return data[:start] + data[start:].replace(small, large)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("side", [9_000, 60_000])
def test_an_enormous_image_is_too_large_before_it_is_decoded(kind: str, side: int) -> None:
    start = time.perf_counter()
    with pytest.raises(TooLargeError, match=f"at most {MAX_PIXELS:,} pixels, got {side} x {side}"):
        read(header(kind, side))
    assert time.perf_counter() - start < 1


def test_an_enormous_array_is_too_large() -> None:
    with pytest.raises(TooLargeError, match="pixels, got 60000 x 60000"):
        read(np.broadcast_to(np.uint8(0), (60_000, 60_000)))


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "colour JPEG"])
def test_a_jpeg_without_its_end_is_never_a_half_gray_image(kind: str) -> None:
    image = Image.fromarray(COLOUR if "colour" in kind else IMAGE)
    data = saved(image, "JPEG", progressive="progressive" in kind)
    for cut in range(3, len(data)):
        with pytest.raises(UnreadableError):
            read(data[:cut])


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("damage", ["cut", "zeroed", "shifted"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_with_damage_that_decoders_pass_over_is_rejected(mode: str, damage: str, size: int | None) -> None:
    whole = saved(Image.fromarray(drawn_image(1, 3, 64)).convert(mode), "JPEG")
    half = len(whole) // 2 + 100
    rest = {"cut": b"", "zeroed": bytes(len(whole) - half - 2), "shifted": whole[half + 200 : -2]}[damage]
    assert read(whole, at_least=size).pixels.size
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        read(whole[:half] + rest + whole[-2:], at_least=size)


@pytest.mark.parametrize("image", [IMAGE, COLOUR], ids=["gray", "colour"])
def test_a_jpeg_with_a_few_bytes_too_many_at_its_end_is_read_and_one_with_more_is_damaged(
    image: NDArray[np.uint8],
) -> None:
    whole = saved(Image.fromarray(image), "JPEG")
    found = read(whole[:-2] + bytes(MOST_LEFT_OVER) + whole[-2:])
    assert np.array_equal(found.pixels, read(whole).pixels)
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        read(whole[:-2] + bytes(MOST_LEFT_OVER + 12) + whole[-2:])


def zeroed(jpeg: bytes) -> bytes:
    """A JPEG whose lower half is lost."""
    half = len(jpeg) // 2
    return jpeg[:half] + bytes(len(jpeg) - half - 2) + jpeg[-2:]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_harmless_fault_of_a_jpeg_does_not_hide_damage(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8)).convert(mode)
    whole = saved(image, "JPEG", quality=90, restart_marker_rows=1)
    assert whole[6:13] == b"JFIF\0\1\1"
    unknown = whole[:11] + b"\2" + whole[12:]  # a revision that libjpeg remarks on
    assert np.array_equal(read(unknown).pixels, read(whole).pixels)
    restart = whole.index(b"\xff\xd0", whole.index(b"\xff\xda"))
    stray = whole[:restart] + b"\1\2\3" + whole[restart:]
    for damaged in (zeroed(whole), zeroed(unknown), zeroed(stray)):
        with pytest.raises(UnreadableError, match="cannot be decoded"):
            read(damaged)


@pytest.mark.parametrize("shape", [(300, 200), (64, 500)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_jpeg_is_never_reduced(shape: tuple[int, int], channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 255, (*shape, channels), dtype=np.uint8).squeeze()
    data = bytes(imagecodecs.jpeg8_encode(values, lossless=True))
    assert read(data, at_least=16).pixels.shape == shape
    assert np.array_equal(read(data, at_least=16).pixels, read(data).pixels)


@pytest.mark.parametrize("sampling", ["422", "420", "444", "411", "440"])
def test_colours_of_any_sampling_are_read(sampling: str) -> None:
    data = bytes(imagecodecs.jpeg8_encode(COLOUR, level=95, subsampling=sampling))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) / 255
    assert read(data).pixels == pytest.approx(pixels @ [0.299, 0.587, 0.114], abs=1e-6)


@pytest.mark.parametrize("values", [np.uint16(4095), np.int32(70_000), np.float32(300.0)])
def test_an_image_of_many_pixels_is_scaled_throughout(values: np.generic) -> None:
    image = (np.linspace(0, 1, 300 * 301).reshape(300, 301) * float(values)).astype(values.dtype)
    assert read(image).pixels == pytest.approx(image / values, abs=2e-4)


@pytest.mark.parametrize("source", [None, 3, io.BytesIO(b"image")], ids=lambda it: type(it).__name__)
def test_what_is_no_source_is_unsupported(source: object) -> None:
    with pytest.raises(UnsupportedError, match="Expected a path, the bytes of a file, an array or a Pillow image, got"):
        read(source)  # type: ignore[arg-type]


def test_a_jpeg_without_its_end_is_rejected_even_where_pillow_was_told_to_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(Image.fromarray(IMAGE), "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableError, match="The end of the image is missing: copy it again"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [
        png(IMAGE, 8),
        png(noise(9, 9, 3), 16),
        tiff(IMAGE, 1),
        tiff(noise(9, 9, 3), 2, deflated=True),
        saved(Image.fromarray(IMAGE), "TIFF", compression="tiff_lzw"),
    ],
    ids=["PNG", "PNG 16", "TIFF", "TIFF deflated", "TIFF LZW"],
)
def test_an_image_cut_anywhere_is_unreadable_or_whole(data: bytes) -> None:
    whole = read(data).pixels
    rejected = 0
    for cut in range(8, len(data), 7):
        found = outcome(data[:cut])
        if isinstance(found, Radiograph):
            assert np.array_equal(found.pixels, whole)
        else:
            assert isinstance(found, UnreadableError)
            rejected += 1
    assert rejected > 0.9 * (len(data) - 8) / 7


VICTIMS = (
    saved(Image.fromarray(COLOUR), "JPEG"),
    saved(
        Image.fromarray(IMAGE), "JPEG", progressive=True, exif=bytes.fromhex("45786966000049492a0008000000010012010300")
    ),
    png(IMAGE, 8),
    png(noise(9, 9, 2), 16, interlaced=True),
    png(noise(9, 9, 3), 16, (b"tRNS", bytes(6))),
    saved(Image.fromarray(COLOUR).quantize(64), "PNG", transparency=bytes(range(64))),
    saved(Image.fromarray(IMAGE), "PNG", save_all=True, append_images=[Image.fromarray(255 - IMAGE)]),
    tiff(IMAGE, 1),
    tiff(noise(9, 9, 3), 2, order=">"),
    tiff(noise(9, 9, 4), 2, deflated=True, tags={338: 2, 274: 6}),
    tiff(noise(9, 9) / np.float32(65535), 0, deflated=True, order=">"),
    saved(
        Image.fromarray(IMAGE), "TIFF", compression="tiff_lzw", save_all=True, append_images=[Image.fromarray(IMAGE)]
    ),
    saved(Image.fromarray(COLOUR), "TIFF", compression="jpeg"),
)


@given(
    st.sampled_from(VICTIMS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
@settings(CALM, max_examples=600)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_damaged_image_gives_an_image_or_one_of_our_errors(
    data: bytes, flips: list[tuple[float, int]], keep: float
) -> None:
    damaged = bytearray(data)
    for place, flip in flips:
        damaged[int(place**2 * len(data))] ^= flip  # headers are the tender part
    found = outcome(bytes(damaged[: int((0.5 + keep) * len(data))]))
    if isinstance(found, PneumoscopeError):
        assert "\n" not in str(found)
    else:
        assert found.pixels.ndim == 2
        assert found.pixels.dtype == np.float32
        assert found.pixels.min() >= 0
        assert found.pixels.max() <= 1


def test_reading_in_threads_leaves_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [png(IMAGE, 8), saved(Image.fromarray(IMAGE), "JPEG")] * 100))
    assert list(warnings.filters) == before


def test_pillow_s_own_limit_lies_above_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS > MAX_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as if another library had set it
    for data in (png(IMAGE, 8), saved(Image.fromarray(IMAGE), "JPEG")):
        assert read(data).pixels.shape == IMAGE.shape


def test_pillow_s_remarks_on_metadata_are_not_shown(tmp_path: Path) -> None:
    data = tiff(IMAGE, 1, tags={274: 1})
    entry = data.rindex(struct.pack("<HHI", 274, 3, 1))
    (tmp_path / "image.tif").write_bytes(data[:entry] + struct.pack("<HHII", 274, 3, 9, 2**31) + data[entry + 12 :])
    with pytest.warns(UserWarning, match="."):  # the remark is really made; only this test's filter shows it
        read(tmp_path / "image.tif")
    program = "import sys; from pneumoscope.imaging import radiograph; radiograph.read(sys.argv[1])"
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path / "image.tif")], capture_output=True, check=True)
    assert ran.stderr == b""


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(0, 1, width=32)),
    st.integers(1, 40),
)
@settings(CALM, max_examples=200)
def test_a_squashed_image_is_a_square_and_never_darker_or_brighter_than_the_image(
    pixels: NDArray[np.float32], size: int
) -> None:
    squashed = resize(pixels, size)
    assert squashed.shape == (size, size)
    assert squashed.dtype == np.float32
    assert squashed.min() >= pixels.min() - EXACT
    assert squashed.max() <= pixels.max() + EXACT
    assert squashed.min() >= 0
    assert squashed.max() <= 1


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=64),
        elements=st.sampled_from([0.0, 0.25, 1.0]),
        fill=st.just(0.5),
    ),
    st.integers(16, 64),
)
@settings(CALM, max_examples=100)
def test_a_squashed_image_keeps_its_mean_brightness(pixels: NDArray[np.float32], size: int) -> None:
    assert resize(pixels, size).mean() == pytest.approx(pixels.mean(), abs=0.03)


def test_shrinking_averages_every_pixel() -> None:
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    assert np.abs(resize(checkerboard, 8) - 0.5).max() < 0.02


def test_a_wide_image_is_squashed_not_cut() -> None:
    image = np.zeros((20, 80), dtype=np.float32)
    image[:, 40:] = 1
    squashed = resize(image, 10)
    assert np.all(squashed[:, :4] == 0)
    assert np.all(squashed[:, 6:] == 1)
    assert np.ptp(squashed, axis=0).max() == 0


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    image = read(IMAGE).pixels
    assert np.array_equal(resize(image, 48), image)


def test_files_below_a_folder_are_listed_in_order_without_the_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.dcm", "Thumbs.db", ".hidden", ".git/x", "__MACOSX/y", "notes.txt", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in radiograph.files(tmp_path)]
    assert found == ["a.dcm", "notes.txt", "b/10.png", "b/2.png", "c/d/e"]
    assert list(radiograph.files(str(tmp_path))) == list(radiograph.files(tmp_path))


def test_what_is_no_folder_is_listed_as_it_is(tmp_path: Path) -> None:
    assert list(radiograph.files(tmp_path / "missing.png")) == [tmp_path / "missing.png"]
    assert list(radiograph.files(tmp_path)) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_opened_is_listed_so_that_reading_it_tells(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert list(radiograph.files(tmp_path)) == [tmp_path / "closed"]
    with pytest.raises(UnsupportedError, match="whether it may be opened"):
        read(tmp_path / "closed")


@pytest.mark.images
def test_every_real_image_is_read_as_pillow_reads_it(data: Path) -> None:
    images = sorted((data / "kermany_original" / "val").rglob("*.jpeg"))
    assert len(images) == 16
    for path in images:
        image = read(path)
        expected = np.asarray(Image.open(path).convert("L")) / 255
        assert (image.format, image.bits, image.notes) == ("JPEG", 8, ())
        assert np.abs(image.pixels - expected).max() < 0.003


def test_images_behind_links_are_listed_and_a_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linked.png").touch()
    (tmp_path / "images" / "own.png").touch()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "images" / "deep" / "loop").symlink_to(tmp_path / "images")
    assert sorted(path.name for path in radiograph.files(tmp_path / "images")) == ["linked.png", "own.png"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_an_image_of_pillows_is_read_as_its_pixels_are(mode: str) -> None:
    gray = np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))
    if mode in ("I;16", "I"):
        made = Image.fromarray(gray.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    else:
        made = Image.fromarray(gray.astype(np.float32) / 255) if mode == "F" else Image.fromarray(gray).convert(mode)
    pixels = radiograph.read(made).pixels
    if mode == "1":
        assert set(np.unique(pixels)) == {0.0, 1.0}
    else:
        assert np.allclose(pixels, gray / 255, atol=0.03)


def test_an_image_of_pillows_is_turned_as_its_camera_was() -> None:
    made = Image.fromarray(np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1)))
    made.getexif()[0x0112] = 6
    assert radiograph.read(made).pixels.shape == (64, 48)


def test_a_file_cut_short_that_pillow_opened_is_unreadable() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(buffer, "PNG")
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        radiograph.read(Image.open(io.BytesIO(buffer.getvalue()[:-900])))
