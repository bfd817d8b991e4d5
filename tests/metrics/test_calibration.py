"""`calibration`: probabilities that mean what they say, a balanced threshold, and a band that keeps its guarantee."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pneumoscope.metrics import metrics
from pneumoscope.metrics.calibration import (
    ALPHA,
    MIN_PER_CLASS,
    Calibration,
    conformal_band,
    fit,
    fit_platt,
    refit,
)
from pneumoscope.metrics.thresholds import BALANCED, OperatingPoint
from tests.conftest import CALM

pytestmark = pytest.mark.filterwarnings("error")

Images = tuple[NDArray[np.int64], NDArray[np.float64]]


def drawn(
    normals: int = 400, pneumonias: int = 400, temperature: float = 1.0, distance: float = 3.0, seed: int = 0
) -> Images:
    """Images whose logits mean what they say once they are divided by the temperature.

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


def test_the_probability_does_not_depend_on_how_common_pneumonia_is() -> None:
    y, z = drawn(3000, 3000, temperature=3.0)
    copies = np.where(y == 1, 10, 1)
    once, often = fit(y, z), fit(np.repeat(y, copies), np.repeat(z, copies))
    assert often.probabilities(z) == pytest.approx(once.probabilities(z), abs=0.01)


def test_logits_that_contradict_the_truth_are_taken_for_noise() -> None:
    y, z = drawn()
    assert fit_platt(1 - y, z)[1] == pytest.approx(20, rel=0.01)


def test_logits_that_lean_to_one_side_are_set_right_at_every_site() -> None:
    (y, z), (other_y, other_z) = drawn(2000, 2000, temperature=2.0), drawn(200, 100, temperature=2.0)
    labels, sites = np.concatenate([y, other_y]), np.repeat([0, 1], [len(y), len(other_y)])
    fitted = fit(labels, np.concatenate([z, other_z]) - 3.0, sites=sites)
    assert fitted.offset == pytest.approx(-3.0, abs=0.5)


def test_other_findings_move_the_threshold_and_not_the_probability() -> None:
    y, z = drawn(300, 300, temperature=2.0)
    sick = np.full(100, 1.0)
    labels, logits = np.concatenate([y, np.zeros(100, int)]), np.concatenate([z, sick])
    others = np.repeat([False, True], [len(y), 100])
    without, fitted = fit(y, z), fit(labels, logits, others=others)
    assert fitted.probabilities(z) == pytest.approx(without.probabilities(z), abs=1e-6)
    assert fitted.threshold > without.threshold


@pytest.mark.parametrize("n", [10, 50, 1000])
def test_images_told_apart_without_a_mistake_do_not_make_it_certain(n: int) -> None:
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


@pytest.mark.parametrize(("n", "alpha"), [(60, 0.02), (60, 0.1), (333, 0.02)])
@pytest.mark.parametrize("distance", [0.5, 2.0, 6.0])
def test_on_fresh_images_the_band_keeps_its_guarantee(n: int, alpha: float, distance: float) -> None:
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
    # It promises no less than it could: where the classes overlap, both bounds are quantiles of n images.
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


def test_a_finding_is_uncertain_from_end_to_end_of_the_band() -> None:
    calibration = Calibration(uncertain_low=0.3, uncertain_high=0.7)
    found = [calibration.is_uncertain(p) for p in (0.29, 0.3, 0.5, 0.7, 0.71)]
    assert found == [False, True, True, True, False]


def test_with_too_few_images_for_the_guarantee_the_band_reaches_to_certainty() -> None:
    y, z = drawn(48, 49)  # 1 / 0.02 - 1 are needed
    low, high = conformal_band(y, Calibration().probabilities(z), 0.02)
    assert low > 0
    assert high == 1.0


@pytest.mark.parametrize(("normals", "pneumonias", "short"), [(9, 500, 0), (500, 9, 1), (0, 500, 0)])
def test_too_few_images_of_a_class_are_an_error(normals: int, pneumonias: int, short: int) -> None:
    found = (normals, pneumonias)[short]
    with pytest.raises(ValueError, match=f"Expected at least {MIN_PER_CLASS} images of class {short}, got {found}"):
        fit(*drawn(normals, pneumonias))


def test_the_reasons_say_what_was_fitted_on_how_many_images() -> None:
    calibration = fit(*drawn(120, 80), alpha=0.05, images="images of our clinic")
    assert calibration.threshold_reason == "Sensitivity and specificity are equal on 200 images of our clinic."
    assert "like those 200, on average at most 5% of the normals lie above the band" in calibration.uncertain_reason


def test_images_in_another_order_give_the_same_calibration() -> None:
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


def test_copies_of_an_image_count_as_one_for_the_band() -> None:
    y, p = np.repeat([0, 1], 50), np.linspace(0.0, 1.0, 100)
    assert conformal_band(np.repeat(y, 5), np.repeat(p, 5), 0.1, copies=5) == conformal_band(y, p, 0.1)


POINTS = st.sampled_from(
    [
        BALANCED,
        OperatingPoint(sensitivity=0.95),
        OperatingPoint(specificity=0.95),
        OperatingPoint(sensitivity=1.0),
        OperatingPoint(specificity=1.0),
        OperatingPoint(threshold=0.01),
        OperatingPoint(threshold=0.99),
    ]
)


@pytest.mark.parametrize("offset", [-20.0, 0.0, 5.0])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 8.0])
def test_a_known_offset_and_temperature_are_found(offset: float, temperature: float) -> None:
    y, z = drawn(4000, 4000, temperature, distance=2.0)
    found, steepness = fit_platt(y, z + offset)
    assert steepness == pytest.approx(temperature, rel=0.1)
    assert found == pytest.approx(offset, abs=0.3 * temperature)


def test_of_many_images_no_other_line_has_less_cross_entropy() -> None:
    y, z = drawn(3000, 1000, temperature=3.0, distance=2.0)
    z += 4

    def cross_entropy(offset: float, temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y == 1, -1, 1) * (z - offset) / temperature)))

    offset, temperature = fit_platt(y, z)
    least = cross_entropy(offset, temperature)
    for other in (cross_entropy(offset + d, temperature * f) for d in (-0.5, 0, 0.5) for f in (0.9, 1, 1.1)):
        assert other > least - 1e-4  # Platt's targets, not 0 and 1, are what is fitted


@given(st.integers(0, 2**32 - 1), st.floats(-30, 30), st.floats(0.1, 15), st.integers(20, 400), st.integers(20, 400))
@settings(CALM, max_examples=50)
def test_refitting_sets_shifted_and_steepened_logits_right(
    seed: int, offset: float, temperature: float, normals: int, pneumonias: int
) -> None:
    y, z = drawn(normals, pneumonias, temperature, distance=2.0, seed=seed)
    fitted = refit(y, z + offset)
    p = fitted.probabilities(z + offset)
    assert np.mean(p) == pytest.approx(np.mean(y), abs=0.05)
    truth, fresh = drawn(20 * normals, 20 * pneumonias, temperature, distance=2.0, seed=seed + 1)
    ece = metrics.expected_calibration_error(truth, fitted.probabilities(fresh + offset))
    assert ece < 0.15
    as_it_came = metrics.expected_calibration_error(truth, Calibration().probabilities(fresh + offset))
    assert ece < as_it_came or as_it_came < 0.15


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.floats(0.0, 10.0), POINTS)
@settings(CALM, max_examples=100)
def test_a_refit_keeps_the_order_and_its_band_contains_the_threshold(
    seed: int, normals: int, pneumonias: int, distance: float, point: OperatingPoint
) -> None:
    y, z = drawn(normals, pneumonias, distance=distance, seed=seed)
    fitted = refit(y, z, point=point)
    assert np.all(np.diff(fitted.probabilities(np.sort(z))) >= 0)
    assert 0 <= fitted.uncertain_low <= fitted.threshold <= fitted.uncertain_high <= 1
    assert 0 < fitted.threshold < 1
    assert fitted.is_uncertain(fitted.threshold)


def test_a_refit_of_equal_logits_gives_the_share_of_pneumonias() -> None:
    fitted = refit(np.repeat([0, 1], [30, 10]), np.full(40, 3.0))
    assert fitted.probabilities([3.0]) == pytest.approx([0.25], abs=0.03)


def test_a_refit_of_logits_that_contradict_the_truth_keeps_their_order() -> None:
    y, z = drawn()
    assert refit(1 - y, z).temperature == pytest.approx(20, rel=0.01)


def test_images_told_apart_without_a_mistake_do_not_make_a_refit_certain() -> None:
    y, z = drawn(50, 50, distance=12.0)
    p = refit(y, z + 5).probabilities(z + 5)
    assert 0.3 / 50 < np.mean(1 - p[y == 1]) < 1.5 / 50


@pytest.mark.parametrize(("smaller", "alpha"), [(10, 0.10), (20, 0.05), (48, 0.03), (49, 0.02), (1000, ALPHA)])
def test_the_band_of_a_refit_promises_what_its_images_allow(smaller: int, alpha: float) -> None:
    y, z = drawn(smaller, 1200, distance=1.0)
    fitted = refit(y, z)
    assert f"at most {alpha:.0%} of the normals" in fitted.uncertain_reason
    assert fitted.uncertain_high < 1.0


def test_on_fresh_images_the_band_of_a_refit_keeps_its_guarantee() -> None:
    wrong = []
    for seed in range(100):
        fitted = refit(*drawn(20, 60, temperature=2.0, seed=2 * seed))
        y, z = drawn(300, 300, temperature=2.0, seed=2 * seed + 1)
        p = fitted.probabilities(z)
        wrong.append([np.mean(p[y == 0] > fitted.uncertain_high), np.mean(p[y == 1] < fitted.uncertain_low)])
    assert np.mean(wrong, axis=0).max() < 0.05 + 0.01


def test_a_refit_says_for_which_images_its_probabilities_hold() -> None:
    fitted = refit(*drawn(150, 50), images="images of our clinic")
    assert "200 images of our clinic" in fitted.probability_reason
    assert "25% of the images" in fitted.probability_reason


def test_a_refit_on_one_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="both classes, got 40 of one only"):
        refit(*drawn(40, 0))


@pytest.mark.parametrize("make", [fit, refit])
def test_the_threshold_is_chosen_as_asked_and_the_reason_says_so(make: Callable[..., Calibration]) -> None:
    y, z = drawn(200, 100, distance=1.0)
    fitted = make(y, z, images="images", point=OperatingPoint(sensitivity=0.95))
    called = fitted.probabilities(z) >= fitted.threshold
    assert called[y == 1].mean() == 0.95
    assert fitted.threshold_reason == "The highest threshold with a sensitivity of at least 0.95 on 300 images."
    assert make(y, z, point=OperatingPoint(threshold=0.4)).threshold == 0.4


def test_copies_of_an_image_count_as_one_in_the_reasons() -> None:
    y, z = drawn(100, 100)
    copied = fit(np.tile(y, 5), np.tile(z, 5), copies=5, images="images", point=OperatingPoint(specificity=0.9))
    assert copied.threshold_reason == "The lowest threshold with a specificity of at least 0.9 on 200 images."
    assert copied.threshold == pytest.approx(fit(y, z, point=OperatingPoint(specificity=0.9)).threshold, rel=0.01)


@given(st.floats(-30, 30), st.floats(-5, 5), st.floats(0.5, 20))
@settings(CALM)
def test_logits_are_found_again_from_probabilities(scaled: float, offset: float, temperature: float) -> None:
    calibration = Calibration(temperature=temperature, offset=offset)
    logit = offset + temperature * scaled
    assert calibration.logits(calibration.probabilities([logit])) == pytest.approx([logit], abs=0.02 * temperature)


def test_logits_of_certain_probabilities_are_finite() -> None:
    assert np.isfinite(Calibration().logits([0.0, 1.0])).all()


@CALM
@given(st.floats(0.001, 0.999), st.floats(-20, 20), st.floats(0.1, 5.0), st.floats(0.1, 0.9))
def test_another_prevalence_multiplies_the_odds_and_changes_no_finding(
    prevalence: float, logit: float, temperature: float, threshold: float
) -> None:
    fitted = Calibration(temperature=temperature, threshold=threshold, uncertain_low=0.05, uncertain_high=0.95)
    shifted = fitted.at_prevalence(prevalence)
    before, after = float(fitted.probabilities([logit])[0]), float(shifted.probabilities([logit])[0])
    expected = before * prevalence / (before * prevalence + (1 - before) * (1 - prevalence))
    assert after == pytest.approx(expected, abs=1e-9)
    if abs(before - threshold) > 1e-9:
        assert (after >= shifted.threshold) == (before >= threshold)
    for end in (0.05, 0.95):
        if abs(before - end) > 1e-9:
            assert shifted.is_uncertain(after) == fitted.is_uncertain(before)


def test_shifted_there_and_back_a_calibration_is_what_it_was() -> None:
    fitted = Calibration(temperature=2.0, offset=0.5, threshold=0.3)
    back = fitted.at_prevalence(0.02).at_prevalence(0.5)
    assert (back.offset, back.threshold, back.prevalence) == pytest.approx((0.5, 0.3, 0.5))


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, float("nan")])
def test_a_prevalence_that_is_none_is_an_error(prevalence: float) -> None:
    with pytest.raises(ValueError, match="Expected a prevalence between 0 and 1"):
        Calibration().at_prevalence(prevalence)


def test_a_site_where_pneumonias_are_rare_writes_down_how_rare() -> None:
    labels = np.repeat([0, 0, 0, 1], 40)
    assert refit(labels, 4.0 * labels + np.random.default_rng(0).normal(size=160)).prevalence == 0.25
