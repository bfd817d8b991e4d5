"""TIFF files: every depth and order of bytes, packed or not, white or black where they are zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import UnsupportedError
from pneumoscope.imaging.radiograph import read
from tests.builders.images import EXACT, IMAGE, brightness, noise, saved, tiff

pytestmark = pytest.mark.filterwarnings("error")


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
