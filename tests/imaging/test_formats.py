"""`formats`: whatever decoders are installed for is read, and what is no single image is refused with a way out."""

from __future__ import annotations

import gzip
import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging.formats import unpacked
from pneumoscope.imaging.radiograph import HEAD, begins_as_image, read
from tests.builders import dicoms
from tests.builders.images import LOSSY, other_formats, saved, tiff
from tests.conftest import drawn_image

GRAY = drawn_image(1, seed=3, size=96)
GRAY[:2, :8] = 255
COLOUR = np.stack([GRAY] * 3, axis=-1)
UNIT = GRAY / np.float32(255)
DEEP = np.round(UNIT * 4095).astype(np.uint16)

FORMATS = other_formats(GRAY)


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_is_the_same_in_every_format(name: str) -> None:
    data = FORMATS[name]
    assert begins_as_image(data[:HEAD])
    found = read(data)
    assert found.notes == ()
    assert found.shape == UNIT.shape
    assert found.pixels == pytest.approx(UNIT, abs=LOSSY.get(name, 0.001))
    assert np.array_equal(read(gzip.compress(data)).pixels, found.pixels)


def test_of_an_animation_the_first_image_is_read() -> None:
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    found = read(file.getvalue())
    assert found.notes == ("first_frame_only",)
    assert found.pixels == pytest.approx(UNIT, abs=0.001)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
def test_a_tiff_of_floats_is_read_in_every_depth_and_order(dtype: str, order: str, deflated: bool) -> None:
    found = read(tiff(UNIT.astype(dtype), 1, order=order, deflated=deflated))
    assert found.format == "TIFF"
    assert found.pixels == pytest.approx(UNIT, abs=0.001)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["", "big"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_gray_tiff_is_read_in_every_depth_order_and_form(dtype: str, order: str, big: bool, photometric: int) -> None:
    scale = 1 if dtype.startswith("float") else min(np.iinfo(dtype).max, 65535)
    values = (UNIT if photometric else 1 - UNIT.astype(np.float64)) * scale
    stored = (values if scale == 1 else np.round(values)).astype(dtype)
    found = read(tiff(stored, photometric, order=order, big=big))
    assert (found.format, found.notes) == ("TIFF", ())
    assert found.pixels == pytest.approx(UNIT, abs=0.003)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["", "big"])
def test_a_tiff_in_deep_colour_is_read_in_every_order_and_form(dtype: str, order: str, big: bool) -> None:
    scale = 65535 if dtype == "uint16" else 1
    found = read(tiff((np.stack([UNIT] * 3, axis=-1) * scale).astype(dtype), 2, order=order, big=big))
    assert found.pixels == pytest.approx(UNIT, abs=0.003)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_gray_tiff_that_names_planes_is_read_as_any_other(order: str) -> None:
    assert read(tiff(UNIT.astype(np.float64), 1, order=order, tags={284: 2})).pixels == pytest.approx(UNIT, abs=0.001)


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_what_a_deep_gray_tiff_has_beside_its_gray_is_not_taken_for_colours(samples: int, photometric: int) -> None:
    stored = np.stack([DEEP] + [DEEP * 0] * (samples - 1), axis=-1)
    with pytest.raises((UnreadableError, UnsupportedError)):
        read(tiff(stored, photometric, order=">"))


@pytest.mark.parametrize(("turn", "stored"), [(3, UNIT[::-1, ::-1]), (6, np.rot90(UNIT)), (8, np.rot90(UNIT, -1))])
@pytest.mark.parametrize(("dtype", "big"), [("float64", False), ("float32", True), ("float16", True)])
def test_a_deep_tiff_is_turned_upright(turn: int, stored: NDArray[Any], dtype: str, big: bool) -> None:
    data = tiff(np.ascontiguousarray(stored[:, :60], dtype=dtype), 1, order=">", big=big, tags={274: turn})
    assert read(data).shape == ((96, 60) if turn == 3 else (60, 96))
    whole = read(tiff(np.ascontiguousarray(stored, dtype=dtype), 1, order=">", big=big, tags={274: turn}))
    assert whole.pixels == pytest.approx(UNIT, abs=0.003)


@pytest.mark.parametrize(("dtype", "big"), [("float64", False), ("uint16", True)])
def test_a_second_page_of_a_deep_tiff_is_noted(dtype: str, big: bool) -> None:
    values = (UNIT * (1 if dtype == "float64" else 65535)).astype(dtype)
    assert read(tiff(values, 1, order=">", big=big, following=8)).notes == ("first_frame_only",)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_deep_tiff_that_is_cut_or_huge_is_rejected(order: str) -> None:
    for big in (False, True):
        whole = tiff(UNIT.astype(np.float64), 0, order=order, big=big)
        for end in (*range(0, 200, 7), len(whole) // 2, len(whole) - 150):
            with pytest.raises((UnreadableError, UnsupportedError)):
                read(whole[:end])
        with pytest.raises(TooLargeError):
            read(tiff(UNIT.astype(np.float64), 0, order=order, big=big, tags={256: 100_000, 257: 100_000}))


def test_a_compressed_dicom_file_is_read() -> None:
    data = dicoms.image(DEEP)
    assert np.array_equal(read(gzip.compress(data)).pixels, read(data).pixels)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (bytes(344) + b"n+1\0" + bytes(500), "NIfTI"),
        ((540).to_bytes(4, "little") + b"n+2\0\r\n\x1a\n" + bytes(500), "NIfTI"),
        (b"\x93NUMPY\1\0" + bytes(500), "NumPy array"),
        (b"\0\0\0\x18ftyphevc" + bytes(30), "HEIC"),
        (b"ObjectType = Image\nNDims = 3\n", r"MetaImage \(.mha\)"),
        (b"NRRD0004\ntype: short\n", "NRRD"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04" + bytes(30), "zip"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "HEIC"),
    ],
)
def test_what_is_no_single_image_is_refused_with_a_way_to_one(data: bytes, what: str) -> None:
    for given in (data, gzip.compress(data)):
        with pytest.raises(UnsupportedError, match=f"got an? .*{what}.*: (export|unpack|give)"):
            read(given)


def test_a_compressed_file_that_is_cut_or_a_bomb_is_an_error() -> None:
    data = gzip.compress(saved(GRAY, "BMP"))
    with pytest.raises(UnreadableError):
        read(data[:-20])
    with pytest.raises(UnreadableError):
        read(data[:30] + bytes(10) + data[40:])
    with pytest.raises(TooLargeError):
        unpacked(gzip.compress(bytes(1000)), 100)


@pytest.mark.parametrize("kind", ["jxl", "j2k", "bmp"])
def test_an_image_of_too_many_pixels_is_too_large(kind: str) -> None:
    data = {
        "jxl": bytes(imagecodecs.jpegxl_encode(GRAY)),
        "j2k": bytes(imagecodecs.jpeg2k_encode(GRAY, codecformat="j2k", level=0)),
        "bmp": saved(GRAY, "BMP"),
    }[kind]
    with pytest.raises(TooLargeError, match="96 x 96"):
        read(data, max_pixels=1000)
