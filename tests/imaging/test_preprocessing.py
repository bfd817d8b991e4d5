"""The frame: what lies around an image is found and cut off, and evidence is put back where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pneumoscope.imaging import preprocessing, radiograph
from pneumoscope.imaging.preprocessing import Box
from tests.conftest import drawn_image

IMAGE = np.random.default_rng(0).random((40, 60), dtype=np.float32)
WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@given(st.tuples(*[st.integers(0, 20)] * 4), st.floats(0.0, 1.0), st.floats(0.0, 0.01))
@settings(deadline=None)
def test_a_frame_of_any_width_shade_and_little_noise_is_found(
    sides: tuple[int, int, int, int], shade: float, noise: float
) -> None:
    top, bottom, left, right = sides
    framed = np.pad(IMAGE, ((top, bottom), (left, right)), constant_values=np.float32(np.nan))
    around = shade + noise * np.random.default_rng(1).random(framed.shape, dtype=np.float32)
    whole = np.where(np.isnan(framed), around, framed).astype(np.float32)
    inner = preprocessing.cut(whole, preprocessing.inside(whole))
    gone = [int(side > 0) for side in sides]  # the outermost row goes with its frame
    expected = IMAGE[gone[0] : len(IMAGE) - gone[1], gone[2] : IMAGE.shape[1] - gone[3]]
    np.testing.assert_array_equal(inner, expected)


@pytest.mark.parametrize("image", [IMAGE, np.zeros((8, 8), np.float32), np.eye(2, dtype=np.float32)])
def test_an_image_without_a_frame_or_without_an_image_is_left_whole(image: NDArray[np.float32]) -> None:
    assert preprocessing.inside(image) == WHOLE
    np.testing.assert_array_equal(preprocessing.cut(image, WHOLE), image)


def test_a_drawn_image_has_no_frame() -> None:
    assert preprocessing.inside(drawn_image(1, 3, 64) / 255).area > 0.9


@given(
    hnp.arrays(np.float32, (6, 5), elements=st.floats(-4, 4, width=32)),
    st.tuples(st.floats(0.0, 0.4), st.floats(0.0, 0.4), st.floats(0.5, 1.0), st.floats(0.5, 1.0)),
)
@settings(deadline=None)
def test_evidence_is_put_back_whole_and_none_of_it_on_the_frame(
    evidence: NDArray[np.float32], ends: tuple[float, float, float, float]
) -> None:
    box = Box(*ends)
    placed = preprocessing.spread(evidence, box)
    assert placed.shape == (12, 10)
    assert placed.sum() == pytest.approx(evidence.sum(), abs=1e-4)
    rows, columns = np.arange(12) / 12, np.arange(10) / 10
    assert not placed[(rows + 1 / 12 <= box.top) | (rows >= box.bottom)].any()
    assert not placed[:, (columns + 1 / 10 <= box.left) | (columns >= box.right)].any()


def test_evidence_of_a_whole_image_stays_as_it_is() -> None:
    assert preprocessing.spread(IMAGE, WHOLE) is IMAGE


def test_a_narrow_frame_stays_and_a_wide_one_goes() -> None:
    image = np.kron(np.random.default_rng(0).random((8, 8)), np.ones((25, 25))).astype(np.float32)
    narrow, wide = (np.pad(image, ((0, 0), (side, side))) for side in (2, 50))
    np.testing.assert_array_equal(preprocessing.squash(narrow, 64)[0], radiograph.resize(narrow, 64))
    assert preprocessing.squash(narrow, 64)[1] == WHOLE
    squashed, box = preprocessing.squash(wide, 64)
    assert box.area < 0.7
    assert np.abs(squashed - radiograph.resize(image, 64)).mean() < 0.05
