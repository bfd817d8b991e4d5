"""PNG files: every depth, interlaced or not, in gray, in colour, with a palette or transparency."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from pneumoscope.imaging.radiograph import read
from tests.builders.images import COLOUR, EXACT, brightness, noise, png, saved

pytestmark = pytest.mark.filterwarnings("error")


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
