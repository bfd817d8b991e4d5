"""Arrays and Pillow's images in place of files: scaled by their depth, and never written to."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from pneumoscope.errors import PneumoscopeError, TooLargeError, UnreadableError, UnsupportedError
from pneumoscope.imaging import radiograph
from pneumoscope.imaging.radiograph import read
from tests.builders.images import EXACT, brightness, noise, outcome
from tests.conftest import CALM

pytestmark = pytest.mark.filterwarnings("error")


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


def test_an_enormous_array_is_too_large() -> None:
    with pytest.raises(TooLargeError, match="pixels, got 60000 x 60000"):
        read(np.broadcast_to(np.uint8(0), (60_000, 60_000)))


@pytest.mark.parametrize("source", [None, 3, io.BytesIO(b"image")], ids=lambda it: type(it).__name__)
def test_what_is_no_source_is_unsupported(source: object) -> None:
    with pytest.raises(UnsupportedError, match="Expected a path, the bytes of a file, an array or a Pillow image, got"):
        read(source)  # type: ignore[arg-type]


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
