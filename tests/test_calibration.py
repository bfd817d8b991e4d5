"""`calibration`: probabilities that mean what they say, a balanced threshold, and a band that keeps its guarantee."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pneumoscope.calibration import (
    MIN_PER_CLASS,
    Calibration,
    conformal_band,
    equal_error_threshold,
    fit,
    fit_temperature,
)

pytestmark = pytest.mark.filterwarnings("error")

CALM = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The same examples every time, on a busy machine too."""

Films = tuple[NDArray[np.int64], NDArray[np.float64]]


def drawn(
    normals: int = 400, pneumonias: int = 400, temperature: float = 1.0, distance: float = 3.0, seed: int = 0
) -> Films:
    """Films whose logits mean what they say once they are divided by the temperature.

    Of two normal distributions `distance` apart with unit deviation, the logit is `distance` times the place.
    """
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], [normals, pneumonias])
    place = rng.normal(0, 1, len(y)) + distance * (y - 0.5)
    return y, distance * place * temperature


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2), st.floats(0.05, 20))
@settings(CALM, max_examples=300)
def test_probabilities_lie_between_0_and_1_and_rise_with_the_logit(logits: list[float], temperature: float) -> None:
    p = Calibration(temperature=temperature).probabilities(np.sort(np.array(logits, dtype=np.float32)))
    assert p.dtype == np.float64
    assert np.all((p >= 0) & (p <= 1))
    assert np.all(np.diff(p) >= 0)


def test_extreme_logits_are_certain() -> None:
    huge = float(np.finfo(np.float32).max)
    assert Calibration().probabilities([-np.inf, -huge, -1000, 0, 1000, huge, np.inf]).tolist() == [
        0,
        0,
        0,
        0.5,
        1,
        1,
        1,
    ]


def test_the_probability_is_the_sigmoid_of_the_logit_over_the_temperature() -> None:
    logits = np.linspace(-30, 30, 61)
    assert Calibration(temperature=3.0).probabilities(logits) == pytest.approx(1 / (1 + np.exp(-logits / 3)), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0, 10.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    y, z = drawn(4000, 4000, temperature)
    assert fit_temperature(y, z) == pytest.approx(temperature, rel=0.1)


def test_the_temperature_does_not_depend_on_how_common_pneumonia_is() -> None:
    y, z = drawn(3000, 3000, temperature=3.0)
    z += 10  # the network leans to pneumonia
    copies = np.where(y == 1, 10, 1)
    assert fit_temperature(np.repeat(y, copies), np.repeat(z, copies)) == pytest.approx(fit_temperature(y, z), rel=0.01)


def test_of_many_films_the_fitted_temperature_has_the_least_cross_entropy() -> None:
    y, z = drawn(5000, 5000, temperature=2.5)

    def cross_entropy(temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y == 1, -z, z) / temperature)))

    best = min(np.geomspace(1, 5, 200), key=cross_entropy)
    assert fit_temperature(y, z) == pytest.approx(best, rel=0.03)


def test_logits_that_contradict_the_truth_are_taken_for_noise() -> None:
    y, z = drawn()
    assert fit_temperature(1 - y, z) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("n", [10, 50, 1000])
def test_films_told_apart_without_a_mistake_do_not_make_it_certain(n: int) -> None:
    y, z = drawn(n, n, distance=12.0)
    assert (z[y == 1].min() > 0) & (z[y == 0].max() < 0)
    calibration = fit(y, z)
    assert calibration.temperature > 0.5
    p = calibration.probabilities(z)
    assert 0.3 / n < np.mean(1 - p[y == 1]) < 1.5 / n
    if n >= 50:  # enough for a band of 2 %
        assert np.mean([calibration.is_uncertain(float(x)) for x in p]) < 0.05


@pytest.mark.parametrize("shift", [-2.0, 0.0, 5.0])
def test_sensitivity_and_specificity_are_equal_at_the_threshold(shift: float) -> None:
    y, z = drawn(500, 1500, distance=2.0)
    calibration = fit(y, z + shift)
    called = calibration.probabilities(z + shift) >= calibration.threshold
    assert called[y == 1].mean() == pytest.approx((~called[y == 0]).mean(), abs=0.003)
    assert called[y == 1].mean() > 0.8


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
        lambda films: [(0, 0.3), (1, 0.6), *films]
    )
)
@settings(CALM, max_examples=200)
def test_no_other_threshold_balances_better(films: list[tuple[int, float]]) -> None:
    y, p = (np.array(column) for column in zip(*films, strict=True))

    def gap(threshold: float) -> float:
        return abs(float((p[y == 1] >= threshold).mean()) - float((p[y == 0] < threshold).mean()))

    threshold = equal_error_threshold(y, p)
    assert 0 < threshold < 1
    between = np.unique(np.clip(p, 1e-6, 1 - 1e-6))
    others = [1e-7, *(between[1:] + between[:-1]) / 2, 1 - 1e-7]
    assert gap(threshold) <= min(gap(other) for other in others) + 1e-9


@pytest.mark.parametrize(("n", "alpha"), [(60, 0.02), (60, 0.1), (333, 0.02)])
@pytest.mark.parametrize("distance", [0.5, 2.0, 6.0])
def test_on_fresh_films_the_band_keeps_its_guarantee(n: int, alpha: float, distance: float) -> None:
    """The share of each class beyond the band on the wrong side, over many fits, is at most alpha."""
    above, below = [], []
    for seed in range(300):
        y, z = drawn(n, n, distance=distance, seed=2 * seed)
        low, high = conformal_band(y, Calibration().probabilities(z), alpha)
        fresh, logits = drawn(300, 300, distance=distance, seed=2 * seed + 1)
        p = Calibration().probabilities(logits)
        above.append(np.mean(p[fresh == 0] > high))
        below.append(np.mean(p[fresh == 1] < low))
    for share in (above, below):
        assert np.mean(share) < alpha + 3 * np.std(share) / np.sqrt(len(share))
    # It promises no less than it could: where the classes overlap, both bounds are quantiles of n films.
    if distance < 1:
        assert np.mean(above) > alpha - 1.5 / n
        assert np.mean(below) > alpha - 1.5 / n


def test_the_band_of_a_fit_keeps_its_guarantee_too() -> None:
    wrong = []
    for seed in range(60):
        calibration = fit(*drawn(200, 100, temperature=2.0, seed=2 * seed), alpha=0.05)
        y, z = drawn(300, 300, temperature=2.0, seed=2 * seed + 1)
        p = calibration.probabilities(z)
        wrong.append([np.mean(p[y == 0] > calibration.uncertain_high), np.mean(p[y == 1] < calibration.uncertain_low)])
    assert np.mean(wrong, axis=0).max() < 0.05 + 0.01


@given(
    st.integers(0, 2**32 - 1),
    st.integers(MIN_PER_CLASS, 80),
    st.integers(MIN_PER_CLASS, 80),
    st.floats(0.0, 10.0),
    st.floats(0.001, 0.499),
)
@settings(CALM, max_examples=100)
def test_the_band_contains_the_threshold(
    seed: int, normals: int, pneumonias: int, distance: float, alpha: float
) -> None:
    calibration = fit(*drawn(normals, pneumonias, distance=distance, seed=seed), alpha=alpha)
    assert 0 <= calibration.uncertain_low <= calibration.threshold <= calibration.uncertain_high <= 1
    assert 0 < calibration.threshold < 1
    assert 0.05 <= calibration.temperature <= 20
    assert calibration.is_uncertain(calibration.threshold)


def test_a_verdict_is_uncertain_from_end_to_end_of_the_band() -> None:
    calibration = Calibration(uncertain_low=0.3, uncertain_high=0.7)
    found = [calibration.is_uncertain(p) for p in (0.29, 0.3, 0.5, 0.7, 0.71)]
    assert found == [False, True, True, True, False]


def test_with_too_few_films_for_the_guarantee_the_band_reaches_to_certainty() -> None:
    y, z = drawn(48, 49)  # 1 / 0.02 - 1 are needed
    low, high = conformal_band(y, Calibration().probabilities(z), 0.02)
    assert low > 0
    assert high == 1.0


@pytest.mark.parametrize(("normals", "pneumonias", "short"), [(9, 500, 0), (500, 9, 1), (0, 500, 0)])
def test_too_few_films_of_a_class_are_an_error(normals: int, pneumonias: int, short: int) -> None:
    found = (normals, pneumonias)[short]
    with pytest.raises(ValueError, match=f"Expected at least {MIN_PER_CLASS} films of class {short}, got {found}"):
        fit(*drawn(normals, pneumonias))


def test_the_reasons_say_what_was_fitted_on_how_many_films() -> None:
    calibration = fit(*drawn(120, 80), alpha=0.05, films="films of our clinic")
    assert calibration.threshold_reason == "Sensitivity and specificity are equal on 200 films of our clinic."
    assert "like those 200, on average at most 5% of the normals lie above the band" in calibration.uncertain_reason


def test_films_in_another_order_give_the_same_calibration() -> None:
    y, z = drawn()
    order = np.random.default_rng(1).permutation(len(y))
    one, other = fit(y, z), fit(y[order], z[order])
    assert one.temperature == pytest.approx(other.temperature, rel=1e-6)
    assert one.threshold == pytest.approx(other.threshold, rel=1e-4)


def test_without_a_fit_it_is_even_odds_and_says_so() -> None:
    calibration = Calibration()
    assert (calibration.temperature, calibration.threshold) == (1.0, 0.5)
    assert "not fitted" in calibration.threshold_reason
    assert calibration.is_uncertain(0.5)
    assert not calibration.is_uncertain(0.51)


def test_copies_of_a_film_count_as_one_for_the_band() -> None:
    y, p = np.repeat([0, 1], 50), np.linspace(0.0, 1.0, 100)
    assert conformal_band(np.repeat(y, 5), np.repeat(p, 5), 0.1, copies=5) == conformal_band(y, p, 0.1)
