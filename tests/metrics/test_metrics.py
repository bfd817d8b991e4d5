"""`metrics`: figures as scikit-learn gives them, and intervals that hold what they say."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.stats import binom, norm

from pneumoscope.metrics import metrics
from pneumoscope.metrics.metrics import (
    Estimate,
    average_precision,
    balanced_accuracy,
    bootstrap,
    delong,
    expected_calibration_error,
    f1,
    performance,
    wilson,
)
from tests.conftest import CALM, FIGURES

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 100)


def drawn(n: int = 300, seed: int = 0, share: float = 0.7) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities of a middling detector, with ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(np.int64)
    return y, np.round(1 / (1 + np.exp(-rng.normal(1.5 * (2 * y - 1), 1.5))), 2)


def ordered(estimate: Estimate) -> bool:
    return bool(estimate.low <= estimate.value <= estimate.high)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_every_figure_is_scikit_learns(threshold: float) -> None:
    y, p = drawn()
    called = p >= threshold
    found = performance(y, p, threshold)
    tn, fp, fn, tp = sklearn.metrics.confusion_matrix(y, called).ravel()
    assert (found.n, found.positives, found.threshold) == (len(y), y.sum(), threshold)
    assert found.confusion == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    expected = {
        "auc": sklearn.metrics.roc_auc_score(y, p),
        "average_precision": sklearn.metrics.average_precision_score(y, p),
        "accuracy": sklearn.metrics.accuracy_score(y, called),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(y, called),
        "sensitivity": sklearn.metrics.recall_score(y, called),
        "specificity": sklearn.metrics.recall_score(y, called, pos_label=0),
        "ppv": sklearn.metrics.precision_score(y, called),
        "npv": sklearn.metrics.precision_score(y, called, pos_label=0),
        "f1": sklearn.metrics.f1_score(y, called),
        "brier": sklearn.metrics.brier_score_loss(y, p),
    }
    assert list(found.figures) == FIGURES
    for name, value in expected.items():
        assert found.figures[name].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_average_precision_is_scikit_learns_in_any_draw_with_repeats(digits: int) -> None:
    rng = np.random.default_rng(digits)
    for n in (2, 3, 20, 200):
        y, p = np.append(rng.integers(0, 2, n), [0, 1]), np.round(rng.random(n + 2), digits)
        again = np.append(rng.integers(0, n, n), [n, n + 1])
        expected = sklearn.metrics.average_precision_score(y[again], p[again])
        assert average_precision(y[again], p[again]) == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_is_the_weighted_gap_over_ten_bins() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(500), rng.integers(0, 2, 500)
    bins = [(p >= i / 10) & (p < (i + 1) / 10) for i in range(10)]
    gap = sum(inside.mean() * abs(y[inside].mean() - p[inside].mean()) for inside in bins)
    assert expected_calibration_error(y, p) == pytest.approx(gap, abs=1e-12)
    certain = np.array([0.0, 1.0, 1.0])
    assert expected_calibration_error(np.array([0, 1, 0]), certain) == pytest.approx(1 / 3)


def test_a_probability_at_the_threshold_is_called_pneumonia() -> None:
    assert performance([0, 1], [0.4, 0.5], 0.5).confusion == {"tp": 1, "fp": 0, "tn": 1, "fn": 0}


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("label", [0, 1])
def test_with_images_of_one_class_what_needs_both_is_undefined(label: int) -> None:
    found = performance([label] * 4, [0.1, 0.3, 0.6, 0.9], 0.5)
    undefined = {name for name, estimate in found.figures.items() if np.isnan(estimate.value)}
    needs_both = {"auc", "average_precision", "balanced_accuracy", "ppv", "npv", "f1"}
    assert undefined == needs_both | {"specificity" if label else "sensitivity"}
    for name in undefined:
        estimate = found.figures[name]
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert str(estimate) == "undefined"
    assert found.figures["accuracy"].value == 0.5


@pytest.mark.usefixtures("few_resamples")
def test_where_nothing_is_called_predictive_value_is_undefined() -> None:
    found = performance([0, 1], [0.1, 0.2], 0.5)
    assert {name for name in FIGURES if np.isnan(found.figures[name].value)} == {"ppv"}


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("y", [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_the_dictionary_is_json_with_null_for_the_undefined(y: list[int]) -> None:
    found = performance(np.array(y, dtype=np.int8), np.array([0.1, 0.3, 0.6, 0.9], dtype=np.float32), np.float64(0.5))
    text = json.dumps(found.as_dict(), allow_nan=False)
    read = json.loads(text)
    assert list(read) == ["n", "positives", "threshold", "confusion", *FIGURES]
    for name in FIGURES:
        numbers = [read[name][key] for key in ("value", "low", "high")]
        assert (numbers == [None] * 3) == bool(np.isnan(found.figures[name].value))
    assert (read["auc"]["value"] is None) == (len(set(y)) == 1)


def test_an_estimate_is_written_with_its_interval() -> None:
    assert str(Estimate(0.9534, 0.9411, 0.9622)) == "0.953 (0.941–0.962)"


@pytest.mark.parametrize(
    ("y", "p", "patients", "message"),
    [
        ([], [], None, "N > 0"),
        ([0, 1], [0.5], None, r"got \(2,\) and \(1,\)"),
        ([[0, 1]], [[0.5, 0.5]], None, "of one shape"),
        ([0, 2], [0.5, 0.5], None, "labels 0 and 1"),
        ([0, 0.7], [0.5, 0.5], None, "labels 0 and 1"),
        ([0, np.nan], [0.5, 0.5], None, "labels 0 and 1"),
        (["NORMAL", "PNEUMONIA"], [0.5, 0.5], None, "labels 0 and 1"),
        ([0, 1], [0.5, 1.1], None, r"probabilities in \[0, 1\]"),
        ([0, 1], [-0.1, 0.5], None, r"probabilities in \[0, 1\]"),
        ([0, 1], [0.5, np.nan], None, r"probabilities in \[0, 1\]"),
        ([0, 1], [0.5, 0.5], ["a"], "a patient for each image"),
    ],
)
def test_what_are_no_labels_probabilities_or_patients_is_rejected(
    y: list[float], p: list[float], patients: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        performance(y, p, 0.5, patients)


@given(
    hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 1)),
    st.lists(st.floats(0, 1), min_size=30, max_size=30),
    st.lists(st.integers(0, 9), min_size=30, max_size=30),
    st.floats(0, 1),
)
@settings(CALM, max_examples=100)
def test_every_figure_lies_inside_its_interval_or_is_undefined(
    y: NDArray[np.int64], probabilities: list[float], patients: list[int], threshold: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 20)
        found = performance(y, probabilities[: len(y)], threshold, patients[: len(y)])
    assert sum(found.confusion.values()) == found.n == len(y)
    assert found.confusion["tp"] + found.confusion["fn"] == found.positives
    for name, estimate in found.figures.items():
        assert ordered(estimate) or np.isnan([estimate.value, estimate.low, estimate.high]).all(), name
        assert not estimate.low < 0, name
        assert not estimate.high > 1, name


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    found = wilson(successes, n)
    assert found.value == successes / n
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_wilsons_interval_holds_every_share_and_mirrors_its_complement() -> None:
    for n in range(1, 120):
        for k in range(n + 1):
            found, mirrored = wilson(k, n), wilson(n - k, n)
            assert ordered(found)
            assert found.low >= 0
            assert found.high <= 1
            assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilsons_interval_covers_the_truth_in_19_of_20_samples() -> None:
    for n in (10, 50, 200):
        intervals = [wilson(k, n) for k in range(n + 1)]
        covered = [
            sum(binom.pmf(k, n, p) for k, found in enumerate(intervals) if found.low <= p <= found.high)
            for p in np.linspace(0.02, 0.98, 49)
        ]
        assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
        assert min(covered) > 0.83


def test_of_no_images_no_share_is_known() -> None:
    assert str(wilson(0, 0)) == "undefined"


def by_every_pair(y: NDArray[np.int64], p: NDArray[np.float64]) -> tuple[float, float]:
    """AUC and variance from DeLong's structural components, pair by pair (1988, equations 3 to 7)."""
    positive, negative = p[y == 1], p[y == 0]
    kernel = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in negative] for a in positive])
    of_positives, of_negatives = kernel.mean(axis=1), kernel.mean(axis=0)
    variance = of_positives.var(ddof=1) / len(positive) + of_negatives.var(ddof=1) / len(negative)
    return float(kernel.mean()), float(variance)


@pytest.mark.parametrize("seed", range(5))
def test_delongs_interval_is_the_one_computed_pair_by_pair(seed: int) -> None:
    y, p = drawn(60, seed)
    area, variance = by_every_pair(y, p)
    found = delong(y, p)
    assert found.value == pytest.approx(area, abs=1e-12)
    half = norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    for end, sign in ((found.low, -1), (found.high, 1)):
        assert np.log(end / (1 - end)) == pytest.approx(np.log(area / (1 - area)) + sign * half, abs=1e-9)


def test_delongs_standard_error_is_the_published_one() -> None:
    """The ratings of Hanley & McNeil 1982, Radiology 143:29, table I: 0.8932 (0.83295 to 0.95339) in Stata."""
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    ratings = np.concatenate([np.repeat(range(5), normal), np.repeat(range(5), abnormal)])
    found = delong(np.repeat([0, 1], [58, 51]), ratings)
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    width_in_logits = np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))
    error = width_in_logits * found.value * (1 - found.value) / (2 * norm.ppf(0.975))
    assert error == pytest.approx((0.95339 - 0.83295) / (2 * norm.ppf(0.975)), abs=1e-5)


def test_delongs_interval_covers_the_truth_in_19_of_20_samples() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.8, 2.0):
        truth = norm.cdf(shift / np.sqrt(2))
        covered = []
        for _ in range(600):
            p = np.concatenate([rng.normal(0, 1, 40), rng.normal(shift, 1, 60)])
            found = delong(np.repeat([0, 1], [40, 60]), p)
            covered.append(found.low <= truth <= found.high)
        assert 0.92 < np.mean(covered) < 0.98


SCORES = hnp.arrays(np.float64, st.integers(2, 40), elements=st.integers(-5, 5).map(float))


@given(SCORES, st.data())
@settings(CALM, max_examples=150)
def test_the_area_depends_on_ranks_only_and_mirrors(scores: NDArray[np.float64], data: st.DataObject) -> None:
    y = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, 1)))
    assume(0 < y.sum() < len(y))
    found, turned, mirrored = delong(y, scores), delong(y, np.exp(scores)), delong(1 - y, scores)
    assert ordered(found)
    assert found.low >= 0
    assert found.high <= 1
    assert turned == found
    assert mirrored.value == pytest.approx(1 - found.value)
    assert mirrored.low == pytest.approx(1 - found.high)
    assert found.value == pytest.approx(sklearn.metrics.roc_auc_score(y, scores))


def test_images_without_a_mistake_do_not_prove_that_there_are_none() -> None:
    few, many = (delong([0] * n + [1] * n, range(2 * n)) for n in (8, 800))
    assert few.value == many.value == few.high == 1
    assert few.low == pytest.approx(wilson(8, 8).low)
    assert few.low < 0.7
    assert many.low > 0.99


def test_a_detector_that_gives_one_score_is_neither_good_nor_bad() -> None:
    found = delong([0] * 50 + [1] * 200, [0.3] * 250)
    assert found.value == 0.5
    assert found.low == pytest.approx(1 - found.high)
    assert found.low > 0.3


def mean(y: NDArray[np.int64], p: NDArray[np.float64]) -> float:
    return float(p.mean())


def test_equal_seeds_give_equal_intervals_and_different_ones_different() -> None:
    y, p = drawn(50)
    groups = np.arange(50)
    first, again, other = (bootstrap(mean, y, p, groups, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.value == other.value


def test_the_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(0.5, 0.1, 400)
    found = bootstrap(mean, np.ones(400, dtype=int), p, np.arange(400))
    half = norm.ppf(0.975) * p.std() / 20
    assert found.low == pytest.approx(p.mean() - half, abs=0.001)
    assert found.high == pytest.approx(p.mean() + half, abs=0.001)


@pytest.mark.usefixtures("few_resamples")
def test_the_bootstrap_draws_patients_because_their_images_resemble_each_other() -> None:
    """Of 30 patients with 4 nearly equal images each, an interval over images would claim twice what is known."""
    rng = np.random.default_rng(0)
    covered: dict[str, list[bool]] = {"patients": [], "images": []}
    for _ in range(150):
        p = np.repeat(rng.normal(0.5, 0.1, 30), 4) + rng.normal(0, 0.01, 120)
        y = np.repeat(np.arange(30) % 2, 4)
        for name, groups in (("patients", np.repeat(np.arange(30), 4)), ("images", np.arange(120))):
            found = bootstrap(mean, y, p, groups)
            covered[name].append(found.low <= 0.5 <= found.high)
    assert np.mean(covered["patients"]) > 0.88
    assert np.mean(covered["images"]) < 0.75


def test_every_draw_holds_both_classes() -> None:
    y, p = np.array([0, 1, 1, 1]), np.array([0.1, 0.2, 0.7, 0.9])
    seen: list[int] = []

    def classes(y: NDArray[np.int64], p: NDArray[np.float64]) -> float:
        seen.append(len(set(y.tolist())))
        return average_precision(y, p)

    bootstrap(classes, y, p, np.arange(4))
    assert set(seen) == {2}


def test_a_figure_that_resampling_only_worsens_still_lies_inside_its_interval() -> None:
    p, y = np.repeat([0.25, 0.75], 400), np.tile([0, 0, 0, 1] * 100, 2)
    y[400:] = 1 - y[400:]  # of each probability exactly that share
    found = bootstrap(expected_calibration_error, y, p, np.arange(800))
    assert found.value == found.low == 0
    assert found.high > 0.01


@pytest.mark.parametrize(
    "statistic", [lambda y, p: balanced_accuracy(y, p >= 0.5), lambda y, p: f1(y, p >= 0.5), average_precision]
)
def test_an_undefined_figure_has_no_interval(
    statistic: Callable[[NDArray[np.int64], NDArray[np.float64]], float],
) -> None:
    found = bootstrap(statistic, np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), np.arange(3))
    assert str(found) == "undefined"


def test_one_image_of_a_class_gives_a_wide_interval() -> None:
    estimate = delong([1] + [0] * 200, [0.725, *np.linspace(0, 1, 200)])
    assert estimate.high - estimate.low > 0.5


def test_a_model_that_calls_all_alike_is_surely_no_better_than_chance() -> None:
    balanced = metrics.performance([0] * 50 + [1] * 50, [0.9] * 100, 0.5).figures["balanced_accuracy"]
    assert (balanced.value, balanced.low > 0.45, balanced.high < 0.55) == (0.5, True, True)


def test_a_small_sample_without_a_mistake_proves_little() -> None:
    figures = metrics.performance([0] * 8 + [1] * 8, [0.1] * 8 + [0.9] * 8, 0.5).figures
    for name in ("average_precision", "balanced_accuracy", "f1"):
        assert figures[name].value == 1.0
        assert figures[name].low < 0.7


@pytest.mark.parametrize("n", [8, 300])
@pytest.mark.parametrize("mistakes", [0, 1])
def test_no_interval_is_degenerate_however_good_the_model_is(n: int, mistakes: int) -> None:
    labels = np.repeat([0, 1], n)
    probabilities = np.concatenate([np.linspace(0.0, 0.001, n), np.linspace(0.999, 1.0, n)])
    probabilities[: 2 * mistakes : 2] = 0.9985
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", 200)
        figures = performance(labels, probabilities, 0.5).figures
    for name, estimate in figures.items():
        assert f"{estimate.low:.3f}" < f"{estimate.high:.3f}", (name, estimate)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, (name, estimate)
