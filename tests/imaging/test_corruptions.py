"""Stress: what a scanner, an exporter or a technician does to an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pneumoscope.imaging import corruptions
from tests.conftest import drawn_image


def image(size: int = 96) -> NDArray[np.float32]:
    return drawn_image(1, 5, size).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_every_shift_keeps_size_and_range_and_says_the_same_twice(name: str) -> None:
    before = image()
    kept = before.copy()
    shifted = corruptions.apply(name, before)
    assert shifted.shape == before.shape
    assert shifted.dtype == np.float32
    assert shifted.min() >= 0.0
    assert shifted.max() <= 1.0
    assert np.array_equal(shifted, corruptions.apply(name, before))
    assert np.array_equal(before, kept)


@pytest.mark.parametrize("name", [name for name in corruptions.CORRUPTIONS if name != "none"])
def test_every_shift_changes_the_image(name: str) -> None:
    assert np.abs(corruptions.apply(name, image()) - image()).mean() > 1e-3


def test_none_leaves_the_image_alone() -> None:
    assert np.array_equal(corruptions.apply("none", image()), image())


def test_inverting_twice_gives_the_image_back() -> None:
    assert np.allclose(corruptions.apply("inverted", corruptions.apply("inverted", image())), image(), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(corruptions.CORRUPTIONS)),
    st.integers(24, 80),
    st.integers(24, 80),
    st.integers(0, 2**32 - 1),
)
def test_images_of_any_shape_can_be_shifted(name: str, height: int, width: int, seed: int) -> None:
    any_image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    assert corruptions.apply(name, any_image).shape == (height, width)
