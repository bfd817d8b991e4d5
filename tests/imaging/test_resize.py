"""`resize`: an image is squashed to a square, each of its pixels averaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pneumoscope.imaging.radiograph import read, resize
from tests.builders.images import EXACT, IMAGE
from tests.conftest import CALM

pytestmark = pytest.mark.filterwarnings("error")


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
