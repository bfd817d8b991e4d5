"""`brightness`: black and white hang on no single pixel, and an image looks the same at every depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.imaging.brightness import span, unit
from pneumoscope.imaging.radiograph import read
from tests.conftest import drawn_image

BYTES = drawn_image(1, seed=3, size=128)
BYTES[:2, :8] = 255  # a marker of pure white, as most radiographs have one
UNIT = BYTES / np.float32(255)


def stored(most: float, dtype: str) -> NDArray[Any]:
    """The image with its white at another value."""
    values = BYTES * (most / 255)
    return values.astype(dtype) if dtype.startswith("float") else np.round(values).astype(dtype)


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        *(
            (most, "uint16")
            for most in (300, 1000, 1023, 2100, 3000, 4095, 5000, 10_000, 16_383, 20_000, 40_000, 65_535)
        ),
        *((most, "int16") for most in (255, 4095, 10_000, 32_767)),
        *((most, "int32") for most in (4095, 70_000)),
        *((most, "uint32") for most in (10_000, 2**32 - 1)),
        *((most, "float32") for most in (1, 255, 100, 4095, 10_000)),
        *((most, "float64") for most in (1, 255, 65_535)),
        *((most, "float16") for most in (1, 255)),
    ],
)
def test_an_image_looks_the_same_whatever_its_white_is(most: float, dtype: str) -> None:
    assert unit(stored(most, dtype)).samples == pytest.approx(UNIT, abs=0.03 if most == 1000 else 0.005)


@pytest.mark.parametrize("hot", [2, 65_535])
@pytest.mark.parametrize("most", [1023, 4095, 10_000])
def test_a_hot_pixel_changes_nothing_else(most: int, hot: int) -> None:
    values = stored(most, "uint16")
    values[64, 64] = min(int(values.max()) + hot, 65_535)
    expected = UNIT.copy()
    expected[64, 64] = 1.0
    assert unit(values).samples == pytest.approx(expected, abs=0.005)


def test_text_that_is_brighter_than_12_bits_changes_nothing_else() -> None:
    values = stored(4095, "uint16")
    values[100:104, 10:30] = 65_535
    assert unit(values).samples[:100] == pytest.approx(UNIT[:100], abs=0.005)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_what_resizing_adds_above_white_is_cut_off(dtype: str) -> None:
    wide = np.asarray(Image.fromarray(UNIT).resize((300, 300), Image.Resampling.LANCZOS))
    assert wide.max() > 1.01
    values = (wide * (1 if dtype.startswith("float") else 4095)).clip(0).astype(dtype)
    assert unit(values).samples == pytest.approx(np.clip(wide, 0, 1), abs=0.001)


def test_values_below_zero_are_taken_from_their_own_bottom() -> None:
    assert unit(stored(2048, "int16") - np.int16(1024)).samples == pytest.approx(UNIT, abs=0.05)
    assert unit(UNIT * 2 - 1).samples == pytest.approx(UNIT, abs=0.05)


@pytest.mark.parametrize("values", [BYTES // 2, BYTES // 3, UNIT / 2, UNIT / np.float32(4)], ids=str)
def test_bytes_and_floats_far_below_white_are_brightened_and_called_dark(values: NDArray[Any]) -> None:
    scaled = unit(values)
    assert scaled.dark
    assert scaled.samples == pytest.approx(UNIT, abs=0.02)


@pytest.mark.parametrize("values", [BYTES, UNIT, (BYTES * 0.6).astype(np.uint8), stored(4095, "uint16")], ids=str)
def test_what_comes_near_white_is_not_called_dark(values: NDArray[Any]) -> None:
    assert not unit(values).dark


def test_an_even_image_has_a_range() -> None:
    for level in (0, 7, 700):
        found = span(np.array([level]))
        assert found.high > found.low


def test_a_dark_file_brings_the_note(tmp_path: Path) -> None:
    Image.fromarray(BYTES // 2).save(tmp_path / "dark.png")
    assert read(tmp_path / "dark.png").notes == ("dark",)
    assert read(BYTES // 2).notes == ("dark",)
    assert read(BYTES).notes == ()
