"""Sites: each counts alike, and a limit holds at each of them, not on the average."""

from __future__ import annotations

import numpy as np
import pytest

from pneumoscope.ood import hog, orientation, sites
from pneumoscope.ood.embedding import fit
from pneumoscope.ood.orientation import OrientationModel

LARGE, SMALL = np.repeat("children", 900), np.repeat("adults", 100)
BOTH = np.concatenate([LARGE, SMALL])


@pytest.mark.parametrize(("most", "children", "adults"), [(60, 30, 30), (400, 300, 100), (2000, 900, 100), (1, 1, 0)])
def test_of_each_site_as_many_images_are_chosen_while_it_has_some(most: int, children: int, adults: int) -> None:
    positions = sites.chosen(BOTH, most, np.random.default_rng(0))
    assert len(np.unique(positions)) == len(positions)
    assert (np.diff(positions) > 0).all()
    assert (BOTH[positions] == "children").sum() == children
    assert (BOTH[positions] == "adults").sum() == adults


def test_no_image_is_chosen_of_none() -> None:
    assert len(sites.chosen(BOTH[:0], 10, np.random.default_rng(0))) == 0


def test_every_site_weighs_the_same_and_an_image_one_on_average() -> None:
    weights = sites.weights(BOTH)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[BOTH == "adults"].sum() == pytest.approx(weights[BOTH == "children"].sum())


def test_a_limit_holds_at_the_site_whose_images_are_farthest() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.0, 1.0, 900), rng.normal(5.0, 1.0, 100)])
    together, at_each = sites.limit(values, None, 0.05), sites.limit(values, BOTH, 0.05)
    beyond = values[BOTH == "adults"] > together
    assert beyond.mean() > 0.3
    assert (values[BOTH == "adults"] > at_each).mean() <= 0.05
    assert (values[BOTH == "children"] > at_each).mean() <= 0.05


def test_a_site_of_a_few_images_sets_no_limit() -> None:
    where = np.concatenate([np.repeat("one", 200), np.repeat("few", sites.FEW - 1)])
    values = np.concatenate([np.arange(200.0), np.full(sites.FEW - 1, 1e6)])
    assert sites.limit(values[:200], where[:200], 0.2) < 200
    assert sites.limit(values, where, 0.2) < 200


def test_the_limit_of_the_embedding_holds_at_each_site() -> None:
    def embeddings(n: int, axis: int, seed: int) -> np.ndarray:
        spread = np.full(60, 0.5)
        spread[axis] = 4.0
        return np.asarray(np.random.default_rng(seed).normal(size=(n, 60)) * spread)

    training = np.concatenate([embeddings(900, 0, 0), embeddings(100, 1, 1)])
    held_out = np.concatenate([embeddings(900, 0, 2), 1.5 * embeddings(100, 1, 3)])
    gate = fit(training, held_out, training_sites=BOTH, held_out_sites=BOTH)
    assert (gate.distances(1.5 * embeddings(1000, 1, 4)) > gate.limit).mean() < 0.04
    assert gate.limit > fit(training, held_out).limit


def test_no_more_than_the_stated_share_of_a_site_is_rejected() -> None:
    rng = np.random.default_rng(0)
    weights = OrientationModel(
        rng.normal(size=(hog.LENGTH + 1, 4)).astype(np.float32),
        rng.normal(size=(5, len(orientation.WAYS) + 1)).astype(np.float32),
    )
    held_out = rng.normal(size=(1000, hog.LENGTH)).astype(np.float32) * np.where(BOTH == "adults", 4, 1)[:, None]
    changed = np.repeat(held_out, 2, axis=0)
    fitted = orientation._limited(weights, held_out.astype(np.float32), changed.astype(np.float32), BOTH)
    rejected = orientation.negative_odds(fitted.logits(held_out)) > fitted.rejection
    for site in ("children", "adults"):
        assert rejected[site == BOTH].mean() <= orientation.REJECTED_CHANGED
