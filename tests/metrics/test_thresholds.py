"""`operating_point`: a threshold for the reason that it states."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pneumoscope.metrics.thresholds import (
    OperatingPoint,
    equal_error_threshold,
    sensitive_threshold,
    sigmoid,
    specific_threshold,
)
from tests.conftest import CALM

pytestmark = pytest.mark.filterwarnings("error")

Images = tuple[NDArray[np.int64], NDArray[np.float64]]
IMAGES = st.lists(st.tuples(st.integers(0, 1), st.floats(-25, 25)), min_size=1, max_size=30).map(
    lambda images: tuple(np.array(column) for column in zip((0, -1.0), (1, 1.0), *images, strict=True))
)
"""Labels and logits of images of both classes."""


def test_of_classes_apart_the_threshold_is_in_the_middle_of_the_gap() -> None:
    p = np.array([0.1, 0.2, 0.8, 0.9])
    assert equal_error_threshold(np.array([0, 0, 1, 1]), p) == pytest.approx(0.5)
    assert equal_error_threshold(np.array([0, 0, 0, 1]), p) == pytest.approx(6 / 7, abs=1e-3)
    assert 0.9998 < equal_error_threshold(np.array([0, 0, 1, 1]), np.array([0.9996, 0.9998, 0.9999, 0.99995])) < 0.9999


def test_of_equally_balanced_thresholds_the_one_that_errs_least_is_taken() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert 0.3 < equal_error_threshold(np.array([0, 0, 0, 1, 0, 1]), p) < 0.4


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30).map(
        lambda images: [(0, 0.3), (1, 0.6), *images]
    )
)
@settings(CALM, max_examples=200)
def test_no_other_threshold_balances_better(images: list[tuple[int, float]]) -> None:
    y, p = (np.array(column) for column in zip(*images, strict=True))

    def gap(threshold: float) -> float:
        return abs(float((p[y == 1] >= threshold).mean()) - float((p[y == 0] < threshold).mean()))

    threshold = equal_error_threshold(y, p)
    assert 0 < threshold < 1
    between = np.unique(np.clip(p, 1e-6, 1 - 1e-6))
    others = [1e-7, *(between[1:] + between[:-1]) / 2, 1 - 1e-7]
    assert gap(threshold) <= min(gap(other) for other in others) + 1e-9


@given(IMAGES, st.floats(0.01, 1.0))
@settings(CALM, max_examples=200)
def test_the_sensitivity_asked_for_is_reached_and_no_more_normals_are_called_than_it_takes(
    images: Images, least: float
) -> None:
    y, p = images[0], sigmoid(images[1])
    threshold = sensitive_threshold(y, p, least)
    assert 0 < threshold < 1
    assert (p[y == 1] >= threshold).mean() >= least - 1e-9
    assert (p[y == 1] > p[p >= threshold].min()).mean() < least


@given(IMAGES, st.floats(0.01, 1.0))
@settings(CALM, max_examples=200)
def test_the_specificity_asked_for_is_reached_and_no_more_pneumonias_are_missed_than_it_takes(
    images: Images, least: float
) -> None:
    y, p = images[0], sigmoid(images[1])
    threshold = specific_threshold(y, p, least)
    assert 0 < threshold < 1
    assert (p[y == 0] < threshold).mean() >= least - 1e-9
    assert (p[y == 0] < p[p < threshold].max()).mean() < least


def test_between_two_images_the_middle_is_taken() -> None:
    y, p = np.array([0, 0, 1, 1]), sigmoid([-3.0, -1.0, 1.0, 3.0])
    assert sensitive_threshold(y, p, 1.0) == pytest.approx(0.5)
    assert specific_threshold(y, p, 1.0) == pytest.approx(0.5)


def test_without_a_wish_sensitivity_and_specificity_are_equal() -> None:
    y, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert OperatingPoint().choose(y, p) == equal_error_threshold(y, p)


def test_a_threshold_that_is_given_is_taken_whatever_the_images() -> None:
    assert OperatingPoint(threshold=0.4).choose([0, 1], [0.7, 0.9]) == 0.4


@pytest.mark.parametrize("name", ["sensitivity", "specificity", "threshold"])
@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, 95.0, float("nan"), float("inf")])
def test_a_wish_out_of_range_is_an_error(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Expected a {name} between 0 and 1, got"):
        OperatingPoint(**{name: value})


def test_a_threshold_of_1_would_call_nobody_sick_and_is_an_error() -> None:
    with pytest.raises(ValueError, match="got 1"):
        OperatingPoint(threshold=1.0)


def test_wishes_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="got sensitivity and threshold: give one"):
        OperatingPoint(sensitivity=0.9, threshold=0.5)


def test_each_way_states_its_reason() -> None:
    reasons = [
        point.reason("200 images of our clinic")
        for point in (
            OperatingPoint(),
            OperatingPoint(sensitivity=0.95),
            OperatingPoint(specificity=0.9),
            OperatingPoint(threshold=0.4),
        )
    ]
    assert len(set(reasons)) == 4
    assert all("200 images of our clinic." in reason for reason in reasons)
    assert "at least 0.95" in reasons[1]
    assert "Given by the user" in reasons[3]
