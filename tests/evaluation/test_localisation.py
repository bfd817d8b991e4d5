"""Where the thorax is, and what is measured by it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumoscope.evaluation import localisation


def test_the_corners_and_the_edge_are_outside_and_the_middle_is_inside() -> None:
    mask = localisation.inside(200, 300)
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert not edge.any()
    assert mask[60:140, 60:240].all()
    assert 0.70 < mask.mean() < 0.75


def test_evidence_in_a_corner_is_outside_and_in_the_middle_is_not() -> None:
    corner, middle = np.zeros((2, 1, 6, 6))
    corner[0, 0, 5] = middle[0, 2, 3] = 0.4
    assert localisation.outside_share(corner)[0] > 0.7
    assert localisation.outside_share(middle)[0] == 0.0


def test_evidence_against_pneumonia_does_not_count() -> None:
    evidence = np.full((1, 6, 6), -1.0)
    assert localisation.outside_share(evidence)[0] == 0.0
    evidence[0, 2, 2] = 0.1
    assert localisation.outside_share(evidence)[0] == 0.0


EVIDENCE = st.integers(-4000, 4000).map(lambda n: n / 1000)  # halves of the smallest floats would round to 0


@given(arrays(np.float32, (2, 6, 5), elements=EVIDENCE), st.floats(0.25, 8.0))
def test_the_share_lies_between_0_and_1_whatever_the_size_of_the_evidence(evidence: np.ndarray, factor: float) -> None:
    share = localisation.outside_share(evidence)
    assert ((share >= 0) & (share <= 1)).all()
    np.testing.assert_allclose(localisation.outside_share(evidence * factor), share, rtol=1e-4, atol=1e-6)


def test_hiding_leaves_one_part_as_it_is_and_the_other_even() -> None:
    image = np.random.default_rng(0).random((64, 48)).astype(np.float32)
    mask = localisation.inside(64, 48)
    around, alone = localisation.hide(image, thorax=True), localisation.hide(image, thorax=False)
    np.testing.assert_array_equal(around[~mask], image[~mask])
    np.testing.assert_array_equal(alone[mask], image[mask])
    assert np.ptp(around[mask]) == np.ptp(alone[~mask]) == 0.0


def test_what_is_hidden_leaves_no_trace() -> None:
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    other = np.where(localisation.inside(64, 64), image / 2, image).astype(np.float32)
    np.testing.assert_array_equal(localisation.hide(image, thorax=True), localisation.hide(other, thorax=True))
